"""The procedural benchmark: version 1, 256 held-out clips.

Clip n is `data_pipelines.examples.held_out_example(n)`, 9 frames of 64 x 96. Every clip has all that the
method's ideas are for; `benchmark.json` says how much of each, and lists the half of the clips with most:

    relit     gamma augmentation: the foreground's light differs from the target's
    shadow    mask inflation: light that the shadow takes outside the silhouette
    mask      imprecise masks: how far the given target region is from the true one
    offset    ERoPE: the element's distance from the centre, where the foreground shows it
    texture   the background branch: contrast of the scene in the target region

`benchmark_files` writes it as folders.
"""

from pathlib import Path
from typing import Any

import numpy as np

from gencompositor_jax.arch import tiny
from gencompositor_jax.controls.geometry.offsets import Cell
from gencompositor_jax.data_pipelines.examples import TestExample, held_out_example
from gencompositor_jax.errors import InputError
from gencompositor_jax.fields import read
from gencompositor_jax.files import read_json
from gencompositor_jax.masks.inflation import inflate

VERSION = 1
CLIPS = 256
FRAMES, HEIGHT, WIDTH = 9, 64, 96
INFLATION = tiny().inflation
MANIFEST = "benchmark.json"
IDEAS = ("relit", "shadow", "mask", "offset", "texture")


def example(number: int, cell: Cell | None = None) -> TestExample:
    """Clip `number` of the benchmark; cell: see `held_out_example`."""
    return held_out_example(number, INFLATION, FRAMES, HEIGHT, WIDTH, cell)


def ideas(clip: TestExample) -> dict[str, float]:
    """How much a clip has of each of IDEAS; more is harder."""
    silhouette = clip["silhouette"]
    region = inflate(silhouette, INFLATION)
    around, inner = region & ~silhouette, silhouette if silhouette.any() else region
    union = (region | clip["mask"]).sum()
    return {
        "relit": _rms(clip["paste"], clip["target"], inner),
        "shadow": _rms(clip["background"], clip["target"], around),
        "mask": 1 - float((region & clip["mask"]).sum() / max(union, 1)),
        "offset": _distance_from_centre(silhouette),
        "texture": float(clip["background"][region].std()) if region.any() else 0.0,
    }


def name_of(number: int) -> str:
    """A clip's VIDEO or NAME."""
    return f"{number:04d}"


def manifest(facts: list[dict[str, Any]]) -> dict[str, Any]:
    """The content of `benchmark.json`: version, sizes, ideas by clip, and the half of the clips by idea."""
    half = (len(facts) + 1) // 2
    most = {
        idea: sorted(f["name"] for f in sorted(facts, key=lambda f: (-f[idea], f["name"]))[:half])
        for idea in IDEAS
    }
    return {
        "version": VERSION,
        "frames": FRAMES,
        "height": HEIGHT,
        "width": WIDTH,
        "clips": facts,
        "subsets": most,
    }


def read_subsets(folder: Path) -> dict[str, list[str]]:
    """The names of the clips with most of each idea. Raises InputError for a folder that isn't a benchmark's,
    or another version's.
    """
    if not (folder / MANIFEST).is_file():
        raise InputError(f"{folder}: has no {MANIFEST}: write it with gencompositor data procedural")
    content = read_json(folder / MANIFEST)
    version = content.get("version") if isinstance(content, dict) else None
    if version != VERSION:
        raise InputError(
            f"{folder / MANIFEST}: version {version!r}; this release reads {VERSION}: write it again"
        )
    subsets: dict[str, list[str]] = read(
        dict[str, list[str]], content.get("subsets"), f"{folder / MANIFEST}: subsets"
    )
    return subsets


def _rms(a: np.ndarray, b: np.ndarray, region: np.ndarray) -> float:
    if not region.any():
        return 0.0
    return float(np.sqrt(((a[region].astype(np.float64) - b[region]) ** 2).mean()))


def _distance_from_centre(silhouette: np.ndarray) -> float:
    """The largest of the mean distances along x and y, as a fraction of the frame's side."""
    t, y, x = np.nonzero(silhouette)
    if not len(t):
        return 0.0
    height, width = silhouette.shape[1:]
    return max(abs(x.mean() - (width - 1) / 2) / width, abs(y.mean() - (height - 1) / 2) / height)
