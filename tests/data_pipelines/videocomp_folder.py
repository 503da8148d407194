"""Makes a small folder as the PyTorch release's training data: moving textures, a disc that crosses them."""

import csv
import shutil
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from gencompositor_jax.controls.media.video_out import write_video

CAPTION = "A soft red disc crosses a moving texture of many colours, from left to right."
FOLDERS = ("GTs", "fg", "filtered_mask", "filtered_masked_video", "inpainted_sum")
COLUMNS = ("path", "start_frame", "end_frame", "fps", "caption")


def clip(
    seed: int, frames: int, size: tuple[int, int], square: int, grain: float = 0.0
) -> dict[str, np.ndarray]:
    """uint8 RGB videos by folder: [frames, H, W, 3], `fg` [frames, square, square, 3]."""
    height, width = size
    rng = np.random.default_rng(seed)
    texture = _texture(rng, height + frames, width + 2 * frames)
    inpainted = np.stack([texture[t : t + height, 2 * t : 2 * t + width] for t in range(frames)])
    if grain:
        noise = rng.normal(0, grain, (4, height, width, 1))
        for t in range(frames):
            inpainted[t] = np.clip(inpainted[t] + noise[rng.integers(4)], 0, 255)
    radius = min(size) / rng.uniform(4.5, 9)
    colour = rng.integers(0, 200, 3).tolist()
    x0, y0, vx = width * rng.uniform(0.3, 0.4), height * rng.uniform(0.4, 0.6), 0.3 * width / frames
    target, mask = inpainted.copy(), np.zeros_like(inpainted)
    element = np.full((frames, square, square, 3), 255, np.uint8)
    for t in range(frames):
        middle = round(x0 + vx * t), round(y0)
        _disc(target[t], middle, radius, colour)
        _disc(mask[t], middle, 1.3 * radius, [255, 255, 255])
        _disc(element[t], (square // 2, square // 2), radius * square / height, colour)
    masked = np.where(mask > 127, 0, target).astype(np.uint8)
    return dict(zip(FOLDERS, (target, element, mask, masked, inpainted), strict=True))


def make_folder(
    folder: Path,
    clips: Iterable[int] = range(3),
    *,
    frames: int = 60,
    size: tuple[int, int] = (64, 96),
    square: int = 72,
    fps: float = 24.0,
    grain: float = 0.0,
    crf: int = 18,
) -> Path:
    """Writes the videos N.mp4 for the numbers `clips`, the white video and `data.csv`; returns the folder."""
    clips = list(clips)
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
    for number in clips:
        for name, video in clip(number, frames, size, square, grain).items():
            write_video(folder / name / f"{number}.mp4", video, fps, crf=crf)
    white = np.full((frames, square, square, 3), 255, np.uint8)
    write_video(folder / "fg" / "white_video.mp4", white, fps)
    write_csv(folder, [[f"{n}.mp4", 0, frames, fps, CAPTION] for n in clips])
    return folder


def write_csv(folder: Path, rows: list[list[object]]) -> None:
    """Writes `data.csv`; each row has the COLUMNS."""
    with open(folder / "data.csv", "w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])


def copy(folder: Path, to: Path) -> Path:
    """A copy that a test may spoil."""
    shutil.copytree(folder, to)
    return to


def damage(path: Path) -> None:
    """Overwrites a part of an MP4's pictures, not the first ones."""
    data = bytearray(path.read_bytes())
    start, end = data.index(b"mdat") + 4, len(data)
    if (moov := data.find(b"moov")) > start:
        end = moov
    first, last = (start + (end - start) * share // 10 for share in (6, 9))
    data[first:last] = bytes(last - first)
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    """Loses the last third of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])


def _texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    total = np.zeros((height, width, 3), np.float32)
    for cell in (4, 8, 16, 32, 64):
        coarse = rng.random((height // cell + 2, width // cell + 2, 3), np.float32) - 0.5
        total += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * cell**0.6
    low, high = total.min(), total.max()
    return ((total - low) / (high - low) * 255).astype(np.uint8)


def _disc(frame: np.ndarray, middle: tuple[int, int], radius: float, colour: list[int]) -> None:
    cv2.circle(frame, middle, round(radius), colour, -1, lineType=cv2.LINE_AA)
