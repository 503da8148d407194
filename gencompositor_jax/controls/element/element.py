"""The foreground element as its geometry needs it: frames with alpha, wherever they come from."""

import dataclasses

import numpy as np

from gencompositor_jax.controls.media.frames import Frames


@dataclasses.dataclass(frozen=True)
class Cutout:
    """An element on its canvas: the union of its bounding boxes over all frames, so its size is constant."""

    frames: Frames  # uint8 [T, h, w, 4]: RGB with straight (not premultiplied) alpha
    name: str  # for messages: the file or folder it comes from
    # How it was extracted: "alpha", "mask", "segmenter", "white", "#rrggbb", or "segment auto: U^2-Net-p".
    key: str = "alpha"
    corner: tuple[int, int] = (0, 0)  # (x, y) in the clip's frame of the canvas's upper left pixel
    notes: tuple[str, ...] = ()  # sentences for the user: what may surprise


@dataclasses.dataclass(frozen=True)
class Element(Cutout):
    """A cutout in memory."""

    frames: np.ndarray
