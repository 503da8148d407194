"""A folder of procedural clips: made beforehand on all cores, read by index from memory-mapped files.

    PYTHONPATH=. python -m gencompositor_jax.data_pipelines.clip_cache FOLDER --clips 4096

A shard of SHARD clips is one file, uint8 [n, T, H, W, 10]: target, background, foreground (3 channels each)
and a channel whose bits are the target region and the silhouette. A shard appears under its name when it is
complete, so an interrupted run resumes with the next one. `cache.json` holds the settings; a run with other
settings is refused. Cost: T * H * W * 10 bytes a clip (0.55 MB at 9 x 64 x 96). With a `cell` each shard has
a second file, the clips' offsets, int32 [n, t, 2], which is written first.
"""

import argparse
import dataclasses
import json
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from gencompositor_jax import fields
from gencompositor_jax.arch import Inflation, Side, tiny
from gencompositor_jax.controls.geometry.offsets import Cell
from gencompositor_jax.data_pipelines.examples import PlainClip, clip_arrays
from gencompositor_jax.data_pipelines.procedural import TRAINING_SEEDS, make_clip, make_followed_clip
from gencompositor_jax.data_pipelines.workers import in_order, progress_bar
from gencompositor_jax.errors import InputError
from gencompositor_jax.fields import Flag, Number, Whole, checked, within
from gencompositor_jax.files import atomic_write, atomic_write_text, check_local, check_space, read_json
from gencompositor_jax.npy import read_npy

VERSION = 1  # raise it when clips of one seed change
SHARD = 64
CHANNELS = 10
REGION_BIT, SILHOUETTE_BIT = 1, 2


