"""Which frames of another program are those of a result.

Nuke numbers the frames of image files as their names do, and those of a video from 1. After Effects counts
the frames of a composition from 0, at its own rate; a video in it is shown in time, so that its frames have
other numbers at another rate, and images are shown one per frame.
"""

import dataclasses

import numpy as np

from gencompositor_jax.controls.media.images import ImageSequence
from gencompositor_jax.controls.media.video import Chosen

_DIGITS = 6  # of a frame number: what differs by less is the same frame


@dataclasses.dataclass(frozen=True)
class Clock:
    """Which frames of another program the frames of the result are."""

    first: float  # the number there of the result's first frame
    step: float = 1.0  # from one frame of the result to the next

    def there(self, frames: np.ndarray) -> np.ndarray:
        """The numbers there of frames of the result, which count from 0."""
        return np.round(self.first + self.step * frames, _DIGITS)

    def here(self, frames: np.ndarray) -> np.ndarray:
        """Inverse of `there`."""
        return np.round((frames - self.first) / self.step, _DIGITS)


def nuke_clock(plate: Chosen, first: float | None = None) -> Clock:
    """Of a script whose Read node has the plate. first: the number of the result's first frame there."""
    media, index = plate.media, int(plate.indices[0])
    if _one_per_frame(plate):
        return Clock(plate.first if first is None else first, media.step or 1)
    return Clock(index + 1 if first is None else first, media.fps / plate.rate)


def after_effects_clock(plate: Chosen, rate: float, first: float | None = None) -> Clock:
    """Of a composition that begins with the plate's first frame, at `rate` frames per second."""
    index = int(plate.indices[0])
    if _one_per_frame(plate):
        return Clock(index if first is None else first)
    return Clock(index * rate / plate.media.fps if first is None else first, rate / plate.rate)


def stretch_of(plate: Chosen) -> float:
    """The width of a pixel of the file in those of the plate, which are square."""
    if isinstance(plate.media, ImageSequence):
        return 1.0
    display = plate.media.display
    return display.square[0] / display.coded[0] if display.size == display.square else 1.0


def _one_per_frame(plate: Chosen) -> bool:
    return isinstance(plate.media, ImageSequence) and not plate.media.is_animation
