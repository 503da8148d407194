"""Clips of sharded records by index: what ArrayRecord and TFDS data sets have in common."""

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gencompositor_jax.arch import ModelArch
from gencompositor_jax.data_pipelines import clip_record
from gencompositor_jax.data_pipelines.clip_record import Record
from gencompositor_jax.data_pipelines.source import ClipArrays
from gencompositor_jax.errors import InputError


class RecordSource(ABC):
    """A `ClipSource` of records in shards. Threads may share it; a pickled copy opens its own files."""

    def __init__(
        self, folder: Path, arch: ModelArch, shards: Sequence[str | os.PathLike[str]], clips: Sequence[int]
    ) -> None:
        """Read the first record.

        Args:
            folder: of the data set, for messages.
            arch: the model's, for its frames, size and inflation.
            shards: the files, in order.
            clips: records in each of them.

        Raises:
            InputError: the first record can't be read, or isn't of the model's size.
        """
        self.folder, self.inflation = folder, arch.inflation
        self._shards, self._ends = [os.fspath(path) for path in shards], np.cumsum(clips)
        self._forget_readers()
        try:
            clip_record.check_fits(self.record(0), arch)
        except InputError as error:
            raise InputError(f"{folder}: {error}") from error

    @abstractmethod
    def record(self, index: int) -> Record:
        """One record, not decoded. Raises InputError that names the damaged file."""

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_readers", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget_readers()

    def name(self, index: int) -> str:
        """The shard's file, and the record's number in it."""
        shard, position = self._locate(index)
        return f"{self._shards[shard]}[{position}]"

    def read(self, index: int, rng: np.random.Generator, removal: bool) -> ClipArrays:
        """One clip; nothing is drawn. See `ClipSource.read` and, for clips without a background,
        `clip_record.decode`.
        """
        record = self.record(index)
        try:
            return clip_record.decode(record, self.inflation, removal)
        except InputError as error:
            raise InputError(f"{self.name(index)}: {error}") from error

    def _locate(self, index: int) -> tuple[int, int]:
        """(shard, position in it) of a record."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.folder}: clip {index} of {len(self)}")
        shard = int(np.searchsorted(self._ends, index, side="right"))
        return shard, int(index - (self._ends[shard - 1] if shard else 0))

    def _reader(self, key: int, opened: Callable[[], Any]) -> Any:
        """What `opened` returns, called once per key and process."""
        with self._lock:
            if key not in self._readers:
                self._readers[key] = opened()
            return self._readers[key]

    def _forget_readers(self) -> None:
        self._readers: dict[int, Any] = {}
        self._lock = threading.Lock()
