"""Reading and writing safetensors files tensor by tensor, bfloat16 included, without torch.

A file is an 8-byte little-endian length, a JSON header {name: {dtype, shape, data_offsets}} of that length,
and the tensors' bytes, back to back. It is read once from start to end, so that it can be hashed on the way.
"""

import dataclasses
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import ml_dtypes
import numpy as np

from gencompositor_jax import fields
from gencompositor_jax.conversion.arrays import contiguous
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import open_regular, parse_json

DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
MAX_HEADER = 100 * 2**20  # bytes; the format's own limit
BLOCK = 2**20  # bytes read at a time: still in a core's cache when they are hashed

OnRead = Callable[[memoryview], None]  # gets all bytes of a file in order
Allocate = Callable[[int], np.ndarray]  # number of bytes -> uint8 array of that size


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One tensor of a file, not read yet."""

    shape: tuple[int, ...]
    dtype: np.dtype
    start: int = 0  # offset of its bytes in the file
    end: int = 0

    @property
    def bytes(self) -> int:
        """Size of its numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def new_buffer(count: int) -> np.ndarray:
    """New memory, the default `Allocate`."""
    return np.empty(count, np.uint8)


_Size = Annotated[fields.Whole, fields.within(0, 2**53)]
# The fields of a header, which has a `__metadata__` of texts besides.
_HEADER = fields.map_of(
    str,
    fields.schema(
        "Tensor",
        dtype=fields.Text,
        shape=Annotated[tuple[_Size, ...], fields.length(0, 16)],
        data_offsets=tuple[_Size, _Size],
    ),
)


class SafetensorsFile:
    """A safetensors file whose header has been read and checked against the file's size."""

    def __init__(self, path: Path) -> None:
        """Read the header. Raises InputError for a truncated or damaged file, or one of another type."""
        self.path = path
        with open_regular(path) as file:
            self.size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if self.size < 8 or not 2 <= length <= min(MAX_HEADER, self.size - 8):
                raise InputError(f"{path}: not a safetensors file, or truncated: download it again")
            self._head = 8 + length
            text = file.read(length)
        try:
            header = fields.read(dict[str, Any], parse_json(text, str(path)), str(path))
            self.metadata: dict[str, str] = fields.read(
                dict[str, str], header.pop("__metadata__", {}), f"{path}: __metadata__"
            )
            entries: dict[str, Any] = fields.read(_HEADER, header, str(path))
        except InputError as error:
            raise InputError(f"{error}; the header is damaged: download it again") from error
        self.tensors = {name: self._tensor(name, entry) for name, entry in entries.items()}
        self._check_offsets()

    def _tensor(self, name: str, entry: Any) -> Tensor:
        if entry.dtype not in DTYPES:
            kind, known = fields.shorten(entry.dtype), ", ".join(DTYPES)
            raise InputError(f"{self.path}: {name} is of type {kind}; supported are {known}")
        start, end = (self._head + offset for offset in entry.data_offsets)
        return Tensor(entry.shape, DTYPES[entry.dtype], start, end)

    def _check_offsets(self) -> None:
        at = self._head
        for name, tensor in self._in_order():
            if tensor.start != at or tensor.end - at != tensor.bytes:
                raise InputError(f"{self.path}: the header is damaged at {name}: download it again")
            at = tensor.end
        if at != self.size:
            raise InputError(
                f"{self.path}: truncated or damaged: {self.size} bytes instead of {at}; download it again"
            )

    def _in_order(self) -> list[tuple[str, Tensor]]:
        return sorted(self.tensors.items(), key=lambda item: (item[1].start, item[1].end))

    def stream(self, on_read: OnRead, allocate: Allocate = new_buffer) -> Iterator[tuple[str, np.ndarray]]:
        """All tensors in the file's order, each read into the memory that `allocate` returns for it."""
        with self.path.open("rb", buffering=0) as file:
            _read(file, new_buffer(self._head), on_read)
            for name, tensor in self._in_order():
                data = _read(file, allocate(tensor.end - tensor.start), on_read)
                _drop_from_cache(file.fileno(), tensor.end)
                yield name, data.view(tensor.dtype).reshape(tensor.shape)

    def read(self, name: str, rows: slice | None = None) -> np.ndarray:
        """One tensor, or some of its rows."""
        tensor = self.tensors[name]
        shape, start = tensor.shape, tensor.start
        row = math.prod(shape[1:]) * tensor.dtype.itemsize
        if rows is not None:
            first, last, _ = rows.indices(shape[0])
            start, shape = start + first * row, (last - first, *shape[1:])
        with self.path.open("rb", buffering=0) as file:
            file.seek(start)
            data = _read(file, new_buffer(math.prod(shape) * tensor.dtype.itemsize))
            return data.view(tensor.dtype).reshape(shape)


def _read(file: io.FileIO, data: np.ndarray, on_read: OnRead | None = None) -> np.ndarray:
    """Fill uint8 `data` with the next bytes of a file and return it."""
    view, done = data.data, 0
    while done < len(view):
        got = file.readinto(view[done : done + BLOCK])
        if not got:
            raise InputError(f"{file.name!s}: was truncated while it was read")
        if on_read is not None:
            on_read(view[done : done + got])
        done += got
    return data


def _drop_from_cache(descriptor: int, end: int) -> None:
    """Let the operating system reuse the cache pages of a file's bytes before `end`.

    Allocating new pages for what is read next may cost more than the reading.
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, end, os.POSIX_FADV_DONTNEED)


def write(
    path: Path,
    tensors: Mapping[str, Tensor],
    arrays: Iterable[np.ndarray],
    metadata: Mapping[str, str] | None = None,
    on_written: Callable[[int], None] | None = None,
) -> None:
    """Write a file, not atomically: exports write into an `atomic_folder`.

    tensors: shape and dtype of each tensor by its name. arrays: the tensors in that order. on_written: called
    with the bytes of each.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata or {"format": "pt"})}
    at = 0
    for name, tensor in tensors.items():
        end = at + tensor.bytes
        dtype = NAMES[tensor.dtype]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb", buffering=0) as file:
        _write_all(file, len(text).to_bytes(8, "little") + text)
        for (name, tensor), array in zip(tensors.items(), arrays, strict=True):
            if array.shape != tensor.shape or array.dtype != tensor.dtype:
                raise AssertionError(f"{name}: {array.dtype} {array.shape} instead of the header's")
            data = contiguous(array)
            _write_all(file, data.reshape(-1).view(np.uint8).data)
            if on_written is not None:
                on_written(data.nbytes)


def _write_all(file: io.FileIO, data: bytes | memoryview) -> None:
    """Write all of `data`; one call of an unbuffered file may write less."""
    view = memoryview(data)
    while len(view):
        view = view[file.write(view) :]