@checked
@dataclasses.dataclass(frozen=True)
class CacheSettings:
    """What the clips of a cache depend on; `clips` may grow later."""

    clips: Annotated[Whole, within(0, 10**9)]
    first_seed: Annotated[Whole, within(0, 2**62)] = TRAINING_SEEDS.start
    frames: Annotated[Whole, within(1, 10**5)] = 9
    height: Side = 64
    width: Side = 96
    inflation: Inflation = dataclasses.field(default_factory=lambda: tiny().inflation)
    followed: Flag = False  # clips seen through a window that follows the element
    cell: Cell | None = None  # of a token, for clips with offsets: `ModelArch.offset_cell`
    # Probability that a clip's element was filmed elsewhere: see `procedural.make_clip`.
    other_light: Annotated[Number, within(0, 1)] = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one clip's file."""
        return self.frames, self.height, self.width, CHANNELS

    @property
    def shards(self) -> int:
        """Number of files."""
        return -(-self.clips // SHARD)

    def to_json(self) -> dict[str, Any]:
        """The contents of `cache.json`."""
        return {"version": VERSION, "shard": SHARD, **dataclasses.asdict(self)}


class ClipCache:
    """Clips of a cache folder by index: `len(cache)`; `cache[[3, 1, 4]]` has a leading axis of 3."""

    def __init__(self, folder: str | Path) -> None:
        """Open a complete cache. Raises InputError if there is none or shards are missing."""
        self.folder = Path(folder)
        self.settings = read_settings(self.folder)
        missing = [i for i in range(self.settings.shards) if not shard_path(self.folder, i).exists()]
        if missing:
            raise InputError(
                f"{folder}: {len(missing)} of {self.settings.shards} shards are missing; "
                "make it again with python -m gencompositor_jax.data_pipelines.clip_cache"
            )
        self._shards = [read_npy(shard_path(self.folder, i)) for i in range(self.settings.shards)]
        with_offsets = range(0 if self.settings.cell is None else self.settings.shards)
        self._offsets = [read_npy(offsets_path(self.folder, i)) for i in with_offsets]
        for i, shard in enumerate(self._shards):
            wanted = (_shard_size(self.settings, i), *self.settings.shape)
            if shard.shape[0:1] < wanted[0:1] or shard.shape[1:] != wanted[1:] or shard.dtype != np.uint8:
                raise InputError(f"{shard_path(self.folder, i)}: {shard.dtype} {shard.shape}, not {wanted}")

    def __len__(self) -> int:
        return self.settings.clips

    def __getitem__(self, indices: np.ndarray | list[int]) -> PlainClip:
        """Copy the clips of a list of indices, 0 to len - 1, in its order."""
        numbers = np.asarray(indices, np.int64)
        if numbers.ndim != 1 or ((numbers < 0) | (numbers >= len(self))).any():
            raise IndexError(f"pass a list of indices from 0 to {len(self) - 1}")
        clips = unpack(np.stack([self._shards[i // SHARD][i % SHARD] for i in numbers]))
        if self.settings.cell is not None:
            clips["offsets"] = np.stack([self._offsets[i // SHARD][i % SHARD] for i in numbers])
        return clips


def build_cache(
    folder: str | Path, settings: CacheSettings, workers: int | None = None, progress: bool = True
) -> ClipCache:
    """Make the missing shards and open the cache.

    Args:
        folder: made when absent; may hold an interrupted or smaller cache of the same settings.
        settings: the clips.
        workers: processes; one per core when None, this process alone when 0.
        progress: shows a bar on stderr.

    Raises:
        InputError: the folder holds clips of other settings, the disk has too little space, or a worker
            process was killed.
    """
    folder = Path(folder)
    check_local(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: can't be made ({error.strerror}): pass another folder") from error
    _check_same(folder, settings)
    todo = [i for i in range(settings.shards) if _clips_in(folder, i) != _shard_size(settings, i)]
    if todo:
        clip_bytes = settings.frames * settings.height * settings.width * CHANNELS
        check_space(folder, len(todo) * SHARD * clip_bytes)
    atomic_write_text(folder / "cache.json", json.dumps(settings.to_json(), indent=1))
    done = settings.clips - sum(_shard_size(settings, i) for i in todo)
    made = in_order(partial(make_shard, folder, settings), todo, workers)
    shown = progress and bool(todo)
    with closing(made), progress_bar(settings.clips, "procedural clips", shown, done) as bar:
        for clips in made:
            bar.update(clips)
    return ClipCache(folder)


def make_shard(folder: Path, settings: CacheSettings, index: int) -> int:
    """Make and write one shard; return the number of its clips."""
    first = settings.first_seed + index * SHARD
    seeds = range(first, first + _shard_size(settings, index))
    size = settings.frames, settings.height, settings.width
    make = make_followed_clip if settings.followed else make_clip
    cell, other_light = settings.cell, settings.other_light
    clips_of = (make(seed, *size, cell=cell, other_light=other_light) for seed in seeds)
    made = [clip_arrays(clip, settings.inflation) for clip in clips_of]
    clips = np.stack([pack(arrays) for arrays in made])
    if settings.cell is not None:
        with atomic_write(offsets_path(folder, index), overwrite=True) as part, part.open("wb") as file:
            np.save(file, np.stack([arrays["offsets"] for arrays in made]))
    with atomic_write(shard_path(folder, index), overwrite=True) as part, part.open("wb") as file:
        np.save(file, clips)
    return len(clips)


def pack(arrays: PlainClip) -> np.ndarray:
    """uint8 [..., T, H, W, 10] of a clip's arrays."""
    bits = arrays["mask"] * np.uint8(REGION_BIT) + arrays["silhouette"] * np.uint8(SILHOUETTE_BIT)
    return np.concatenate([arrays["target"], arrays["background"], arrays["foreground"], bits[..., None]], -1)


def unpack(packed: np.ndarray) -> PlainClip:
    """Inverse of `pack`; the frames are views."""
    bits = packed[..., 9]
    return PlainClip(
        target=packed[..., 0:3],
        background=packed[..., 3:6],
        foreground=packed[..., 6:9],
        mask=(bits & REGION_BIT) > 0,
        silhouette=(bits & SILHOUETTE_BIT) > 0,
    )


def shard_path(folder: Path, index: int) -> Path:
    """The file of a shard."""
    return folder / f"clips-{index:06d}.npy"


def offsets_path(folder: Path, index: int) -> Path:
    """The file of a shard's offsets."""
    return folder / f"offsets-{index:06d}.npy"


def read_settings(folder: Path) -> CacheSettings:
    """Settings of the cache in a folder. Raises InputError if there is none, or one of another version."""
    file = folder / "cache.json"
    try:
        found = fields.read(dict[str, Any], read_json(file), str(file))
        version, shard = found.pop("version", None), found.pop("shard", None)
        settings: CacheSettings = fields.read(CacheSettings, found, str(file))
    except InputError as error:
        raise InputError(
            f"{folder}: holds no clip cache ({error}); make one with "
            "python -m gencompositor_jax.data_pipelines.clip_cache"
        ) from error
    if (version, shard) != (VERSION, SHARD):
        raise InputError(
            f"{folder}: holds clips of version {fields.shown(version)}, this release makes version "
            f"{VERSION}; use another folder"
        )
    return settings


def _check_same(folder: Path, settings: CacheSettings) -> None:
    if (folder / "cache.json").exists():
        found = read_settings(folder)
        if dataclasses.replace(found, clips=settings.clips) != settings:
            raise InputError(f"{folder}: holds clips of other settings ({found}); use another folder")
    elif any(folder.glob("clips-*.npy")):
        raise InputError(f"{folder}: holds clips without their cache.json; use another folder")


def _shard_size(settings: CacheSettings, index: int) -> int:
    return min(SHARD, settings.clips - index * SHARD)


def _clips_in(folder: Path, index: int) -> int:
    path = shard_path(folder, index)
    return len(read_npy(path)) if path.exists() else 0


def main() -> None:
    """Command line: makes or completes a cache."""
    parser = argparse.ArgumentParser(description="Pre-generate procedural training clips.")
    parser.add_argument("folder")
    parser.add_argument("--clips", type=int, default=4096)
    parser.add_argument("--first-seed", type=int, default=TRAINING_SEEDS.start)
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--height", type=int, default=64)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--workers", type=int, default=None)
    args = parser.parse_args()
    settings = CacheSettings(args.clips, args.first_seed, args.frames, args.height, args.width)
    try:
        build_cache(args.folder, settings, args.workers)
    except InputError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
