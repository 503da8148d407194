"""The procedural benchmark (`benchmark`) as folders of files, for any method.

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

from gencompositor_jax.controls.media.video_out import write_image_folder, write_video
from gencompositor_jax.data_pipelines import benchmark, videocomp
from gencompositor_jax.data_pipelines.benchmark import CLIPS, FRAMES, INFLATION, MANIFEST, VERSION, name_of
from gencompositor_jax.data_pipelines.examples import TestExample
from gencompositor_jax.data_pipelines.procedural import HELD_OUT_SEED
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import atomic_folder, check_new_folder
from gencompositor_jax.masks.inflation import inflate

OBJECT = "object_0"
FPS = 8.0
CRF = 8  # of x264: nearly all of what remains of the error is 4:2:0's
SQUARE = 76  # pixels: side of `fg`; to 64 as the release's 576 are to 480

Layout = Literal["hyoutube", "videocomp"]
Media = Literal["png", "mp4"]


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
            clip = benchmark.example(number)
            facts.append(
                {"name": name_of(number), "seed": HELD_OUT_SEED + number, **_rounded(benchmark.ideas(clip))}
            )
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
        (part / MANIFEST).write_text(json.dumps(benchmark.manifest(facts), indent=1) + "\n", encoding="utf-8")


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


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in values.items()}
