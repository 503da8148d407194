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
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from gencompositor_jax import checkpoints
from gencompositor_jax.checkpoints.manifest import ArrayFacts, FileFacts
from gencompositor_jax.conversion.layout import contiguous

STRIP = 4 * 2**20  # bytes written at a time


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
        layer is cut, see `checkpoints.cut_axis`.
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
        shape, above = facts.shape, tuple[int, ...]()
        if layer is not None:
            shape, chunk, above = shape[1:], chunk[1:], (layer,)
        if array.shape != shape:
            raise AssertionError(f"{name}: {array.shape} is not {shape}")
        array = array.astype(jnp.dtype(facts.dtype), copy=False)
        for index in itertools.product(*(range(-(-n // c)) for n, c in zip(shape, chunk, strict=True))):
            cut = tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, chunk, strict=True))
            file = f"{_folder_name(name)}/{'.'.join(map(str, (*above, *index))) or '0'}"
            self._write(file, array[cut])

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
        """Writes a chunk file. A few rows at a time are brought into order, hashed and written, so that they
        stay in the cache.
        """
        digest, rows = hashlib.sha256(), np.atleast_1d(part)
        step = max(1, STRIP * len(rows) // max(1, rows.nbytes))
        with (self.folder / name).open("wb", buffering=0) as file:
            for start in range(0, len(rows), step):
                some = contiguous(rows[start : start + step])
                data = some.reshape(-1).view(np.uint8).data
                digest.update(data)
                while len(data):
                    data = data[file.write(data) :]
            facts = FileFacts(file.tell(), digest.hexdigest())
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


def _folder_name(name: str) -> str:
    return name.replace("/", ".")


def _chunk_shape(name: str, shape: tuple[int, ...], parts: int) -> tuple[int, ...]:
    axis = checkpoints.cut_axis(name, shape, parts) if parts > 1 else None
    chunk = [n // parts if i == axis else n for i, n in enumerate(shape)]
    if checkpoints.is_stacked(name):
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
