"""From videos to records: `gencompositor data build`, by all cores, resumable, over broken inputs.

Inputs are the rows of a VideoComp folder that count, or the lines of a list (`data_pipelines.clip_list`).
Worker processes decode and encode, this process writes. A shard appears when it is whole; the next run goes
on behind the last one. `dataset.json` holds the settings and a hash of the inputs; others are refused.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from functools import partial
from itertools import islice
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from gencompositor_jax.arch import ModelArch
from gencompositor_jax.data_pipelines import clip_record, videocomp
from gencompositor_jax.data_pipelines.clip_list import ListedClip, read_list, read_listed
from gencompositor_jax.data_pipelines.clip_record import Record
from gencompositor_jax.data_pipelines.reading import read_by_pyav
from gencompositor_jax.data_pipelines.records import (
    KIND,
    NAME,
    ArrayRecordSource,
    read_facts,
    shard_writer,
    write_json,
)
from gencompositor_jax.data_pipelines.videocomp import Row
from gencompositor_jax.errors import InputError

Input = Row | ListedClip
BYTES_PER_PIXEL = 0.5  # of a record, per pixel of one of its videos; of video with a little grain
NAMED = 10  # broken inputs that a message lists


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the records of a data set depend on, besides the inputs. The defaults are the release's model."""

    frames: int = 49
    height: int = 480
    width: int = 720
    fps: float = videocomp.FPS
    quality: int = clip_record.QUALITY
    clips_per_shard: int = 128

    def check(self) -> None:
        """Raises InputError for values that nothing can be built with."""
        for name in ("frames", "height", "width", "clips_per_shard"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} {getattr(self, name)}: pass 1 or more")
        if not 0 < self.fps <= 1000:
            raise InputError(f"--fps {self.fps:g}: pass frames per second above 0, at most 1000")
        if not 1 <= self.quality <= 100:
            raise InputError(f"--quality {self.quality}: pass 1 to 100")


@dataclasses.dataclass(frozen=True)
class Built:
    """What a build came to."""

    folder: Path
    clips: int
    broken: list[dict[str, str]]  # {"input": its name, "problem": one line}


def inputs_of(
    source: Path, settings: Settings, csv_file: str | os.PathLike[str] | None = None
) -> Sequence[Input]:
    """The inputs that a VideoComp folder or a list (.csv, .jsonl) names. InputError where there are none."""
    settings.check()
    if source.is_file():
        return read_list(source)
    arch = ModelArch(frames=settings.frames, height=settings.height, width=settings.width)
    return videocomp.VideoCompSource(source, arch, fps=settings.fps, csv_file=csv_file).rows


def build(
    inputs: Sequence[Input],
    out: Path,
    settings: Settings,
    *,
    workers: int | None = None,
    max_broken: float = 0.05,
    progress: bool | None = None,
) -> Built:
    """Writes the inputs' records into `out` as ArrayRecord, or what is missing of them.

    Args:
        inputs: from `inputs_of`.
        out: made when absent; may hold an interrupted build of the same inputs and settings.
        settings: sizes, rate, quality.
        workers: processes; as many as there are cores when None, this process alone when 0.
        max_broken: share of the inputs that may be left out because they can't be read.
        progress: a bar on stderr; None: where that is a terminal.

    Raises:
        InputError: another data set is in `out`, too little room on the disk, more broken inputs than
            allowed (the message names the first), or a worker process was killed.
    """
    settings.check()
    if not 0 <= max_broken <= 1:
        raise InputError(f"--max-broken {max_broken:g}: pass a share from 0 to 1")
    if workers is not None and workers < 0:
        raise InputError(f"--workers {workers}: pass 0 or more")
    facts = {
        "kind": KIND,
        "version": clip_record.VERSION,
        "settings": dataclasses.asdict(settings),
        "inputs": _hash_of(inputs),
        "moments_of": None,
    }
    encode_one = partial(encode, settings=settings)
    return _write_shards(
        inputs, encode_one, out, facts, settings.clips_per_shard, workers, max_broken, progress
    )


