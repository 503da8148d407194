"""Clips as a TFDS dataset, written and read without TensorFlow. Needs the extra `tfds`.

    build(inputs, out, settings)  ->  out/gencompositor_clips/1.0.0/

Features are the fields of `clip_record.Record`: texts, numbers, and the encoded parts as bytes. Any program
can read them with `tfds.builder_from_directory(FOLDER).as_data_source("train")`.
"""

import dataclasses
import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from gencompositor_jax.arch import ModelArch
from gencompositor_jax.data_pipelines import build as arrayrecord
from gencompositor_jax.data_pipelines import clip_record
from gencompositor_jax.data_pipelines.build import Input, Settings
from gencompositor_jax.data_pipelines.clip_record import BYTES, Record
from gencompositor_jax.data_pipelines.record_source import RecordSource
from gencompositor_jax.data_pipelines.records import ArrayRecordSource
from gencompositor_jax.data_pipelines.shards import Built, bytes_of
from gencompositor_jax.data_pipelines.workers import progress_bar
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import check_space

try:
    import tensorflow_datasets as tfds
except ImportError as error:
    raise InputError(
        "TFDS data: tensorflow-datasets is missing; pip install 'gencompositor-jax[tfds]'"
    ) from error

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
    """Copies a complete ArrayRecord data set, in its order."""

    VERSION = tfds.core.Version(f"{clip_record.VERSION}.0.0")

    def __init__(self, *, source: ArrayRecordSource, progress: bool | None, **options: Any) -> None:
        self._source, self._progress = source, progress
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Clips that train a generative video compositor.",
            features=features(),
            disable_shuffling=True,  # training shuffles; sorting here would need the disk space once more
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {SPLIT: self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        with progress_bar(len(self._source), "writing TFDS", self._progress) as bar:
            for index in range(len(self._source)):
                record = self._source.record(index)
                values = {f.name: getattr(record, f.name) for f in dataclasses.fields(Record)}
                for name in ("foreground_box", "moments_shape"):
                    values[name] = np.array(values[name], np.int64)
                yield index, values
                bar.update()


def build(
    inputs: Sequence[Input],
    out: Path,
    settings: Settings,
    *,
    workers: int | None = None,
    max_broken: float = 0.05,
    progress: bool | None = None,
) -> Built:
    """Write the inputs' records into `out`/gencompositor_clips/VERSION, which appears when it is complete.

    They are first built as ArrayRecord in `out`/arrayrecord, resumably (see `data_pipelines.build.build`),
    then copied and deleted there. Meanwhile the disk holds both copies.

    Raises InputError also if `out` holds a complete dataset, or the disk fills up.
    """
    if (out / NAME / str(GencompositorClips.VERSION)).exists():
        raise InputError(f"{out}: holds a complete dataset {NAME}: pass another folder")
    staged = arrayrecord.build(
        inputs, out / "arrayrecord", settings, workers=workers, max_broken=max_broken, progress=progress
    )
    source = ArrayRecordSource(staged.folder, settings.arch)
    check_space(out, bytes_of(dataclasses.asdict(settings), len(source)))
    folder = _copy(source, out, progress)
    shutil.rmtree(staged.folder)
    return dataclasses.replace(staged, folder=folder)


def _copy(source: ArrayRecordSource, out: Path, progress: bool | None) -> Path:
    """Write the dataset and return its folder. Raises InputError when the disk fills up."""
    tfds.disable_progress_bar()  # the builder's own bar counts clips
    builder = GencompositorClips(
        source=source, progress=progress, data_dir=os.fspath(out), file_format="array_record"
    )
    for left in (out / NAME).glob("incomplete.*"):  # of a run that was killed
        shutil.rmtree(left)
    try:
        # Nothing is downloaded; messages of TFDS about its own progress are dropped.
        with tempfile.TemporaryDirectory() as empty, redirect_stdout(io.StringIO()):
            builder.download_and_prepare(download_dir=empty)
    except OSError as error:
        raise InputError(f"{out}: can't be written ({error}): free some space and run it again") from error
    return Path(builder.data_dir)


class TfdsSource(RecordSource):
    """The clips of such a dataset."""

    def __init__(self, folder: str | os.PathLike[str], arch: ModelArch) -> None:
        """Read the dataset's description and the first record.

        Args:
            folder: the `out` of `build`, or the version's folder in it.
            arch: the model's.

        Raises InputError if there is no such dataset, or its clips aren't of the model's size.
        """
        folder = _version_folder(Path(folder))
        try:
            split = tfds.builder_from_directory(os.fspath(folder)).info.splits[SPLIT]
        except Exception as error:  # TFDS raises many kinds
            raise InputError(f"{folder}: isn't a TFDS dataset that can be read ({error})") from error
        super().__init__(folder, arch, split.filepaths, split.shard_lengths)

    def record(self, index: int) -> Record:
        """One record, not decoded. Raises InputError that names the damaged file."""
        name = self.name(index)
        try:
            fields = dict(self._reader(0, self._open)[index])
            texts = {n: v.decode() for n, v in fields.items() if isinstance(v, bytes) and n not in BYTES}
            return clip_record.from_facts({**fields, **texts})
        except Exception as error:  # TFDS and ArrayRecord raise many kinds
            what = str(error).split(";")[0]
            raise InputError(f"{name}: {what}: copy the dataset again, or build it again") from error

    def _open(self) -> Any:
        return tfds.builder_from_directory(os.fspath(self.folder)).as_data_source(split=SPLIT)


def _version_folder(folder: Path) -> Path:
    if (folder / "dataset_info.json").is_file():
        return folder
    versions = sorted((folder / NAME).glob("*/dataset_info.json"))
    if not versions:
        raise InputError(
            f"{folder}: holds no TFDS dataset {NAME}: make one with gencompositor data build --format tfds"
        )
    return versions[-1].parent
