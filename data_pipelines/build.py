"""From videos to records: what `gencompositor data build` and `data moments` write.

Inputs are the rows of a VideoComp folder that meet its conditions, or the lines of a list
(`data_pipelines.clip_list`). How they become shards is in `data_pipelines.shards`.
"""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from gencompositor_jax.arch import ModelArch
from gencompositor_jax.data_pipelines import clip_record, videocomp
from gencompositor_jax.data_pipelines.clip_list import ListedClip, read_list, read_listed
from gencompositor_jax.data_pipelines.clip_record import Record
from gencompositor_jax.data_pipelines.records import KIND, ArrayRecordSource, read_facts
from gencompositor_jax.data_pipelines.shards import Built, write_shards
from gencompositor_jax.data_pipelines.videocomp import Row
from gencompositor_jax.data_pipelines.workers import MAX_WORKERS
from gencompositor_jax.errors import InputError

Input = Row | ListedClip


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the records of a data set depend on, besides the inputs. The defaults fit the release's model."""

    frames: int = 49
    height: int = 480
    width: int = 720
    fps: float = videocomp.FPS
    quality: int = clip_record.QUALITY
    clips_per_shard: int = 128

    def check(self) -> None:
        """Raise InputError for values out of their range."""
        highest = {"frames": 10**5, "height": 2**14, "width": 2**14, "clips_per_shard": 10**6}
        for name, most in highest.items():
            if not 1 <= getattr(self, name) <= most:
                raise InputError(f"--{name.replace('_', '-')} {getattr(self, name)}: pass 1 to {most}")
        if not 0 < self.fps <= 1000:
            raise InputError(f"--fps {self.fps:g}: pass frames per second above 0, at most 1000")
        if not 1 <= self.quality <= 100:
            raise InputError(f"--quality {self.quality}: pass 1 to 100")

    @property
    def arch(self) -> ModelArch:
        """A model of these frames and sizes."""
        return ModelArch(frames=self.frames, height=self.height, width=self.width)


def inputs_of(
    source: Path, settings: Settings, csv_file: str | os.PathLike[str] | None = None
) -> Sequence[Input]:
    """The inputs of a VideoComp folder or a list (.csv, .jsonl). Raises InputError if there are none."""
    settings.check()
    if source.is_file():
        return read_list(source)
    return videocomp.VideoCompSource(source, settings.arch, fps=settings.fps, csv_file=csv_file).rows


def build(
    inputs: Sequence[Input],
    out: Path,
    settings: Settings,
    *,
    workers: int | None = None,
    max_broken: float = 0.05,
    progress: bool | None = None,
) -> Built:
    """Write the inputs' records into `out` as ArrayRecord; resume an interrupted build.

    Args:
        inputs: from `inputs_of`.
        out: made when absent; may hold an interrupted build of the same inputs and settings.
        settings: sizes, rate, quality.
        workers: processes; one per core when None, this process alone when 0.
        max_broken: fraction of the inputs, 0 to 1, that may be left out because they can't be read.
        progress: a bar on stderr; None: where that is a terminal.

    Raises:
        InputError: an argument is out of its range; else as `write_shards`.
    """
    settings.check()
    if not 0 <= max_broken <= 1:
        raise InputError(f"--max-broken {max_broken:g}: pass a fraction from 0 to 1")
    if workers is not None and not 0 <= workers <= MAX_WORKERS:
        raise InputError(f"--workers {workers}: pass 0 to {MAX_WORKERS}")
    facts = {
        "kind": KIND,
        "version": clip_record.VERSION,
        "settings": dataclasses.asdict(settings),
        "inputs": _hash_of(inputs),
        "moments_of": None,
    }
    encode_one = partial(encode, settings=settings)
    return write_shards(
        inputs, encode_one, out, facts, workers=workers, max_broken=max_broken, progress=progress
    )


def add_moments(
    folder: Path,
    out: Path,
    arch: ModelArch,
    encode_video: Callable[[np.ndarray], np.ndarray],
    moments_of: str,
    progress: bool | None = None,
) -> Built:
    """Copy a data set and add the VAE's moments to its records, in this process; resumable.

    Args:
        folder: a complete data set.
        out: another folder.
        arch: the model's.
        encode_video: uint8 [T, H, W, 3] -> moments [t, h, w, 2C], mean and logarithm of variance.
        moments_of: identifies the VAE; `ArrayRecordSource.moments_of` returns it.
        progress: a bar on stderr; None: where that is a terminal.

    Moments are those of the stored frames: no augmentation may change the target's pixels.
    """
    source = ArrayRecordSource(folder, arch)
    facts = read_facts(folder)
    kept = {name: facts[name] for name in ("kind", "version", "settings", "inputs")}

    def copied(index: int) -> bytes:
        record = source.record(index)
        target = encode_video(clip_record.pictures(record, "target"))
        empty = encode_video(clip_record.pictures(record, "background")) if record.background else None
        return clip_record.to_bytes(clip_record.with_moments(record, target, empty))

    wanted = {**kept, "moments_of": moments_of}
    return write_shards(range(len(source)), copied, out, wanted, workers=0, max_broken=0.0, progress=progress)


def encode(item: Input, settings: Settings) -> bytes:
    """The bytes of one input's record. Raises InputError, naming the file, if it is broken."""
    return clip_record.to_bytes(record_of(item, settings))


def record_of(item: Input, settings: Settings) -> Record:
    """One input's record; videos are decoded by PyAV, which reports damage."""
    size = (settings.height, settings.width)
    if isinstance(item, ListedClip):
        clip = read_listed(item, settings.frames, size, settings.fps)
        name, fps, background = item.name, settings.fps, clip.get("background")
    else:
        numbers = videocomp.frame_numbers(item, settings.frames, settings.fps)
        clip = videocomp.read_clip(item, numbers, size, False)
        background = videocomp.read_clip(item, numbers, size, True)["target"]
        name, fps = item.name, item.fps / videocomp.stride(item.fps, settings.fps)
    return clip_record.encode(
        name=name,
        caption=item.caption,
        fps=fps,
        target=clip["target"],
        background=background,
        foreground=clip["foreground"],
        mask=clip["mask"],
        mask_is="silhouette" if isinstance(item, ListedClip) else "region",
        quality=settings.quality,
    )


def _hash_of(inputs: Sequence[Input]) -> str:
    """Of everything but the folder, which may move."""
    digest = hashlib.sha256()
    for item in inputs:
        fields = [(f.name, getattr(item, f.name)) for f in dataclasses.fields(item) if f.name != "folder"]
        digest.update(repr(fields).encode())
    return digest.hexdigest()