def build_tfds(
    inputs: Sequence[Input],
    out: Path,
    settings: Settings,
    *,
    workers: int | None = None,
    max_broken: float = 0.05,
    progress: bool | None = None,
) -> Built:
    """The same as a TFDS dataset, `out`/gencompositor_clips/VERSION.

    Records are built as `build` does in `out`/arrayrecord, resumably, copied, and deleted there when the
    dataset is complete. Meanwhile the disk holds all of it twice.
    """
    from gencompositor_jax.data_pipelines import tfds_builder  # half a second

    tfds_builder.check_absent(out)
    staged = build(
        inputs, out / "arrayrecord", settings, workers=workers, max_broken=max_broken, progress=progress
    )
    arch = ModelArch(frames=settings.frames, height=settings.height, width=settings.width)
    source = ArrayRecordSource(staged.folder, arch)
    _check_space(out, dataclasses.asdict(settings), len(source))
    folder = tfds_builder.write(source, out, progress)
    shutil.rmtree(staged.folder)
    return dataclasses.replace(staged, folder=folder)


def add_moments(
    folder: Path,
    out: Path,
    arch: ModelArch,
    encode_video: Callable[[np.ndarray], np.ndarray],
    moments_of: str,
    progress: bool | None = None,
) -> Built:
    """A copy of a data set whose records also hold the VAE's moments, in this process; resumable.

    Args:
        folder: a complete data set.
        out: another folder.
        arch: the model's.
        encode_video: uint8 [T, H, W, 3] -> moments [t, h, w, 2C], mean and logarithm of variance.
        moments_of: what they were made with; a source says it as its `moments_of`.
        progress: a bar on stderr; None: where that is a terminal.

    Moments are those of the frames as stored: no augmentation may change the target's pixels.
    """
    source = ArrayRecordSource(folder, arch)
    facts = read_facts(folder)
    per_shard = facts["settings"]["clips_per_shard"]
    there = {name: facts[name] for name in ("kind", "version", "settings", "inputs")}

    def copied(index: int) -> bytes:
        record = source.record(index)
        target = encode_video(clip_record.pictures(record, "target"))
        empty = encode_video(clip_record.pictures(record, "background")) if record.background else None
        return clip_record.to_bytes(clip_record.with_moments(record, target, empty))

    wanted = {**there, "moments_of": moments_of}
    return _write_shards(range(len(source)), copied, out, wanted, per_shard, 0, 0.0, progress)


def encode(item: Input, settings: Settings) -> bytes:
    """The bytes of one input's record. Raises InputError, naming the file, where it is broken."""
    return clip_record.to_bytes(record_of(item, settings))


def record_of(item: Input, settings: Settings) -> Record:
    """One input's record; videos are decoded by PyAV, which notices damage."""
    size = (settings.height, settings.width)
    if isinstance(item, ListedClip):
        clip = read_listed(item, settings.frames, size, settings.fps)
        name, fps, background = item.name, settings.fps, clip.get("background")
    else:
        numbers = videocomp.frame_numbers(item, settings.frames, settings.fps)
        clip = videocomp.read_clip(item, numbers, size, False, read_by_pyav)
        background = videocomp.read_clip(item, numbers, size, True, read_by_pyav)["target"]
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


