"""Video in: a file or a folder of images becomes frames, whole or trimmed, at its own rate or another.

Everything a user may name passes `local_path` (source.py), then `survey` (track.py) or `survey_images`
(images.py), which read packets and headers; only what was asked for is decoded, and never more than
`MAX_BYTES` of it.
"""

import math
import os
from dataclasses import dataclass

import numpy as np

from gencompositor_jax.controls.media.decoding import decode
from gencompositor_jax.controls.media.images import is_image, list_images, read_images, survey_images
from gencompositor_jax.controls.media.inputs import check_size, local_path
from gencompositor_jax.controls.media.stream import DEFAULT_FPS, Track, survey
from gencompositor_jax.errors import InputError

_SAME_RATE = 1e-4  # relative: 23.976 is 24000/1001
_ROUNDING = 1e-3  # seconds: Matroska and Flash keep stamps in milliseconds


@dataclass(frozen=True)
class Video:
    """Decoded frames, uint8 RGB [T, H, W, 3] or straight-alpha RGBA [T, H, W, 4], as read from `source`."""

    frames: np.ndarray
    fps: float
    source: str


@dataclass(frozen=True)
class VideoInfo:
    """What a file or folder holds, all `frames` of it, in pixels as displayed.

    `codec` is FFmpeg's name, or "images".
    """

    path: str
    width: int
    height: int
    fps: float
    frames: int
    has_alpha: bool
    has_audio: bool
    codec: str


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """What is in a video file or a folder of images. Reads packets and headers, decodes one frame.

    InputError, naming the file and the remedy, for all that can't serve as a video: see `local_path` and
    `survey`. Damage inside the picture data shows only when it is decoded, in `read_video`.
    """
    source = local_path(path)
    if source.is_dir() or is_image(source):
        images = list_images(source) if source.is_dir() else [source]
        width, height, alpha = survey_images(images)
        return VideoInfo(os.fspath(path), width, height, DEFAULT_FPS, len(images), alpha, False, "images")
    track = survey(source)
    return VideoInfo(
        path=os.fspath(path),
        width=track.width,
        height=track.height,
        fps=track.fps,
        frames=len(track.times),
        has_alpha=track.has_alpha,
        has_audio=track.has_audio,
        codec=track.codec,
    )


def read_video(
    path: str | os.PathLike[str],
    *,
    fps: float | None = None,
    start: float = 0.0,
    end: float | None = None,
    frames: int | None = None,
    alpha: bool = False,
) -> Video:
    """Frames of a video file, or of a folder of images in the order of the numbers in their names.

    `start`, `end`: seconds; the clip is what is shown in start <= t < end.
    `fps`: None keeps the frames and their rate (the average one where the rate varies). A number
        resamples: at each instant start + i / fps the frame nearest in time, the earlier one of two. Images
        in a folder have no rate of their own: they are one frame each at `fps` (24 unless told).
    `frames`: exactly that many, the first of the clip; where it has fewer, InputError says how many.
    `alpha`: keep the alpha channel if there is one: the result has 4 channels then, else 3.

    Only what was asked for is decoded. Raises InputError like `probe`, and for arguments out of range, a trim
    beyond the end, frames that together exceed the memory limit (`MAX_BYTES`), and damaged frames.
    """
    _check_arguments(fps, start, end, frames)
    source = local_path(path)
    if source.is_dir() or is_image(source):
        images = list_images(source) if source.is_dir() else [source]
        width, height, has_alpha = survey_images(images)
        rate = fps or DEFAULT_FPS
        times = np.arange(len(images)) / rate
        indices = _pick(os.fspath(path), times, len(images) / rate, None, start, end, frames)
        channels = 4 if alpha and has_alpha else 3
        check_size(source, width, height, len(indices), channels)
        pixels = np.empty((len(indices), height, width, channels), np.uint8)
        for slot, image in enumerate(read_images([images[i] for i in indices], alpha=channels == 4)):
            pixels[slot] = image
        return Video(pixels, rate, os.fspath(path))
    track = survey(source)
    resample = fps is not None and abs(fps / track.fps - 1) > _SAME_RATE
    indices = _pick(os.fspath(path), track.times, track.end, fps if resample else None, start, end, frames)
    return Video(
        frames=_decode(track, indices, alpha and track.has_alpha),
        fps=fps if fps is not None and resample else track.fps,
        source=os.fspath(path),
    )


def _decode(track: Track, indices: np.ndarray, alpha: bool) -> np.ndarray:
    check_size(track.path, track.width, track.height, len(indices), 4 if alpha else 3)
    wanted, positions = np.unique(indices, return_inverse=True)
    pixels = decode(track, wanted, alpha)
    return pixels if len(wanted) == len(indices) else pixels[positions]


def _pick(
    name: str,
    times: np.ndarray,
    length: float,
    fps: float | None,
    start: float,
    end: float | None,
    frames: int | None,
) -> np.ndarray:
    """Indices [n] of the frames to read, increasing, with repeats where `fps` is higher than the clip's rate.

    `times` [T]: when each frame appears; `length`: when the last one disappears; both in seconds.
    """
    stop = min(end, length) if end is not None else length
    if start >= length - _ROUNDING:
        raise InputError(
            f"{name}: lasts {length:.2f} s and can't start at {start:g} s: pass an earlier start"
        )
    if fps is None:
        before_end = times < (math.inf if end is None else end - _ROUNDING)
        indices = np.flatnonzero((times >= start - _ROUNDING) & before_end)
        if not len(indices):  # a trim within one frame: the one on screen
            indices = np.searchsorted(times, [start + _ROUNDING], side="right") - 1
    else:
        count = max(1, math.ceil((stop - start) * fps - _ROUNDING * fps))
        instants = start + np.arange(min(count, frames or count)) / fps
        indices = np.searchsorted((times[1:] + times[:-1]) / 2, instants - _ROUNDING, side="left")
    if frames is None:
        return indices
    if len(indices) < frames:
        trimmed = start > 0 or (end is not None and end < length)
        where = f" from {start:g} s to {stop:g} s" if trimmed else ""
        rate = f" at {fps:g} fps" if fps is not None else ""
        raise InputError(
            f"{name}: {len(indices)} frames are there{where}{rate}, {frames} are needed: "
            f"pass --frames {len(indices)} or less, or a longer clip"
        )
    return indices[:frames]


def _check_arguments(fps: float | None, start: float, end: float | None, frames: int | None) -> None:
    if fps is not None and not 0 < fps <= 1000:
        raise InputError(f"fps {fps:g}: the frame rate must lie above 0 and be at most 1000")
    if not (math.isfinite(start) and start >= 0):
        raise InputError(f"start {start:g}: must be 0 or a number of seconds into the clip")
    if end is not None and not end > start:
        raise InputError(f"end {end:g}: must be later than start ({start:g} s)")
    if frames is not None and frames < 1:
        raise InputError(f"frames {frames}: at least 1 is needed")
