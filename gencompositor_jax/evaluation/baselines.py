"""Answers that need no network, for a model to be compared with.

All of them know more than the model: the exact placement and the background behind the element. Every pixel
outside the region they fill is the background's.
"""

import cv2
import numpy as np

PAD = 16  # pixels that a frame is continued by, mirrored, so that its border is no border for the blending


def seamless_clone(background: np.ndarray, paste: np.ndarray, region: np.ndarray) -> np.ndarray:
    """OpenCV's seamlessClone (Poisson blending, Pérez et al. 2003), frame by frame.

    The source is the plain paste: it has the element's own gradients and, around it, the background's. A
    source on white blends white into the region and scores lower, and so does a region without a margin
    around the element, where the element takes on the background's colours and fades away.

    Args:
        background: uint8 [T, H, W, 3].
        paste: uint8 [T, H, W, 3], the element laid over the background.
        region: bool [T, H, W], what is blended; the rest stays the background's.

    Returns:
        uint8 [T, H, W, 3].
    """
    out = background.copy()
    for below, source, inside, result in zip(background, paste, region, out, strict=True):
        if not inside.any():
            continue
        mask = _padded(inside.astype(np.uint8) * 255)
        mask[[0, -1]], mask[:, [0, -1]] = 0, 0
        x, y, width, height = cv2.boundingRect(mask)
        # The source is laid down with the middle of the mask's bounding box on this point: where it was.
        middle = x + width // 2, y + height // 2
        blended = cv2.seamlessClone(_padded(source), _padded(below), mask, middle, cv2.NORMAL_CLONE)
        result[inside] = blended[PAD:-PAD, PAD:-PAD][inside]
    return out


def fill_with_mean(background: np.ndarray, target: np.ndarray, region: np.ndarray) -> np.ndarray:
    """An oracle: a region filled with the mean colour that the right answer has there, over all frames.

    No other single colour comes closer to the target (uint8 [T, H, W, 3]) within the region (bool [T, H, W]).
    """
    out = background.copy()
    if region.any():
        out[region] = np.rint(target[region].mean(axis=0, dtype=np.float64)).astype(np.uint8)
    return out


def _padded(frame: np.ndarray) -> np.ndarray:
    return cv2.copyMakeBorder(frame, *4 * (PAD,), cv2.BORDER_REFLECT)
