"""Frames kept in a temporary file instead of memory: written once in order, read in any."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from gencompositor_jax.controls.media.frames import Computed
from gencompositor_jax.errors import InputError


class Spool(Computed):
    """Frames in a file without a name, which the system removes with the object, also after a crash.

    folder: where the file is.
    """

    def __init__(self, shape: tuple[int, ...], dtype: type, folder: Path) -> None:
        super().__init__(shape, self._read, dtype)
        self._file: Any = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (kept open)
        self._folder = folder

    def append(self, frames: np.ndarray) -> None:
        """Writes the next frames. Raises InputError where the disk is full."""
        try:
            self._file.seek(0, 2)
            self._file.write(np.ascontiguousarray(frames, self.dtype).data)
        except OSError as error:
            raise InputError(
                f"{self._folder}: a temporary file can't be written ({error.strerror}): free space there, or "
                "pass fewer frames"
            ) from error

    def _read(self, first: int, stop: int) -> np.ndarray:
        out = np.empty((stop - first, *self.shape[1:]), self.dtype)
        if out.size:
            self._file.seek(first * out[0].nbytes)
            if self._file.readinto(out.data.cast("B")) != out.nbytes:
                raise ValueError(f"frames {first} to {stop} were not written")
        return out
