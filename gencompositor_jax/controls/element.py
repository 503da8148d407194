"""The foreground element: cut out of its clip, cropped to its own extent, with straight alpha."""

import dataclasses
from typing import Literal

import numpy as np

from gencompositor_jax.errors import InputError

Extend = Literal["error", "loop", "hold"]


@dataclasses.dataclass(frozen=True)
class Element:
    """An element on its own canvas: the box around all it covers in any frame, so its size never pumps."""

    frames: np.ndarray  # uint8 [T, h, w, 4]: RGB with straight (not premultiplied) alpha
    source: str  # where it came from, for messages
    key: str = "alpha"  # how it was cut out: "alpha", "mask", "segmenter", "white" or a colour "#RRGGBB"


def fit_length(element: Element, frames: int, extend: Extend = "error") -> Element:
    """The element with exactly `frames` frames: the first ones, or extended where there are too few.

    Args:
        element: T frames.
        frames: how many are needed, at least 1.
        extend: "error" refuses a short element, "loop" starts it again, "hold" repeats its last frame.

    Raises:
        InputError: it is too short and `extend` is "error", or an argument is out of range.
    """
    have = len(element.frames)
    if frames < 1:
        raise InputError(f"frames={frames}: pass at least 1")
    if extend not in ("error", "loop", "hold"):
        raise InputError(f"extend={extend!r}: known are 'error', 'loop' and 'hold'")
    if have < frames and extend == "error":
        raise InputError(
            f"{element.source}: {have} frames, {frames} are needed; pass --frames {have}, a longer clip, "
            "or extend='loop' or 'hold'"
        )
    wanted = np.arange(frames)
    chosen = wanted % have if extend == "loop" else np.minimum(wanted, have - 1)
    return dataclasses.replace(element, frames=element.frames[chosen])
