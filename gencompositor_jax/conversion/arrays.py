"""Writing a checkpoint's arrays piece by piece: an array may be larger than what memory should hold.

Orbax restores arrays in the Zarr format (version 2): a folder per array with its facts in `.zarray`, and
one file per chunk. Uncompressed, a chunk file is the chunk's bytes, so a layer of a stacked array is one
file (or, for a mesh, one file per share) that can be written at any time and hashed on the way. Orbax
itself writes the tree's metadata: it is given leaves that hold nothing.
"""

import contextlib
import hashlib
import itertools
import json
import logging
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from gencompositor_jax import checkpoint
from gencompositor_jax.manifest import ArrayFacts, FileFacts


class _Leaf:
    """A leaf that Orbax writes into the tree's metadata and nowhere else."""


class _LeafHandler(ocp.type_handlers.NumpyHandler):
    """Writes nothing; what is restored is an array."""

    async def serialize(
        self, values: Sequence[Any], infos: Sequence[Any], args: Sequence[Any] | None = None
    ) -> Sequence[Any]:
        """Nothing to wait for."""
        return []


class ArrayFolder:
    """The arrays of a checkpoint while they are written; `put` may be called from several threads."""

    def __init__(
        self, folder: Path, leaves: Mapping[str, ArrayFacts], empty: Sequence[str] = (), parts: int = 1
    ):
        """Writes all but the arrays' contents into `folder`, which must not exist.

        leaves: every array by its path. empty: paths of nodes without arrays. parts: in how many shares each
        layer is cut, see `checkpoint.cut_axis`.
        """
        self.folder, self.leaves = folder, dict(leaves)
        self.hashes: dict[str, FileFacts] = {}  # of the chunk files, by their path below `folder`
        self._lock = threading.Lock()
        tree: dict[str, Any] = {}
        for name in [*leaves, *empty]:
            *above, last = name.split("/")
            node = tree
            for part in above:
                node = node.setdefault(part, {})
            node[last] = _Leaf() if name in leaves else {}
        registry = ocp.type_handlers.create_type_handler_registry((_Leaf, _LeafHandler()))
        with _only_errors(logging.getLogger("absl")):
            handler = ocp.PyTreeCheckpointHandler(
                use_ocdbt=False, use_zarr3=False, type_handler_registry=registry
            )
            with ocp.Checkpointer(handler) as checkpointer:
                checkpointer.save(folder.resolve(), tree)
        self._chunks = {name: _chunk_shape(name, facts.shape, parts) for name, facts in leaves.items()}
        for name, facts in leaves.items():
            (folder / _folder_name(name)).mkdir()
            text = json.dumps(_zarray(facts, self._chunks[name]))
            (folder / _folder_name(name) / ".zarray").write_text(text, encoding="utf-8")

    def put(self, name: str, layer: int | None, array: np.ndarray) -> None:
        """Writes a whole array, or one layer of a stacked one, converted to the array's type."""
        facts, chunk = self.leaves[name], self._chunks[name]
        first = 0 if layer is None else layer
        if layer is not None:
            array = array[None]
        if array.shape[1:] != facts.shape[1:]:
            raise AssertionError(f"{name}: {array.shape} is no part of {facts.shape}")
        data = contiguous(array).astype(jnp.dtype(facts.dtype), copy=False)
        counts = [-(-n // c) for n, c in zip(data.shape, chunk, strict=True)]
        for index in itertools.product(*map(range, counts)):
            part = data[tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, chunk, strict=True))]
            where = (index[0] + first, *index[1:]) if index else ()
            self._write(
                f"{_folder_name(name)}/{'.'.join(map(str, where)) or '0'}", np.ascontiguousarray(part)
            )

    def missing(self) -> list[str]:
        """Chunk files that were not written."""
        wanted = {
            f"{_folder_name(name)}/{'.'.join(map(str, index)) or '0'}"
            for name, facts in self.leaves.items()
            for index in itertools.product(
                *(range(-(-n // c)) for n, c in zip(facts.shape, self._chunks[name], strict=True))
            )
        }
        return sorted(wanted - self.hashes.keys())

    def _write(self, name: str, part: np.ndarray) -> None:
        data = part.reshape(-1).view(np.uint8).data
        facts = FileFacts(len(data), hashlib.sha256(data).hexdigest())
        with (self.folder / name).open("wb", buffering=0) as file:
            while len(data):
                data = data[file.write(data) :]
        with self._lock:
            self.hashes[name] = facts


@contextlib.contextmanager
def _only_errors(logger: logging.Logger) -> Iterator[None]:
    """Orbax warns that a tree without contents has no contents."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def contiguous(array: np.ndarray) -> np.ndarray:
    """The array in C order.

    NumPy transposes one element at a time, jumping through memory; block by block is four times as fast.
    """
    if array.flags.c_contiguous:
        return array
    fast = min(range(array.ndim), key=lambda i: abs(array.strides[i]) if array.shape[i] > 1 else math.inf)
    if fast == 0 and array.ndim > 2:
        try:  # a plain transpose whose columns were split into several axes
            flat = array.reshape(len(array), -1, copy=False)
        except ValueError:
            pass
        else:
            return contiguous(flat).reshape(array.shape)
    out = np.empty(array.shape, array.dtype)
    for i in range(0, array.shape[fast], 64):
        rows = (*(slice(None),) * fast, slice(i, i + 64))
        for j in range(0, array.shape[-1], 64):
            columns = slice(j, j + 64) if fast != array.ndim - 1 else slice(None)
            out[rows][..., columns] = array[rows][..., columns]
            if columns == slice(None):
                break
    return out


def has_only_numbers(array: np.ndarray) -> bool:
    """False where a floating-point array holds NaN or infinity; needs no memory of the array's size."""
    if array.dtype.itemsize > 4:
        return bool(np.isfinite(array).all())
    kind: Any = {2: np.uint16, 4: np.uint32}[array.dtype.itemsize]
    bits = np.ascontiguousarray(array).reshape(-1).view(kind)
    # Exponent all ones: infinity or NaN. The sign bit is taken away first.
    sign = kind(np.iinfo(kind).max >> 1)
    limit = int(np.array(np.inf, array.dtype).view(kind))
    scratch = np.empty(min(bits.size, 2**18), kind)
    for start in range(0, bits.size, scratch.size or 1):
        some = bits[start : start + scratch.size]
        if np.bitwise_and(some, sign, out=scratch[: some.size]).max() >= limit:
            return False
    return True


def _folder_name(name: str) -> str:
    return name.replace("/", ".")


def _chunk_shape(name: str, shape: tuple[int, ...], parts: int) -> tuple[int, ...]:
    axis = checkpoint.cut_axis(name, shape, parts) if parts > 1 else None
    chunk = [n // parts if i == axis else n for i, n in enumerate(shape)]
    if checkpoint.is_stacked(name):
        chunk[0] = 1
    return tuple(chunk)


def _zarray(facts: ArrayFacts, chunk: tuple[int, ...]) -> dict[str, Any]:
    dtype = jnp.dtype(facts.dtype)
    return {
        "zarr_format": 2,
        "shape": list(facts.shape),
        "chunks": list(chunk),
        "dtype": "bfloat16" if dtype == jnp.bfloat16 else dtype.newbyteorder("<").str,
        "compressor": None,
        "fill_value": None,
        "filters": None,
        "order": "C",
        "dimension_separator": ".",
    }
