"""Video in: a file or a folder of images becomes frames, whole or trimmed, at its own rate or resampled.

`probe` reads packets and headers; `read_video` decodes only the frames that were asked for, at most
`MAX_BYTES` of them. Both take a path or the result of `probe`, so that a file is probed once.
"""

import logging
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gencompositor_jax.controls.media.decoding import decode, decoded
from gencompositor_jax.controls.media.frames import Computed, Frames
from gencompositor_jax.controls.media.images import (
    Gaps,
    ImageSequence,
    is_image,
    read_frames,
    read_headers,
)
from gencompositor_jax.controls.media.inputs import check_size, local_path
from gencompositor_jax.controls.media.stream import PictureStream, read_stream
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import PathLike

Media = PictureStream | ImageSequence  # a probed file or folder
MediaLike = Media | PathLike  # what readers accept

_log = logging.getLogger(__name__)

_SAME_RATE = 1e-4  # relative: 23.976 is 24000/1001
_ROUNDING = 1e-3  # seconds: Matroska and Flash keep stamps in milliseconds


@dataclass(frozen=True)
class Footage:
    """Frames and their rate; `frames` need not be in memory."""

    frames: Frames  # uint8 RGB [T, H, W, 3] or RGBA with straight alpha [T, H, W, 4]
    fps: float
    path: str  # the file or folder they were read from; any name for frames from elsewhere
    start: float = 0.0  # seconds into it at which they begin
    first: int = 0  # number of the first one, as in the names of image files; of a video they count from 0
    step: int = 1  # from frame to frame

    @property
    def numbers(self) -> range:
        """Of the frames."""
        return range(self.first, self.first + self.step * len(self.frames), self.step)


@dataclass(frozen=True)
class Video(Footage):
    """Decoded frames, in memory."""

    frames: np.ndarray


def probe(media: MediaLike, gaps: Gaps = "hold") -> Media:
    """Size, rate, number of frames, alpha and sound of a video file or a folder of images.

    Reads packets and headers and decodes the first frames; returns what is probed already as it is. What
    reading will change (`notes`) is logged as a warning. `gaps`: of the numbers of images, see
    `read_headers`. InputError, naming the file and the remedy, for everything that can't serve as a video:
    see `local_path`, `read_stream` and `read_headers`. Damaged picture data raises only in `read_video`,
    which decodes it.
    """
    if isinstance(media, PictureStream | ImageSequence):
        return media
    path = local_path(media)
    images = path.is_dir() or is_image(path)
    found = read_headers(path, gaps) if images else read_stream(path)
    for note in found.notes:
        _log.warning("%s: %s", path, note)
    return found


def probed(given: Any) -> Any:
    """A path as probed media, anything else as it is."""
    return probe(given) if isinstance(given, str | os.PathLike) else given


def read_video(
    media: MediaLike,
    *,
    fps: float | None = None,
    start: float = 0.0,
    end: float | None = None,
    frames: int | None = None,
    alpha: bool = False,
) -> Video:
    """Frames of a video file, or of a folder of images in the order of the numbers in their names.

    Args:
        media: a path, or the result of `probe`.
        fps: None keeps the frames and their rate. A number resamples: at each instant start + i / fps the
            frame nearest in time, the earlier one of two. If the rate varies and there is sound, None
            resamples to the average, in step with the sound. Images have no rate of their own: each is one
            frame at `fps` (default 24).
        start, end: seconds; the clip is what is shown in start <= t < end.
        frames: exactly that many, the first of the clip. InputError if it has fewer.
        alpha: keep the alpha channel, if there is one: the result then has 4 channels, else 3.

    Raises:
        InputError: what `probe` refuses, arguments out of range, a trim beyond the end, frames that
            together exceed the memory limit (`MAX_BYTES`), damaged frames.
    """
    chosen = choose(media, fps, start, end, frames, alpha)
    media, indices = chosen.media, chosen.indices
    check_size(media.path, media.width, media.height, len(indices), chosen.channels)
    if isinstance(media, ImageSequence):
        pixels = np.empty((len(indices), media.height, media.width, chosen.channels), np.uint8)
        for slot, image in enumerate(chosen.from_frame(0)):
            pixels[slot] = image
    else:
        pixels = decode(media, indices, alpha=chosen.channels == 4)
    return Video(pixels, chosen.rate, str(media.path), start, chosen.first, media.step or 1)


def check_clip(
    media: MediaLike,
    *,
    fps: float | None = None,
    start: float = 0.0,
    end: float | None = None,
    frames: int | None = None,
) -> float:
    """Raise InputError where `open_video` would, before anything is decoded; returns the rate."""
    return choose(media, fps, start, end, frames, False).rate


