"""The foreground element as its geometry needs it: frames with alpha, wherever they come from."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Element:
    """An element on its canvas: the union of its bounding boxes over all frames, so its size is constant."""

    frames: np.ndarray  # uint8 [T, h, w, 4]: RGB with straight (not premultiplied) alpha
    name: str  # for messages: the file or folder it comes from
    key: str = "alpha"  # how it was extracted: "alpha", "mask", "segmenter", "white" or a colour "#rrggbb"
