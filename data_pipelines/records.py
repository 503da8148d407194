"""Folders of clips in ArrayRecord: how one is described, read by index, and written shard by shard.

    FOLDER/dataset.json                        what it is and, once it is complete, its shards
           clips-00000-of-00012.arrayrecord    clips (`data_pipelines.clip_record`), one per group
           clips-00000-of-00012.json           how many there are, and which inputs were left out

ArrayRecord keeps a checksum of every record, so a damaged file is noticed when it is read.
"""

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from gencompositor_jax.arch import ModelArch
from gencompositor_jax.data_pipelines import clip_record
from gencompositor_jax.data_pipelines.clip_record import Record
from gencompositor_jax.data_pipelines.source import ClipArrays
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import atomic_write, atomic_write_text

NAME = "dataset.json"
KIND = "gencompositor clips"
# One record per group: random access reads nothing else. Pictures are compressed already.
OPTIONS = "group_size:1,uncompressed"


class ArrayRecordSource:
    """The clips of a complete data set (see `data_pipelines.source.ClipSource`); threads may share it."""

    def __init__(self, folder: str | os.PathLike[str], arch: ModelArch) -> None:
        """Opens nothing but dataset.json and the first record.

        Raises InputError where the folder holds no complete data set, a shard is missing or of another size
        than it was written with, or the clips aren't of the model's size.
        """
        self.folder, self.inflation = Path(folder), arch.inflation
        facts = read_facts(self.folder)
        if "shards" not in facts:
            raise InputError(f"{folder}: isn't complete: run the same gencompositor data build again")
        self.moments_of: str | None = facts["moments_of"]
        shards = [shard for shard in facts["shards"] if shard["clips"]]
        self._paths = [self.folder / shard["file"] for shard in shards]
        self._ends = np.cumsum([shard["clips"] for shard in shards])
        if not shards:
            raise InputError(f"{folder}: holds no clip: every input was broken")
        for path, shard in zip(self._paths, shards, strict=True):
            size = path.stat().st_size if path.is_file() else None
            if size != shard["bytes"]:
                what = "is missing" if size is None else f"has {size} of its {shard['bytes']} bytes"
                raise InputError(f"{path}: {what}: {_remedy(path)}")
        self._forget_readers()
        try:
            clip_record.check_fits(self.record(0), arch)
        except InputError as error:
            raise InputError(f"{folder}: {error}") from error

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getstate__(self) -> dict[str, Any]:
        """Without open files: each process opens its own."""
        return {name: value for name, value in vars(self).items() if name not in ("_readers", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget_readers()

    def name(self, index: int) -> str:
        """The shard's file, and where the record is in it."""
        shard, position = self._where(index)
        return f"{self._paths[shard]}[{position}]"

    def read(self, index: int, rng: np.random.Generator, removal: bool) -> ClipArrays:
        """One clip; nothing is drawn. See `ClipSource.read` and, for clips without a background,
        `clip_record.decode`.
        """
        record = self.record(index)
        try:
            return clip_record.decode(record, self.inflation, removal)
        except InputError as error:
            raise InputError(f"{self.name(index)}: {error}") from error

    def record(self, index: int) -> Record:
        """One record, not decoded. Raises InputError that names the damaged file."""
        shard, position = self._where(index)
        path = self._paths[shard]
        try:
            with self._lock:
                reader = self._readers.get(shard)
                if reader is None:
                    reader = self._readers[shard] = ArrayRecordReader(str(path))
            return clip_record.from_bytes(reader.read([position])[0])
        except (RuntimeError, IndexError, ValueError) as error:  # an InputError is a ValueError, too
            what = str(error).split(";")[0]
            raise InputError(f"{path}: record {position}: {what}: {_remedy(path)}") from error

    def _where(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.folder}: clip {index} of {len(self)}")
        shard = int(np.searchsorted(self._ends, index, side="right"))
        return shard, int(index - (self._ends[shard - 1] if shard else 0))

    def _forget_readers(self) -> None:
        self._readers: dict[int, ArrayRecordReader] = {}
        self._lock = threading.Lock()


def read_facts(folder: Path) -> dict[str, Any]:
    """What a folder's dataset.json says. Raises InputError where it is none, or of another version."""
    try:
        facts = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder}: holds no data set ({NAME} can't be read): make one with gencompositor data build"
        ) from error
    if not isinstance(facts, dict) or facts.get("kind") != KIND:
        raise InputError(
            f"{folder / NAME}: is no data set of ours: pass the --out of gencompositor data build"
        )
    if facts["version"] != clip_record.VERSION:
        raise InputError(
            f"{folder}: holds clips of version {facts['version']}, this code reads version "
            f"{clip_record.VERSION}: build it again in another folder"
        )
    return facts


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file, whole or not at all."""
    atomic_write_text(path, json.dumps(value, indent=1) + "\n")


@contextmanager
def shard_writer(path: Path) -> Iterator[Callable[[bytes], None]]:
    """Yields what appends a record to a new shard, which appears once it is complete.

    Raises InputError when the disk fills up; nothing of the shard stays then.
    """
    with atomic_write(path, overwrite=True) as part:
        writer = ArrayRecordWriter(str(part), OPTIONS)
        closed = False
        try:
            yield writer.write
            writer.close()
            closed = True
        except RuntimeError as error:
            raise InputError(
                f"{path}: can't be written ({error}): free some space and run it again, it goes on"
            ) from error
        finally:
            if not closed and writer.is_open():
                _abandon(writer)


def _abandon(writer: ArrayRecordWriter) -> None:
    with suppress(RuntimeError):  # its file is thrown away
        writer.close()


def _remedy(path: Path) -> str:
    return f"copy the data set again, or delete {path.with_suffix('.json').name} and run its build again"
