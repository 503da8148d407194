"""Baselines without a network, to compare a model with.

All of them know more than the model: the exact placement, and the background behind the element. Outside the
region that they fill, the result is the background.
"""

import cv2
import numpy as np

PAD = 16  # pixels of reflected padding, so that the border of the frame does not affect the blending


def seamless_clone(background: np.ndarray, paste: np.ndarray, region: np.ndarray) -> np.ndarray:
    """OpenCV's seamlessClone (Poisson blending, Pérez et al. 2003), frame by frame.

    The source of the gradients is the plain paste: inside the element its gradients are the element's, around
    it the background's. With a source on white, white is blended into the region, and the score is lower. It
    is lower, too, for a region without a margin around the element, where the element fades into the
    background.

    Args:
        background: uint8 [T, H, W, 3].
        paste: uint8 [T, H, W, 3], the element composited over the background.
        region: bool [T, H, W], where to blend.

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
        # seamlessClone moves the centre of the mask's bounding box to this point: here it stays in its place.
        centre = x + width // 2, y + height // 2
        blended = cv2.seamlessClone(_padded(source), _padded(below), mask, centre, cv2.NORMAL_CLONE)
        result[inside] = blended[PAD:-PAD, PAD:-PAD][inside]
    return out


def fill_with_mean(background: np.ndarray, target: np.ndarray, region: np.ndarray) -> np.ndarray:
    """An oracle: the region filled with the mean colour of the ground truth there, over all frames.

    No other single colour has a higher PSNR in the region (bool [T, H, W]) against the target, uint8
    [T, H, W, 3].
    """
    out = background.copy()
    if region.any():
        out[region] = np.rint(target[region].mean(axis=0, dtype=np.float64)).astype(np.uint8)
    return out


def _padded(frame: np.ndarray) -> np.ndarray:
    return cv2.copyMakeBorder(frame, *4 * (PAD,), cv2.BORDER_REFLECT)
