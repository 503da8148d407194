"""Arrays of a checkpoint, written in parts because one may exceed the memory, and fast array operations.

Orbax restores arrays in the Zarr format, version 2: a folder per array with its metadata in `.zarray`, and
one file per chunk. An uncompressed chunk file is the chunk's bytes. So a layer of a stacked array is one file
(or, split for a mesh, one file per shard) that can be written at any time and hashed on the way. The tree's
metadata is written by Orbax itself, from leaves without contents.
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

import cv2
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from gencompositor_jax import checkpoints
from gencompositor_jax.checkpoints.manifest import ArraySpec, FileHash

STRIP = 4 * 2**20  # bytes written at a time
BLOCK = 256  # side of the blocks transposed by NumPy: two of them fit a core's cache
TILE = 512  # side of the tiles transposed by OpenCV
PAD = 32  # elements between the rows of a tile, so that they don't compete for the same cache lines


class ArrayFolder:
    """The arrays of a checkpoint while they are written; `put` may be called from several threads."""

    def __init__(
        self, folder: Path, specs: Mapping[str, ArraySpec], empty: Sequence[str] = (), shards: int = 1
    ):
        """Create `folder` with everything but the arrays' contents.

        specs: every array by its path. empty: paths of nodes without arrays. shards: number of files per
        layer, see `checkpoints.shard_axis`.
        """
        self.folder, self.specs = folder, dict(specs)
        self.hashes: dict[str, FileHash] = {}  # of the chunk files, by their path below `folder`
        self._lock = threading.Lock()
        tree: dict[str, Any] = {}
        for name in [*specs, *empty]:
            *parents, last = name.split("/")
            node = tree
            for parent in parents:
                node = node.setdefault(parent, {})
            node[last] = _Leaf() if name in specs else {}
        registry = ocp.type_handlers.create_type_handler_registry((_Leaf, _LeafHandler()))
        with _errors_only(logging.getLogger("absl")):
            handler = ocp.PyTreeCheckpointHandler(
                use_ocdbt=False, use_zarr3=False, type_handler_registry=registry
            )
            with ocp.Checkpointer(handler) as checkpointer:
                checkpointer.save(folder.resolve(), tree)
        self._chunks = {name: _chunk_shape(name, spec.shape, shards) for name, spec in specs.items()}
        for name, spec in specs.items():
            (folder / _folder_name(name)).mkdir()
            text = json.dumps(_zarray(spec, self._chunks[name]))
            (folder / _folder_name(name) / ".zarray").write_text(text, encoding="utf-8")

    def put(self, name: str, layer: int | None, array: np.ndarray) -> None:
        """Write a whole array, or one layer of a stacked one, converted to the array's type."""
        spec, chunk = self.specs[name], self._chunks[name]
        shape, prefix = spec.shape, tuple[int, ...]()
        if layer is not None:
            shape, chunk, prefix = shape[1:], chunk[1:], (layer,)
        if array.shape != shape:
            raise AssertionError(f"{name}: {array.shape} is not {shape}")
        array = array.astype(jnp.dtype(spec.dtype), copy=False)
        for index in _chunk_indices(shape, chunk):
            part = tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, chunk, strict=True))
            self._write(_chunk_file(name, (*prefix, *index)), array[part])

    def missing(self) -> list[str]:
        """Chunk files that were not written."""
        wanted = {
            _chunk_file(name, index)
            for name, spec in self.specs.items()
            for index in _chunk_indices(spec.shape, self._chunks[name])
        }
        return sorted(wanted - self.hashes.keys())

    def _write(self, name: str, chunk: np.ndarray) -> None:
        """Write a chunk file, a few rows at a time: transposed, hashed and written while in the cache."""
        digest, rows = hashlib.sha256(), np.atleast_1d(chunk)
        step = max(1, STRIP * len(rows) // max(1, rows.nbytes))
        with (self.folder / name).open("wb", buffering=0) as file:
            for start in range(0, len(rows), step):
                data = contiguous(rows[start : start + step]).reshape(-1).view(np.uint8).data
                digest.update(data)
                while len(data):
                    data = data[file.write(data) :]
            written = FileHash(file.tell(), digest.hexdigest())
        with self._lock:
            self.hashes[name] = written


class _Leaf:
    """A leaf that Orbax writes into the tree's metadata and nowhere else."""


class _LeafHandler(ocp.type_handlers.NumpyHandler):
    """Writes nothing; a restored leaf is an array."""

    async def serialize(
        self, values: Sequence[Any], infos: Sequence[Any], args: Sequence[Any] | None = None
    ) -> Sequence[Any]:
        """Nothing to wait for."""
        return []

    def memory_size(self, values: Sequence[Any]) -> Sequence[tuple[int, int]]:
        """Bytes written and read, for Orbax's limit of what is in flight."""
        return [(0, 0) for _ in values]


@contextlib.contextmanager
def _errors_only(logger: logging.Logger) -> Iterator[None]:
    """Hide Orbax's warning about a tree without contents."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _folder_name(name: str) -> str:
    return name.replace("/", ".")


def _chunk_file(name: str, index: tuple[int, ...]) -> str:
    return f"{_folder_name(name)}/{'.'.join(map(str, index)) or '0'}"


def _chunk_indices(shape: tuple[int, ...], chunk: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    return itertools.product(*(range(-(-n // c)) for n, c in zip(shape, chunk, strict=True)))


def _chunk_shape(name: str, shape: tuple[int, ...], shards: int) -> tuple[int, ...]:
    axis = checkpoints.shard_axis(name, shape, shards) if shards > 1 else None
    chunk = [n // shards if i == axis else n for i, n in enumerate(shape)]
    if checkpoints.is_stacked(name):
        chunk[0] = 1
    return tuple(chunk)


def _zarray(spec: ArraySpec, chunk: tuple[int, ...]) -> dict[str, Any]:
    dtype = jnp.dtype(spec.dtype)
    return {
        "zarr_format": 2,
        "shape": list(spec.shape),
        "chunks": list(chunk),
        "dtype": "bfloat16" if dtype == jnp.bfloat16 else dtype.newbyteorder("<").str,
        "compressor": None,
        "fill_value": None,
        "filters": None,
        "order": "C",
        "dimension_separator": ".",
    }


def contiguous(array: np.ndarray) -> np.ndarray:
    """The array in C order.

    NumPy transposes one element at a time with strided access. Plain transposes, also those whose rows or
    columns were split into several axes afterwards, go through OpenCV in tiles, others through NumPy in
    blocks: ten and four times as fast.
    """
    if array.flags.c_contiguous:
        return array
    for rows, columns in ((array.shape[0], -1), (-1, array.shape[-1])):
        try:
            flat = array.reshape(rows, columns, copy=False)
        except ValueError:
            continue
        if flat.dtype.itemsize in (2, 4) and flat.strides[0] == flat.dtype.itemsize:
            integers = np.dtype(f"i{flat.dtype.itemsize}")
            return _transposed_in_tiles(flat.T.view(integers)).view(array.dtype).reshape(array.shape)
    return _copied_in_blocks(array)


def _transposed_in_tiles(array: np.ndarray) -> np.ndarray:
    """The transpose of a matrix of integers whose rows are contiguous.

    OpenCV is fast as long as its input and output fit the cache, so each tile goes through a small matrix.
    """
    rows, columns = array.shape
    out, tile = np.empty((columns, rows), array.dtype), np.empty((TILE, TILE + PAD), array.dtype)
    for i in range(0, rows, TILE):
        for j in range(0, columns, TILE):
            source = array[i : i + TILE, j : j + TILE]
            transposed = tile[: source.shape[1], : source.shape[0]]
            cv2.transpose(source, dst=transposed)
            out[j : j + TILE, i : i + TILE] = transposed
    return out


def _copied_in_blocks(array: np.ndarray) -> np.ndarray:
    out = np.empty(array.shape, array.dtype)
    fast = min(range(array.ndim), key=lambda i: abs(array.strides[i]) if array.shape[i] > 1 else math.inf)
    width = BLOCK if fast != array.ndim - 1 else max(1, array.shape[-1])
    for i in range(0, array.shape[fast], BLOCK):
        rows = (*(slice(None),) * fast, slice(i, i + BLOCK))
        for j in range(0, array.shape[-1], width):
            out[rows][..., j : j + width] = array[rows][..., j : j + width]
    return out


def all_finite(array: np.ndarray) -> bool:
    """False where a floating-point array holds NaN or infinity; allocates no array of its size."""
    if array.dtype.itemsize > 4:
        return bool(np.isfinite(array).all())
    kind: Any = {2: np.uint16, 4: np.uint32}[array.dtype.itemsize]
    bits = np.ascontiguousarray(array).reshape(-1).view(kind)
    # NaN and infinity have all exponent bits set: with the sign bit cleared they are at least infinity.
    no_sign = kind(np.iinfo(kind).max >> 1)
    infinity = int(np.array(np.inf, array.dtype).view(kind))
    scratch = np.empty(min(bits.size, 2**18), kind)
    for start in range(0, bits.size, scratch.size or 1):
        block = bits[start : start + scratch.size]
        if np.bitwise_and(block, no_sign, out=scratch[: block.size]).max() >= infinity:
            return False
    return True
