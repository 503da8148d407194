"""A window that follows the element, so that a small element in a large background has enough model pixels.

The window is a background of its own: `cut` makes its frames and `shift` its path; view, placement and
paste-back treat them as any background, and `put_back` writes the frames back into the background.
"""

import dataclasses
from typing import Literal

import numpy as np

from gencompositor_jax.controls.geometry.path import Path
from gencompositor_jax.controls.geometry.placement import Anchor, rotation_matrix
from gencompositor_jax.errors import InputError

# What the model sees: the whole background, a window that follows the element, or (auto) such a window if the
# element would be too small in the whole background.
Framing = Literal["auto", "whole", "follow"]

FILL = 0.5  # fraction of the window's width or height that the element may fill


@dataclasses.dataclass(frozen=True)
class Window:
    """A moving crop of the background, of constant size in whole native pixels."""

    origins: np.ndarray  # int [T, 2]: (x, y) of its upper left pixel in each frame
    size: tuple[int, int]  # (height, width)


def window_around(
    path: Path,
    anchor: Anchor,
    element_size: tuple[int, int],
    native_size: tuple[int, int],
    model_size: tuple[int, int],
    fill: float = FILL,
) -> Window:
    """The window that follows a path, with the model's aspect ratio; sizes are (height, width).

    The element at its largest scale, in any rotation, fills at most the fraction `fill` of the window. The
    window is at least as large as the model's frame (a smaller one has no more detail), at most as large as
    the background, and stays inside it.
    """
    if not 0 < fill <= 1:
        raise InputError(f"fill={fill}: must be above 0 and at most 1")
    turned = bool(np.any(path.rotation % 180))
    extent = np.array([np.hypot(*element_size)] * 2 if turned else element_size) * path.scale.max()
    scale = max(1.0, *(extent / (fill * np.array(model_size))))  # native pixels per model pixel
    size = np.minimum(np.ceil(np.array(model_size) * scale), native_size).astype(int)
    height, width = (int(n) for n in size)
    slack = np.array([native_size[1] - width, native_size[0] - height])
    middle = path.xy.copy()
    if anchor == "bottom":
        up = np.array([0.0, -element_size[0] / 2])
        middle += [s * rotation_matrix(r) @ up for s, r in zip(path.scale, path.rotation, strict=True)]
    origins = np.rint(middle - (np.array([width, height]) - 1) / 2).clip(0, slack).astype(int)
    return Window(origins, (height, width))


def piece(window: Window, part: slice) -> Window:
    """The window in some of the frames."""
    return dataclasses.replace(window, origins=window.origins[part])


def cut(frames: np.ndarray, window: Window) -> np.ndarray:
    """[T, H, W, ...] -> the window of each frame [T, h, w, ...]; a view of the whole."""
    if window.size == frames.shape[1:3]:
        return frames
    return np.stack([frame[_part(window, t)] for t, frame in enumerate(frames)])


def shift(path: Path, window: Window) -> Path:
    """The path in the window's pixels."""
    return dataclasses.replace(path, xy=path.xy - window.origins)


def put_back(frames: np.ndarray, parts: np.ndarray, window: Window) -> np.ndarray:
    """`frames` [T, H, W, ...] with the window of each replaced by `parts` [T, h, w, ...]."""
    if window.size == frames.shape[1:3]:
        return parts
    out = frames.copy()
    for t, part in enumerate(parts):
        out[t][_part(window, t)] = part
    return out


def _part(window: Window, t: int) -> tuple[slice, slice]:
    (x, y), (h, w) = window.origins[t], window.size
    return slice(y, y + h), slice(x, x + w)
