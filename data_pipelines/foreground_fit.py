"""How a square foreground video of the data folder is fitted into the model's frame.

The release stores the element centred on a white square of 576 pixels and shows it to a model 480 pixels
high: shrunk to 480 where the element is taller than half of the square, else as the central 480 pixels, and
then white to both sides. Here 480 is the model's shorter side and 5/6 the ratio, so any size is served, and
an element that the crop would cut (a wide, flat one) is shrunk as well.
"""

import cv2
import numpy as np

WHITE = 250  # a pixel with all channels above it is background (lossy coding leaves white a little grey)
TALL = 1 / 2  # of the square's side; taller elements are shrunk
CENTRE = 480 / 576  # share of the side that is kept of the others

Box = tuple[int, int, int, int]  # top, left, height, width in pixels


def element_box(frames: np.ndarray) -> Box | None:
    """The smallest box around all that isn't white in uint8 frames [T, H, W, 3]; None where all is white."""
    boxes = _boxes(frames)
    return _union(boxes) if boxes else None


def fit_foreground(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 squares [T, S, S, 3] -> uint8 [T, H, W, 3] with the square's centre in the middle, rest white.

    The element is drawn at one scale in all frames. With s the shorter of H and W: where it is taller than
    S / 2 in any frame, or reaches out of the central 5/6 S, the square becomes s x s; else those 5/6 do.

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
    """A square picture [S, S, 3] to [side, side, 3]: areas averaged when it shrinks, cubic when it grows."""
    if len(frame) == side:
        return frame
    rule = cv2.INTER_AREA if side < len(frame) else cv2.INTER_CUBIC
    return cv2.resize(frame, (side, side), interpolation=rule)


def _boxes(frames: np.ndarray) -> list[Box]:
    """Of each frame that isn't all white."""
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
