"""Fits a square foreground video of the training folder into the model's frame.

The release stores the element centred on a white square of 576 pixels. For a model 480 pixels high the square
is resized to 480 if the element is taller than half of it, else its central 480 pixels are cropped; white
fills both sides. Here 480 stands for the model's shorter side and 480 / 576 is a ratio, so that any size
works, and an element that the crop would cut (a wide, flat one) is resized, too.
"""

import cv2
import numpy as np

WHITE = 250  # a pixel with all channels above it is background: lossy coding makes white slightly grey
TALL = 1 / 2  # of the square's side; taller elements are resized
CENTRE = 480 / 576  # fraction of the side that the crop keeps

Box = tuple[int, int, int, int]  # top, left, height, width in pixels


def element_box(frames: np.ndarray) -> Box | None:
    """The smallest box of all pixels that aren't white in uint8 frames [T, H, W, 3]; None if all are."""
    boxes = _boxes(frames)
    return _union(boxes) if boxes else None


def fit_foreground(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 squares [T, S, S, 3] -> uint8 [T, H, W, 3], centred, white around the square.

    All frames have one scale. With s the shorter of H and W: if the element is taller than S / 2 in any
    frame, or exceeds the central 5/6 S, the whole square is resized to s x s, else its central 5/6.

    Args:
        frames: the element on white.
        size: (H, W), the model's.
    """
    count, side = frames.shape[:2]
    boxes = _boxes(frames)
    kept = round(side * CENTRE)
    start = (side - kept) // 2
    if boxes:
        top, left, height, width = _union(boxes)
        tallest = max(box[2] for box in boxes)
        inside = min(top, left) >= start and max(top + height, left + width) <= start + kept
        if tallest <= side * TALL and inside:
            frames = frames[:, start : start + kept, start : start + kept]
    short = min(size)
    out = np.full((count, *size, 3), 255, np.uint8)
    top, left = (size[0] - short) // 2, (size[1] - short) // 2
    for frame, drawn in zip(frames, out, strict=True):
        drawn[top : top + short, left : left + short] = resized(frame, short)
    return out


def resized(frame: np.ndarray, side: int) -> np.ndarray:
    """Resize a square picture [S, S, 3] to [side, side, 3]: area averages if smaller, cubic if larger."""
    if len(frame) == side:
        return frame
    rule = cv2.INTER_AREA if side < len(frame) else cv2.INTER_CUBIC
    return cv2.resize(frame, (side, side), interpolation=rule)


def _boxes(frames: np.ndarray) -> list[Box]:
    """The box of each frame that isn't all white."""
    boxes = []
    for frame in frames:
        # 255 inside, 0 where every channel is nearly white.
        inside = cv2.bitwise_not(cv2.inRange(frame, (WHITE + 1,) * 3, (255,) * 3))
        left, top, width, height = cv2.boundingRect(inside)
        if width:
            boxes.append((top, left, height, width))
    return boxes


def _union(boxes: list[Box]) -> Box:
    top, left = min(b[0] for b in boxes), min(b[1] for b in boxes)
    return (
        top,
        left,
        max(b[0] + b[2] for b in boxes) - top,
        max(b[1] + b[3] for b in boxes) - left,
    )
