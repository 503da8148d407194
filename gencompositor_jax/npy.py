"""NumPy's files as users pass them: what a header states is compared with the file's size before anything is
allocated, and nothing is unpickled.
"""

import zipfile
from typing import IO

import numpy as np
from numpy.lib import format as npy_format

from gencompositor_jax.errors import InputError
from gencompositor_jax.files import PathLike, check_regular, open_regular

# What NumPy and zipfile raise for damaged files; their readers evaluate the header as a Python literal.
_DAMAGED = (OSError, ValueError, EOFError, SyntaxError, TypeError, RecursionError, MemoryError)
_DAMAGED_ARCHIVE = (*_DAMAGED, KeyError, NotImplementedError, zipfile.BadZipFile)


def read_npy(path: PathLike) -> np.ndarray:
    """The array of a .npy file, mapped into memory. Raises InputError for anything else."""
    check_regular(path)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except _DAMAGED as error:
        raise InputError(f"{path}: not readable as a .npy file ({_reason(error)})") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise InputError(f"{path}: not readable as a .npy file (it is an archive)")
    return array


def read_npz(path: PathLike) -> dict[str, np.ndarray]:
    """All arrays of a .npz file, uncompressed as `np.savez` writes it. Raises InputError for others."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            return {each.filename.removesuffix(".npy"): _member(archive, each) for each in archive.infolist()}
    except _DAMAGED_ARCHIVE as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not readable as a .npz file ({_reason(error)})") from error


def _member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """One array. Raises ValueError where its header states another size than the entry has."""
    if entry.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{entry.filename} is compressed")
    with archive.open(entry) as file:
        shape, dtype = _header(file)
        count = 1
        for side in shape:
            if not 0 <= side <= entry.file_size:
                raise ValueError(f"{entry.filename} has the shape {shape}")
            count *= side
        start = file.tell()
        if dtype.hasobject or start + count * dtype.itemsize != entry.file_size:
            raise ValueError(f"{entry.filename} has another size than its header states")
        file.seek(0)
        array: np.ndarray = npy_format.read_array(file, allow_pickle=False)
        return array


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = npy_format.read_magic(file)
    read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def _reason(error: BaseException) -> str:
    return str(error).split("\n")[0][:120] or type(error).__name__
