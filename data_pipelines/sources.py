"""Sources of procedural clips, and the function that opens any source.

`open_source(config.data, arch)` reads `data.source`:

    procedural    rendered when read                           data.followed, data.other_light
    cache         rendered once into the folder `data.path`    the same, data.clips, data.followed_clips
    videocomp     the release's training folder `data.path`    data.fps, data.start
    arrayrecord   a folder of `gencompositor data build`
    tfds          the same as a TFDS dataset

A fraction `data.followed` of the procedural clips is seen through a window that follows the element.
"""

import dataclasses
import functools
import os
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from gencompositor_jax.arch import ModelArch
from gencompositor_jax.data_pipelines.clip_cache import CacheSettings, ClipCache, build_cache
from gencompositor_jax.data_pipelines.examples import clip_arrays
from gencompositor_jax.data_pipelines.procedural import TRAINING_SEEDS, make_clip, make_followed_clip
from gencompositor_jax.data_pipelines.source import ClipArrays, ClipSource
from gencompositor_jax.errors import InputError

KINDS = ("procedural", "cache", "videocomp", "arrayrecord", "tfds")


@dataclasses.dataclass(frozen=True)
class ProceduralSource:
    """A clip per TRAINING_SEEDS, rendered when it is read: no files, and a million clips per epoch."""

    arch: ModelArch
    followed: float = 0.0  # fraction of clips seen through a window that follows the element
    other_light: float = 0.0  # fraction whose element was filmed elsewhere

    def __len__(self) -> int:
        return len(TRAINING_SEEDS)

    def name(self, index: int) -> str:
        """The seed."""
        return f"procedural clip {TRAINING_SEEDS[index]}"

    def read(self, index: int, rng: np.random.Generator, removal: bool) -> ClipArrays:
        """See `ClipSource.read`."""
        make = make_followed_clip if rng.random() < self.followed else make_clip
        size = self.arch.frames, self.arch.height, self.arch.width
        cell = self.arch.offset_cell
        clip = make(TRAINING_SEEDS[index], *size, cell=cell, other_light=self.other_light)
        return _as_sample(clip_arrays(clip, self.arch.inflation), removal)


@dataclasses.dataclass(frozen=True)
class CachedSource:
    """Clips of two cache folders (`data_pipelines.clip_cache`): whole scenes, and windows that follow.

    Record i is clip i of a cache chosen at random; the smaller cache repeats.
    """

    whole: Path
    following: Path
    followed: float  # fraction of clips from `following`

    @functools.cached_property
    def _caches(self) -> tuple[ClipCache, ClipCache]:
        return ClipCache(self.whole), ClipCache(self.following)

    def __getstate__(self) -> dict[str, Any]:
        # Without the open caches: pickling would copy their memory maps.
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def __len__(self) -> int:
        return max(map(len, self._caches))

    def name(self, index: int) -> str:
        """The folder that holds both caches, and the number."""
        return f"{self.whole.parent}: clip {index}"

    def read(self, index: int, rng: np.random.Generator, removal: bool) -> ClipArrays:
        """See `ClipSource.read`."""
        whole, following = self._caches
        cache = following if rng.random() < self.followed else whole
        clip = cache[[index % len(cache)]]
        return _as_sample({name: value[0] for name, value in clip.items()}, removal)


def _as_sample(clip: ClipArrays, removal: bool) -> ClipArrays:
    # The masked background comes from the empty scene: at inference it holds no shadow either.
    scene = clip["background"]
    sample = {
        "target": scene if removal else clip["target"],
        "scene": scene,
        "foreground": np.full_like(scene, 255) if removal else clip["foreground"],
        "mask": clip["mask"],
    }
    if "offsets" in clip:
        sample["offsets"] = np.zeros_like(clip["offsets"]) if removal else clip["offsets"]
    return sample


def build_caches(
    folder: str | os.PathLike[str],
    arch: ModelArch,
    clips: int,
    followed_clips: int,
    followed: float,
    other_light: float = 0.0,
) -> CachedSource:
    """Make the missing clips of the caches `whole` and `followed` in a folder, and open them.

    Raises InputError as `build_cache`.
    """
    whole = CacheSettings(
        clips,
        frames=arch.frames,
        height=arch.height,
        width=arch.width,
        inflation=arch.inflation,
        cell=arch.offset_cell,
        other_light=other_light,
    )
    paths = Path(folder) / "whole", Path(folder) / "followed"
    build_cache(paths[0], whole)
    build_cache(paths[1], dataclasses.replace(whole, clips=followed_clips, followed=True))
    return CachedSource(*paths, followed)


def open_source(data: ml_collections.ConfigDict, arch: ModelArch) -> ClipSource:
    """The source of a config's `data`, for a model's frames, size and inflation.

    Readers are imported when needed. Raises InputError for an unknown source, a folder without data, or data
    of another size.
    """
    if arch.offset_cell is not None and data.source in ("videocomp", "arrayrecord", "tfds"):
        raise InputError(
            f"data.source={data.source!r}: its clips don't say where the foreground is in the target, which "
            f"layout={arch.layout!r} needs; pass 'procedural' or 'cache', or another layout"
        )
    if data.source in KINDS[1:] and not data.path:
        raise InputError(f"data.path: is empty: pass the folder that data.source={data.source!r} reads")
    match data.source:
        case "procedural":
            return ProceduralSource(arch, data.followed, data.other_light)
        case "cache":
            counts = data.clips, data.followed_clips
            return build_caches(data.path, arch, *counts, data.followed, data.other_light)
        case "videocomp":
            from gencompositor_jax.data_pipelines.videocomp import VideoCompSource

            return VideoCompSource(data.path, arch, fps=data.fps, start=data.start)
        case "arrayrecord":
            from gencompositor_jax.data_pipelines.records import ArrayRecordSource

            return ArrayRecordSource(data.path, arch)
        case "tfds":
            from gencompositor_jax.data_pipelines.tfds_builder import TfdsSource

            return TfdsSource(data.path, arch)
        case unknown:
            raise InputError(f"data.source={unknown!r}: known are {', '.join(KINDS)}")