def open_video(
    media: MediaLike,
    *,
    fps: float | None = None,
    start: float = 0.0,
    end: float | None = None,
    frames: int | None = None,
    alpha: bool = False,
) -> Footage:
    """What `read_video` returns, with frames that are decoded when they are asked for.

    In order they are read once; others cost a seek. Damaged frames raise InputError only then. The memory
    limit holds for a single frame.
    """
    chosen = choose(media, fps, start, end, frames, alpha)
    shape = (len(chosen.indices), chosen.media.height, chosen.media.width, chosen.channels)
    made, path = in_order(shape, chosen.from_frame), str(chosen.media.path)
    return Footage(made, chosen.rate, path, start, chosen.first, chosen.media.step or 1)


def in_order(shape: tuple[int, ...], from_frame: Callable[[int], Iterator[np.ndarray]]) -> Computed:
    """uint8 frames that a generator makes from any first one on: it runs once while they are asked for in
    order. A single frame may be asked for again.
    """
    ahead: tuple[int, Iterator[np.ndarray]] = (-1, iter(()))
    last = np.empty((0, *shape[1:]), np.uint8)

    def make(first: int, stop: int) -> np.ndarray:
        nonlocal ahead, last
        if stop == first + 1 == ahead[0] and len(last):
            return last
        if first != ahead[0]:
            ahead = first, from_frame(first)
        out = np.empty((stop - first, *shape[1:]), np.uint8)
        for slot in range(len(out)):
            out[slot] = next(ahead[1])
        ahead = (stop, ahead[1]) if stop < shape[0] else (stop, iter(()))  # the decoder is closed at the end
        last = out if len(out) == 1 else last[:0]
        return out

    return Computed(shape, make)


@dataclass(frozen=True)
class Chosen:
    """Which frames of a clip are read."""

    media: Media
    indices: np.ndarray  # int [T], increasing, with repeats
    channels: int
    rate: float

    @property
    def first(self) -> int:
        """The number of the first frame."""
        return self.media.first + self.media.step * int(self.indices[0])

    def from_frame(self, first: int) -> Iterator[np.ndarray]:
        """The frames from `first` on, one by one."""
        indices, alpha = self.indices[first:], self.channels == 4
        if isinstance(self.media, ImageSequence):
            yield from read_frames(self.media, indices.tolist(), alpha)
        else:
            yield from decoded(self.media, indices, alpha)


def choose(
    media: MediaLike, fps: float | None, start: float, end: float | None, frames: int | None, alpha: bool
) -> Chosen:
    """Which frames of which media `read_video` reads."""
    _check_arguments(fps, start, end, frames)
    media = probe(media)
    channels = 4 if alpha and media.has_alpha else 3
    resampled = fps if fps is not None and abs(fps / media.fps - 1) > _SAME_RATE else None
    if isinstance(media, ImageSequence):
        rate = resampled or media.fps
        if not media.is_animation:  # without a rate of their own
            resampled = None
        own = media.fps if media.is_animation else rate
        times, length = np.arange(media.frames) / own, media.frames / own
    else:
        if resampled is None and media.has_audio and media.varies:
            resampled = media.fps
        times, length, rate = media.times, media.end, resampled or media.fps
    return Chosen(media, _pick(str(media.path), times, length, resampled, start, end, frames), channels, rate)


def _pick(
    name: str,
    times: np.ndarray,
    length: float,
    fps: float | None,
    start: float,
    end: float | None,
    frames: int | None,
) -> np.ndarray:
    """Indices [n] of the frames to read, increasing, with repeats if `fps` is higher than the clip's rate.

    `times` [T]: when each frame appears; `length`: when the last one disappears; in seconds.
    """
    stop = min(end, length) if end is not None else length
    if start >= length - _ROUNDING:
        raise InputError(
            f"{name}: lasts {length:.2f} s and can't start at {start:g} s: pass an earlier start"
        )
    if fps is None:
        before_end = times < (math.inf if end is None else end - _ROUNDING)
        indices = np.flatnonzero((times >= start - _ROUNDING) & before_end)
        if not len(indices):  # a trim shorter than a frame: the frame on screen
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
            f"{name}: has {len(indices)} frames{where}{rate}, {frames} are needed: "
            f"pass --frames {len(indices)} or less, or a longer clip"
        )
    return indices[:frames]


def _check_arguments(fps: float | None, start: float, end: float | None, frames: int | None) -> None:
    if fps is not None and not 0 < fps <= 1000:
        raise InputError(f"fps {fps:g}: must be above 0 and at most 1000 frames per second")
    if not (math.isfinite(start) and start >= 0):
        raise InputError(f"start {start:g}: must be 0 or more seconds")
    if end is not None and not end > start:
        raise InputError(f"end {end:g}: must be later than start ({start:g} s)")
    if frames is not None and frames < 1:
        raise InputError(f"frames {frames}: must be at least 1")
