"""The procedural benchmark as folders of files, for any method: version 1, 256 held-out clips.

Clip n is `data_pipelines.examples.held_out_example(n)`, 9 frames of 64 x 96. Every clip has all that the
method's ideas are for; `benchmark.json` says how much of each, and lists the half of the clips with most:

    relit     gamma augmentation: the foreground's light differs from the target's
    shadow    mask inflation: light that the shadow takes outside the silhouette
    mask      imprecise masks: how far the given target region is from the true one
    offset    ERoPE: the element's distance from the centre, where the foreground shows it
    texture   the background branch: contrast of the scene in the target region

Layout `hyoutube`, images or videos (VIDEO is the clip's number):

    FOLDER/Ground-truth/VIDEO/    the target            Composite/VIDEO/object_0/    the plain paste
           Mask/VIDEO/object_0/   the silhouette        test_list.txt, benchmark.json
           Background/VIDEO/, Foreground/VIDEO/object_0/, Region/VIDEO/object_0/     inputs of a compositor

Layout `videocomp`: the release's training folder (`data_pipelines.videocomp`), with videos of 8 frames per
second, 4:2:0. Its `fg` is the relit element, as in `Foreground`.
"""

import csv
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gencompositor_jax.arch import tiny
from gencompositor_jax.controls.geometry.offsets import Cell
from gencompositor_jax.controls.media.video_out import write_image_folder, write_video
from gencompositor_jax.data_pipelines import videocomp
from gencompositor_jax.data_pipelines.examples import TestExample, held_out_example
from gencompositor_jax.data_pipelines.procedural import HELD_OUT_SEED
from gencompositor_jax.errors import InputError
from gencompositor_jax.fields import read
from gencompositor_jax.files import atomic_folder, check_new_folder, read_json
from gencompositor_jax.masks.inflation import inflate

VERSION = 1
CLIPS = 256
FRAMES, HEIGHT, WIDTH = 9, 64, 96
INFLATION = tiny().inflation
OBJECT = "object_0"
MANIFEST = "benchmark.json"
IDEAS = ("relit", "shadow", "mask", "offset", "texture")
FPS = 8.0
CRF = 8  # of x264: nearly all of what remains of the error is 4:2:0's
SQUARE = 76  # pixels: side of `fg`; to 64 as the release's 576 are to 480

Layout = Literal["hyoutube", "videocomp"]
Media = Literal["png", "mp4"]


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


def write(
    folder: Path, layout: Layout, clips: int = CLIPS, media: Media = "png", overwrite: bool = False
) -> None:
    """Write the first clips of the benchmark; the folder appears when it is complete.

    Raises InputError for a number of clips beyond the benchmark's, images in layout `videocomp`, or a folder
    that can't be written.
    """
    if not 1 <= clips <= CLIPS:
        raise InputError(
            f"--clips {clips}: version {VERSION} of the benchmark has {CLIPS}; pass 1 to {CLIPS}"
        )
    if layout == "videocomp" and media == "png":
        raise InputError("--format png: the layout videocomp holds videos; pass --format mp4")
    check_new_folder(folder, overwrite, MANIFEST)
    with atomic_folder(folder, overwrite) as part:
        facts: list[dict[str, Any]] = []
        for number in range(clips):
            clip = example(number)
            facts.append({"name": name_of(number), "seed": HELD_OUT_SEED + number, **_rounded(ideas(clip))})
            if layout == "hyoutube":
                _write_hyoutube(part, name_of(number), clip, media)
            else:
                _write_videocomp(part, name_of(number), clip)
        if layout == "hyoutube":
            lines = [
                f"Ground-truth/{f['name']} Mask/{f['name']}/{OBJECT} Composite/{f['name']}/{OBJECT}"
                for f in facts
            ]
            (part / "test_list.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        else:
            _write_rows(part, [f["name"] for f in facts])
        (part / MANIFEST).write_text(json.dumps(manifest(facts), indent=1) + "\n", encoding="utf-8")


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


def _write_hyoutube(folder: Path, name: str, clip: TestExample, media: Media) -> None:
    for place, frames in {
        f"Ground-truth/{name}": clip["target"],
        f"Composite/{name}/{OBJECT}": clip["paste"],
        f"Mask/{name}/{OBJECT}": _grey(clip["silhouette"]),
        f"Background/{name}": clip["background"],
        f"Foreground/{name}/{OBJECT}": clip["foreground"],
        f"Region/{name}/{OBJECT}": _grey(clip["mask"]),
    }.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        if media == "png":
            write_image_folder(path, frames)
        else:
            write_video(path.with_name(path.name + ".mp4"), frames, FPS, crf=CRF)


def _write_videocomp(folder: Path, name: str, clip: TestExample) -> None:
    region = inflate(clip["silhouette"], INFLATION)
    videos = {
        videocomp.TARGET: clip["target"],
        videocomp.FOREGROUND: _square(clip["foreground"]),
        videocomp.MASK: _grey(region),
        videocomp.MASKED: np.where(region[..., None], 0, clip["target"]).astype(np.uint8),
        videocomp.BACKGROUND: clip["background"],
    }
    for kind, frames in videos.items():
        (folder / kind).mkdir(exist_ok=True)
        write_video(folder / kind / f"{name}.mp4", frames, FPS, crf=CRF)


def _write_rows(folder: Path, names: list[str]) -> None:
    white = np.full((FRAMES, SQUARE, SQUARE, 3), 255, np.uint8)
    write_video(folder / videocomp.WHITE_VIDEO, white, FPS, crf=CRF)
    caption = "Clip {} of the procedural benchmark: an element moves through a scene, in its light."
    with open(folder / "benchmark.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [videocomp.COLUMNS, *([f"{name}.mp4", 0, FRAMES, FPS, caption.format(name)] for name in names)]
        )


def _square(frames: np.ndarray) -> np.ndarray:
    """The centre of foreground frames [T, H, W, 3] on a white square of SQUARE pixels."""
    out = np.full((len(frames), SQUARE, SQUARE, 3), 255, np.uint8)
    height, width = frames.shape[1:3]
    rows, columns = min(height, SQUARE), min(width, SQUARE)
    top, left = (SQUARE - rows) // 2, (SQUARE - columns) // 2
    y, x = (height - rows) // 2, (width - columns) // 2
    out[:, top : top + rows, left : left + columns] = frames[:, y : y + rows, x : x + columns]
    return out


def _grey(mask: np.ndarray) -> np.ndarray:
    return np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=-1)


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


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in values.items()}
