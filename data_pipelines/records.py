"""Folders of clips in ArrayRecord: their description, reading by index, writing shard by shard.

    FOLDER/dataset.json                        settings, and the list of shards once all are written
           clips-00000-of-00012.arrayrecord    clips (`data_pipelines.clip_record`), one per group
           clips-00000-of-00012.json           the number of clips, and which inputs were left out

ArrayRecord keeps a checksum of every record, so damage is noticed when a record is read.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from gencompositor_jax import fields
from gencompositor_jax.arch import ModelArch
from gencompositor_jax.data_pipelines import clip_record
from gencompositor_jax.data_pipelines.clip_record import Record
from gencompositor_jax.data_pipelines.record_source import RecordSource
from gencompositor_jax.errors import InputError
from gencompositor_jax.fields import Text, Whole
from gencompositor_jax.files import MAX_TABLE, atomic_write, atomic_write_text, parse_json, read_text

NAME = "dataset.json"
KIND = "gencompositor clips"
# One record per group: random access reads nothing else. Pictures are compressed already.
OPTIONS = "group_size:1,uncompressed"


class ArrayRecordSource(RecordSource):
    """The clips of a complete data set."""

    def __init__(self, folder: str | os.PathLike[str], arch: ModelArch) -> None:
        """Read dataset.json and the first record.

        Raises InputError if the data set is incomplete, a shard is missing or of another size than when it
        was written, or the clips aren't of the model's size.
        """
        folder = Path(folder)
        facts = read_facts(folder)
        if "shards" not in facts:
            raise InputError(f"{folder}: is incomplete: run the same gencompositor data build again")
        self.moments_of: str | None = facts["moments_of"]
        shards = [shard for shard in facts["shards"] if shard["clips"]]
        if not shards:
            raise InputError(f"{folder}: holds no clip: every input was broken")
        paths = [folder / shard["file"] for shard in shards]
        for path, shard in zip(paths, shards, strict=True):
            size = path.stat().st_size if path.is_file() else None
            if size != shard["bytes"]:
                what = "is missing" if size is None else f"has {size} of its {shard['bytes']} bytes"
                raise InputError(f"{path}: {what}: {_remedy(path)}")
        super().__init__(folder, arch, paths, [shard["clips"] for shard in shards])

    def record(self, index: int) -> Record:
        """One record, not decoded. Raises InputError that names the damaged file."""
        shard, position = self._locate(index)
        path = self._shards[shard]
        try:
            reader = self._reader(shard, partial(ArrayRecordReader, path))
            return clip_record.from_bytes(reader.read([position])[0])
        except (RuntimeError, IndexError, ValueError) as error:  # an InputError is a ValueError, too
            what = str(error).split(";")[0]
            raise InputError(f"{path}: record {position}: {what}: {_remedy(Path(path))}") from error


def read_facts(folder: Path) -> dict[str, Any]:
    """The contents of a folder's dataset.json. Raises InputError if there is none, or of another version."""
    file = folder / NAME
    try:
        facts = fields.read(dict[str, Any], parse_json(read_text(file, MAX_TABLE), str(file)), str(file))
    except InputError as error:
        raise InputError(
            f"{folder}: holds no data set ({error}): pass the --out of gencompositor data build"
        ) from error
    if facts.get("kind") != KIND:
        raise InputError(
            f"{file}: describes another kind of data: pass the --out of gencompositor data build"
        )
    if facts.get("version") != clip_record.VERSION:
        raise InputError(
            f"{folder}: holds clips of version {fields.shown(facts.get('version'))}, this release reads "
            f"version {clip_record.VERSION}: build them again in another folder"
        )
    fields.read(_FILE, facts, str(file))
    return dict(facts)


_Number = Annotated[Whole, fields.within(0, 2**53)]
# The fields of dataset.json: settings, and when complete the shards.
_FILE = fields.schema(
    "Dataset",
    kind=Text,
    version=Whole,
    settings=dict[str, Any],
    inputs=Text,
    moments_of=Text | None,
    clips=(_Number, 0),
    shards=(
        fields.list_of(
            fields.schema("Shard", file=fields.name_of("A-Za-z0-9_.-"), clips=_Number, bytes=_Number)
        ),
        (),
    ),
    broken=(tuple[dict[str, str], ...], ()),
)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all."""
    atomic_write_text(path, json.dumps(value, indent=1) + "\n")


@contextmanager
def shard_writer(path: Path) -> Iterator[Callable[[bytes], None]]:
    """Yield a function that appends a record to a new shard; the file appears once it is complete.

    Raises InputError when the disk fills up, and removes the unfinished file.
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
                f"{path}: can't be written ({error}): free some space and run it again; it resumes"
            ) from error
        finally:
            if not closed and writer.is_open():
                _abandon(writer)


def _abandon(writer: ArrayRecordWriter) -> None:
    with suppress(RuntimeError):  # its file is deleted
        writer.close()


def _remedy(path: Path) -> str:
    return f"copy the data set again, or delete {path.with_suffix('.json').name} and run its build again"
