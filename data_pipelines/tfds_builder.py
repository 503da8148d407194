"""The same clips as a TFDS dataset, written and read without TensorFlow.

    write(arrayrecord_folder, out)  ->  out/gencompositor_clips/1.0.0/

Features are the fields of `clip_record.Record`: texts, numbers, and the encoded parts as bytes. Any program
can read them by `tfds.builder_from_directory(FOLDER).as_data_source("train")`.
"""

import dataclasses
import io
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from gencompositor_jax.arch import ModelArch
from gencompositor_jax.data_pipelines import clip_record
from gencompositor_jax.data_pipelines.clip_record import BYTES, Record
from gencompositor_jax.data_pipelines.records import ArrayRecordSource
from gencompositor_jax.data_pipelines.source import ClipArrays
from gencompositor_jax.errors import InputError

NAME = "gencompositor_clips"
SPLIT = "train"


def features() -> tfds.features.FeaturesDict:
    """One feature per field of a record."""
    kinds = {
        str: tfds.features.Text(),
        float: np.float64,
        int: np.int64,
        bytes: tfds.features.Tensor(shape=(), dtype=np.object_),
    }
    found = {f.name: kinds.get(f.type) for f in dataclasses.fields(Record)}  # type: ignore[arg-type]
    return tfds.features.FeaturesDict(
        {
            **found,
            "mask_is": tfds.features.Text(),
            "foreground_box": tfds.features.Tensor(shape=(4,), dtype=np.int64),
            "moments_shape": tfds.features.Tensor(shape=(4,), dtype=np.int64),
        }
    )


class GencompositorClips(tfds.core.GeneratorBasedBuilder):
    """Copies a finished ArrayRecord data set of ours; its order stays."""

    VERSION = tfds.core.Version(f"{clip_record.VERSION}.0.0")

    def __init__(self, *, source: ArrayRecordSource, progress: bool | None, **options: Any) -> None:
        self._source, self._progress = source, progress
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Clips that train a generative video compositor.",
            features=features(),
            disable_shuffling=True,  # whoever trains shuffles; sorting would take the whole disk once more
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {SPLIT: self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        silent = None if self._progress is None else not self._progress
        for index in tqdm(range(len(self._source)), unit="clip", desc="writing TFDS", disable=silent):
            record = self._source.record(index)
            values = {f.name: getattr(record, f.name) for f in dataclasses.fields(Record)}
            for name in ("foreground_box", "moments_shape"):
                values[name] = np.array(values[name], np.int64)
            yield index, values


def write(source: ArrayRecordSource, out: Path, progress: bool | None = None) -> Path:
    """Writes `out`/gencompositor_clips/VERSION, which appears when it is complete; returns it.

    Raises InputError where one is there already, or the disk fills up.
    """
    check_absent(out)
    tfds.disable_progress_bar()  # ours counts clips
    builder = GencompositorClips(
        source=source, progress=progress, data_dir=os.fspath(out), file_format="array_record"
    )
    for left in (out / NAME).glob("incomplete.*"):  # of a run that was killed
        shutil.rmtree(left)
    try:
        # Nothing is downloaded, and its own progress isn't worth a line.
        with tempfile.TemporaryDirectory() as empty, redirect_stdout(io.StringIO()):
            builder.download_and_prepare(download_dir=empty)
    except OSError as error:
        raise InputError(f"{out}: can't be written ({error}): free some space and run it again") from error
    return Path(builder.data_dir)


def check_absent(out: Path) -> None:
    """Raises InputError where `write` has been here."""
    if (out / NAME / str(GencompositorClips.VERSION)).exists():
        raise InputError(f"{out}: holds a complete dataset {NAME}: pass another folder")


class TfdsSource:
    """The clips of such a dataset (see `data_pipelines.source.ClipSource`); threads may share it."""

    def __init__(self, folder: str | os.PathLike[str], arch: ModelArch) -> None:
        """Reads the dataset's description and the first record.

        Args:
            folder: what was given to `write`, or the version's folder in it.
            arch: the model's.

        Raises InputError where no such dataset is there, or its clips aren't of the model's size.
        """
        self.folder, self.inflation = _version_folder(Path(folder)), arch.inflation
        try:
            split = tfds.builder_from_directory(os.fspath(self.folder)).info.splits[SPLIT]
        except Exception as error:  # TFDS raises many kinds
            raise InputError(f"{self.folder}: isn't a TFDS dataset that can be read ({error})") from error
        self._ends = np.cumsum(split.shard_lengths)
        self._files = [os.fspath(path) for path in split.filepaths]
        self._data: Any = None  # opened when first read
        self._lock = threading.Lock()
        try:
            clip_record.check_fits(self.record(0), arch)
        except InputError as error:
            raise InputError(f"{self.folder}: {error}") from error

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getstate__(self) -> dict[str, Any]:
        """Without open files: each process opens its own."""
        return {name: value for name, value in vars(self).items() if name not in ("_data", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._data, self._lock = None, threading.Lock()

    def name(self, index: int) -> str:
        """The shard's file, and where the record is in it."""
        shard = int(np.searchsorted(self._ends, index, side="right"))
        return f"{self._files[shard]}[{index - (self._ends[shard - 1] if shard else 0)}]"

    def read(self, index: int, rng: np.random.Generator, removal: bool) -> ClipArrays:
        """One clip; nothing is drawn. See `ClipSource.read` and `clip_record.decode`."""
        record = self.record(index)
        try:
            return clip_record.decode(record, self.inflation, removal)
        except InputError as error:
            raise InputError(f"{self.name(index)}: {error}") from error

    def record(self, index: int) -> Record:
        """One record, not decoded. Raises InputError that names the damaged file."""
        try:
            with self._lock:
                if self._data is None:
                    builder = tfds.builder_from_directory(os.fspath(self.folder))
                    self._data = builder.as_data_source(split=SPLIT)
            fields = dict(self._data[index])
            texts = {n: v.decode() for n, v in fields.items() if isinstance(v, bytes) and n not in BYTES}
            return clip_record.from_facts({**fields, **texts})
        except IndexError:
            raise
        except Exception as error:  # TFDS and ArrayRecord raise many kinds
            what = str(error).split(";")[0]
            raise InputError(f"{self.name(index)}: {what}: copy or build the dataset again") from error


def _version_folder(folder: Path) -> Path:
    if (folder / "dataset_info.json").is_file():
        return folder
    versions = sorted((folder / NAME).glob("*/dataset_info.json"))
    if not versions:
        raise InputError(
            f"{folder}: holds no TFDS dataset {NAME}: make one with gencompositor data build --format tfds"
        )
    return versions[-1].parent