def _write_shards(
    inputs: Sequence[Any],
    encode_one: Callable[[Any], bytes],
    out: Path,
    facts: dict[str, Any],
    per_shard: int,
    workers: int | None,
    max_broken: float,
    progress: bool | None,
) -> Built:
    """Makes the shards of `inputs` that aren't there, and dataset.json with the list of all."""
    _make_folder(out, facts)
    for left in out.glob(".*.part"):  # of a run that was killed
        left.unlink()
    count = -(-len(inputs) // per_shard)
    paths = [out / f"clips-{n:05d}-of-{count:05d}.arrayrecord" for n in range(count)]
    parts = [inputs[n * per_shard : (n + 1) * per_shard] for n in range(count)]
    shards = [_finished_shard(path) for path in paths]
    todo = [n for n in range(count) if shards[n] is None]
    _check_space(out, facts["settings"], sum(len(parts[n]) for n in todo))
    write_json(out / NAME, facts)
    broken = [entry for shard in shards if shard is not None for entry in shard["broken"]]
    done = len(inputs) - sum(len(parts[n]) for n in todo)
    results = _outcomes((item for n in todo for item in parts[n]), encode_one, workers)
    with (
        closing(results),
        tqdm(
            total=len(inputs),
            initial=done,
            unit="clip",
            desc="building",
            disable=None if progress is None else not progress,
        ) as bar,
    ):
        for n in todo:
            left_out = []
            with shard_writer(paths[n]) as write:
                for name, data, problem in islice(results, len(parts[n])):
                    if problem is not None:
                        left_out.append({"input": name, "problem": problem})
                        _check_share(broken + left_out, len(inputs), max_broken)
                    else:
                        write(data)
                    bar.update()
            broken += left_out
            shards[n] = {
                "file": paths[n].name,
                "clips": len(parts[n]) - len(left_out),
                "bytes": paths[n].stat().st_size,
                "broken": left_out,
            }
            write_json(paths[n].with_suffix(".json"), shards[n])
    _check_share(broken, len(inputs), max_broken)
    whole = [shard for shard in shards if shard is not None]
    listed = [{k: shard[k] for k in ("file", "clips", "bytes")} for shard in whole]
    clips = sum(shard["clips"] for shard in whole)
    write_json(out / NAME, {**facts, "clips": clips, "shards": listed, "broken": broken})
    return Built(out, clips, broken)


def _outcomes(
    items: Iterable[Any], encode_one: Callable[[Any], bytes], workers: int | None
) -> Generator[tuple[str, bytes, str | None], None, None]:
    """(name, record's bytes, None) or (name, nothing, what is wrong) of each item, in order."""
    attempt = partial(_attempt, encode_one=encode_one)
    if workers == 0:
        yield from map(attempt, items)
        return
    workers = workers or os.cpu_count() or 1
    # Spawned, not forked: JAX may already run threads in this process.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker)
    waiting: deque[Future[tuple[str, bytes, str | None]]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(attempt, item))
            if len(waiting) > 2 * workers:  # no more records in memory than that
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise InputError(
            "a worker process was killed, perhaps for its memory: pass fewer --workers; what is built stays"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    cv2.setNumThreads(1)  # there is a process per core already
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process when its parent is gone: killed, it can't tell its workers."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _attempt(item: Any, encode_one: Callable[[Any], bytes]) -> tuple[str, bytes, str | None]:
    name = getattr(item, "name", str(item))
    try:
        return name, encode_one(item), None
    except InputError as error:
        return name, b"", " ".join(str(error).split())


def _check_share(broken: list[dict[str, str]], inputs: int, max_broken: float) -> None:
    if len(broken) > max_broken * inputs:
        some = "; ".join(entry["problem"] for entry in broken[:NAMED])
        more = f"; and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
        raise InputError(
            f"{len(broken)} of {inputs} inputs are broken, more than --max-broken {max_broken:g} allows: "
            f"{some}{more}"
        )


def _make_folder(out: Path, facts: dict[str, Any]) -> None:
    """Raises InputError where the folder can't be made or holds anything but a part of this data set."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: can't be made ({error.strerror}): pass another folder") from error
    if (out / NAME).exists():
        there = read_facts(out)
        changed = {
            f"{name} {there['settings'].get(name)} there, {value} asked"
            for name, value in facts["settings"].items()
            if there["settings"].get(name) != value
        }
        if there["inputs"] != facts["inputs"]:
            changed.add("other inputs")
        if there["moments_of"] != facts["moments_of"]:
            changed.add("other moments")
        if changed:
            raise InputError(
                f"{out}: holds a data set of other settings ({', '.join(sorted(changed))}): "
                "pass those, or another folder"
            )
    elif any(path.suffix != ".part" for path in out.iterdir()):
        raise InputError(f"{out}: holds other files: pass a new or empty folder")


def _finished_shard(path: Path) -> dict[str, Any] | None:
    """What is written beside a whole shard; None where there is none or it isn't as it was written."""
    try:
        shard: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        return shard if path.stat().st_size == shard["bytes"] else None
    except (OSError, ValueError, KeyError):
        return None


def _check_space(out: Path, settings: dict[str, Any], clips: int) -> None:
    need = clips * settings["frames"] * settings["height"] * settings["width"] * BYTES_PER_PIXEL
    free = shutil.disk_usage(out).free
    if need > free:
        raise InputError(
            f"{out}: about {need / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free: pass a folder elsewhere"
        )


def _hash_of(inputs: Sequence[Input]) -> str:
    """Of everything but the folder, which may move."""
    digest = hashlib.sha256()
    for item in inputs:
        fields = [(f.name, getattr(item, f.name)) for f in dataclasses.fields(item) if f.name != "folder"]
        digest.update(repr(fields).encode())
    return digest.hexdigest()
