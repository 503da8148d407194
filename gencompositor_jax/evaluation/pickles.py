"""Arrays from pickles, without running them: weights of metrics are published in no other format.

A pickle may name any function to be called. This reader knows those by which NumPy and PyTorch store arrays,
and refuses every other name; PyTorch itself isn't needed.
"""

import io
import math
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gencompositor_jax.errors import InputError

MAGIC = 0x1950A86A20F9469CFC6C  # begins PyTorch's format of before 1.6
STORAGES = {
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "DoubleStorage": np.float64,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
}
DTYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1")
_FAILURES = (
    pickle.UnpicklingError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    MemoryError,
    RecursionError,
)


def read_arrays(path: Path) -> dict[str, Any]:
    """A pickled dictionary of NumPy arrays, nested or not, or a state_dict of `torch.save` in either format.

    Tensors become NumPy arrays. Raises InputError for anything else, before any of its code could run.
    """
    try:
        if zipfile.is_zipfile(path):
            content = _read_zip(path)
        else:
            with path.open("rb") as file:
                content = _read_legacy(file) if _is_legacy(file) else _Reader(file).load()
        content = _arrays(content)
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror})") from error
    except (*_FAILURES, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: isn't a file of arrays only ({error})") from error
    while isinstance(content, dict) and list(content) in (["state_dict"], ["model"]):
        (content,) = content.values()
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, a dictionary of arrays is expected")
    return dict(content)


class _Reader(pickle.Unpickler):
    """Unpickles arrays. Storages of PyTorch, which lie outside the pickle, come from `storage`."""

    def __init__(self, file: Any, storage: Callable[[str, type, int], np.ndarray] | None = None) -> None:
        super().__init__(file)
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """The object that a pickle names, if it is known."""
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _Array
        if (module, name) in (("numpy", "dtype"), ("numpy", "ndarray")):
            return _Dtype if name == "dtype" else None
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
            return _tensor if name == "_rebuild_tensor_v2" else _parameter
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is refused")

    def persistent_load(self, pid: Any) -> np.ndarray:
        """A storage of PyTorch: ("storage", type, key, device, length, ...)."""
        if self._storage is None or pid[0] != "storage" or pid[1] not in STORAGES.values():
            raise pickle.UnpicklingError("it names data outside the file")
        return self._storage(str(pid[2]), pid[1], int(pid[4]))


class _Dtype:
    """Stands for NumPy's dtype, whose own state may say that numbers are addresses of objects."""

    def __init__(self, code: str, *rest: Any) -> None:
        if code not in DTYPES:
            raise pickle.UnpicklingError(f"it has values of type {code!r}, which is refused")
        self.code = code
        self.order: Literal["<", ">", "|", "="] = "|"

    def __setstate__(self, state: tuple) -> None:
        """Takes the byte order; the rest is of structures and objects."""
        if state[1] not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"it has the byte order {state[1]!r}")
        self.order = state[1]


class _Array:
    """Stands for NumPy's array, whose state follows in the pickle; `_arrays` takes its `array`."""

    array: np.ndarray

    def __init__(self, *ignored: Any) -> None:
        pass

    def __setstate__(self, state: tuple) -> None:
        """Takes (version, shape, dtype, whether in Fortran's order, bytes)."""
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
            raise pickle.UnpicklingError("an array isn't of plain numbers")
        flat = np.frombuffer(data, np.dtype(dtype.code).newbyteorder(dtype.order))
        self.array = flat.reshape(shape, order="F" if fortran else "C")


def _arrays(content: Any) -> Any:
    """The same with arrays in place of what stands for them."""
    if isinstance(content, _Array):
        return content.array
    if isinstance(content, dict):
        return {name: _arrays(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return type(content)(_arrays(value) for value in content)
    return content


def _tensor(storage: np.ndarray, offset: int, size: tuple, stride: tuple, *rest: Any) -> np.ndarray:
    if not (isinstance(storage, np.ndarray) and storage.ndim == 1 and storage.flags.c_contiguous):
        raise pickle.UnpicklingError("a tensor has no storage of its own")
    if math.prod(size) > len(storage):
        raise pickle.UnpicklingError("a tensor exceeds its storage")
    steps = tuple(step * storage.itemsize for step in stride)
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if not (offset >= 0 and min(steps, default=0) >= 0 and (0 in size or last < len(storage))):
        raise pickle.UnpicklingError("a tensor exceeds its storage")
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps)


def _parameter(data: np.ndarray, *rest: Any) -> np.ndarray:
    return data


def _read_zip(path: Path) -> Any:
    """PyTorch's format since 1.6: NAME/data.pkl, and NAME/data/KEY for each storage."""
    with zipfile.ZipFile(path) as archive:
        (pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        folder = pickled.removesuffix("data.pkl")

        def storage(key: str, kind: type, length: int) -> np.ndarray:
            return np.frombuffer(archive.read(f"{folder}data/{key}"), kind, length)

        return _Reader(io.BytesIO(archive.read(pickled)), storage).load()


def _is_legacy(file: io.BufferedReader) -> bool:
    start = file.read(32)
    file.seek(0)
    return MAGIC.to_bytes(10, "little") in start


def _read_legacy(file: io.BufferedReader) -> Any:
    """PyTorch's format before 1.6: magic, version, system, content, keys as pickles; then the storages."""
    found: dict[str, np.ndarray] = {}

    def storage(key: str, kind: type, length: int) -> np.ndarray:
        if not 0 <= length * np.dtype(kind).itemsize <= whole:
            raise pickle.UnpicklingError("a storage exceeds the file")
        return found.setdefault(key, np.empty(length, kind))

    whole = os.fstat(file.fileno()).st_size
    for _ in range(3):
        _Reader(file).load()
    content = _Reader(file, storage).load()
    for key in _Reader(file).load():
        array = found[key]
        length = int.from_bytes(file.read(8), "little")
        data = file.read(array.nbytes)
        if length != len(array) or len(data) != array.nbytes:
            raise ValueError("it is cut short")
        array[:] = np.frombuffer(data, array.dtype)
    return content
