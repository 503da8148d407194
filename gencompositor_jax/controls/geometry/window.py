"""A window that follows the element, so that a small one in a large background gets enough of the model's
pixels.

The window is a background of its own: `cut` makes its frames, `shift` its path, everything else (view,
placement, paste-back) works on them as on any background, and `put_back` returns the frames to their place.
"""

import dataclasses
from typing import Literal

import numpy as np

from gencompositor_jax.controls.geometry.placement import Anchor, rotation_matrix
from gencompositor_jax.controls.geometry.trajectory import Path
from gencompositor_jax.errors import InputError

# What the model is shown: the whole background, a window that follows the element, or such a window where the
# element would be too small in the whole.
Framing = Literal["auto", "whole", "follow"]

SHARE = 0.5  # of the window's width or height that the element may fill: its surroundings stay in sight


@dataclasses.dataclass(frozen=True)
class Window:
    """A part of the background of constant size, in whole native pixels; it may move."""

    origins: np.ndarray  # int [T, 2]: (x, y) of its upper left pixel in each frame
    size: tuple[int, int]  # (height, width)


def window_around(
    path: Path,
    anchor: Anchor,
    element_size: tuple[int, int],
    native_size: tuple[int, int],
    model_size: tuple[int, int],
    share: float = SHARE,
) -> Window:
    """The window that follows a path, in the model's aspect; sizes are (height, width).

    The element at its largest scale, turned as it may be, fills at most `share` of the window. The window is
    never smaller than the model's frame, where nothing would be gained, never larger than the background, and
    it stops at the background's edges.
    """
    if not 0 < share <= 1:
        raise InputError(f"share={share}: pass a part of the window above 0, at most 1")
    turned = bool(np.any(path.rotation % 180))
    extent = np.array([np.hypot(*element_size)] * 2 if turned else element_size) * path.scale.max()
    scale = max(1.0, *(extent / (share * np.array(model_size))))  # native pixels per model pixel
    size = np.minimum(np.ceil(np.array(model_size) * scale), native_size).astype(int)
    height, width = (int(n) for n in size)
    room = np.array([native_size[1] - width, native_size[0] - height])
    middle = path.xy.copy()
    if anchor == "bottom":
        up = np.array([0.0, -element_size[0] / 2])
        middle += [s * rotation_matrix(r) @ up for s, r in zip(path.scale, path.rotation, strict=True)]
    origins = np.rint(middle - (np.array([width, height]) - 1) / 2).clip(0, room).astype(int)
    return Window(origins, (height, width))


def cut(frames: np.ndarray, window: Window) -> np.ndarray:
    """[T, H, W, ...] -> the window's part of each frame [T, h, w, ...]."""
    return np.stack([frame[_part(window, t)] for t, frame in enumerate(frames)])


def shift(path: Path, window: Window) -> Path:
    """The same path in the window's pixels."""
    return dataclasses.replace(path, xy=path.xy - window.origins)


def put_back(frames: np.ndarray, parts: np.ndarray, window: Window) -> np.ndarray:
    """`frames` [T, H, W, ...] with the window's part of each replaced by `parts` [T, h, w, ...]."""
    out = frames.copy()
    for t, part in enumerate(parts):
        out[t][_part(window, t)] = part
    return out


def _part(window: Window, t: int) -> tuple[slice, slice]:
    (x, y), (h, w) = window.origins[t], window.size
    return slice(y, y + h), slice(x, x + w)
