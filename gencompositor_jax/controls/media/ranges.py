"""Ranges of frames in the plate's own numbers: those of image files, or of a video's frames, from 0."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator

from gencompositor_jax import fields
from gencompositor_jax.controls.media.images import ImageSequence
from gencompositor_jax.controls.media.video import Media
from gencompositor_jax.errors import InputError
from gencompositor_jax.fields import Whole, within

_TEXT = re.compile(r"(-?\d{1,9})-(-?\d{1,9})")
_Number = Annotated[Whole, within(-(10**9), 10**9)]


def _in_order(given: tuple[int, int]) -> tuple[int, int]:
    if given[1] < given[0]:
        raise InputError(f"{given[0]}-{given[1]}: the last frame is before the first")
    return given


FrameRange = Annotated[tuple[_Number, _Number], AfterValidator(_in_order)]  # first and last


def parse_range(text: str, where: str = "--range") -> tuple[int, int]:
    """(first, last) from "1001-1049", both included. InputError names `where`."""
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        raise InputError(f"{where} {text[:40]!r}: pass the first and the last frame, such as 1001-1049")
    made: Any = fields.read(FrameRange, (int(found[1]), int(found[2])), where)
    return made


def seconds_of(media: Media, frames: tuple[int, int], fps: float | None) -> tuple[float, float | None]:
    """When a range of frames begins and ends in a clip, in seconds, for `read_video`; None is its end.

    fps: as `read_video` takes it. Raises InputError where the clip lacks one of the frames.
    """
    first, step = media.first, media.step
    if not step:
        raise InputError(f"range: the numbers of {media.path} aren't evenly spaced: use start and end")
    if frames[0] < first or frames[1] > first + step * (media.frames - 1):
        raise InputError(
            f"range: {frames[0]}-{frames[1]}, {media.path} has the frames {first} to "
            f"{first + step * (media.frames - 1)}"
        )
    begin, stop = -((first - frames[0]) // step), (frames[1] - first) // step + 1
    if begin >= stop:
        raise InputError(f"range: {frames[0]}-{frames[1]}, {media.path} has only every {step}. number")
    if isinstance(media, ImageSequence):
        rate = media.fps if media.is_animation or fps is None else fps
        return begin / rate, stop / rate
    return float(media.times[begin]), float(media.times[stop]) if stop < media.frames else None
