"""Baselines without a network, to compare a model with.

All of them know more than the model: the exact placement, and the background behind the element. Outside the
region that they fill, the result is the background.
"""

import cv2
import numpy as np

from gencompositor_jax.controls.geometry.placement import paste_over
from gencompositor_jax.data_pipelines.procedural import to_uint8

# Reinhard et al. 2001, equations 3 to 6: RGB to LMS, and log LMS to the decorrelated axes l, alpha, beta.
_LMS = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
_AXES = np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]]) / np.sqrt([[3], [6], [2]])
DARKEST = 1 / 255  # of LMS, before the logarithm

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


def color_transfer(background: np.ndarray, placed: np.ndarray) -> np.ndarray:
    """Colour transfer (Reinhard et al. 2001): the element gets the scene's mean and spread in l alpha beta.

    One transfer per clip, from the pixels that the element covers to those of the whole scene: no flicker.

    Args:
        background: uint8 [T, H, W, 3], the scene without the element.
        placed: uint8 [T, H, W, 4], the element where it goes, straight alpha.

    Returns:
        uint8 [T, H, W, 3], the recoloured element composited over the background.
    """
    solid = placed[..., 3] >= 128
    if not solid.any():
        return background.copy()
    colours, scene = _decorrelated(placed[..., :3]), _decorrelated(background)
    inside, around = colours[solid], scene.reshape(-1, 3)
    spread = around.std(axis=0) / np.maximum(inside.std(axis=0), 1e-3)
    moved = (colours - inside.mean(axis=0)) * spread + around.mean(axis=0)
    recoloured = np.clip(10 ** (moved @ np.linalg.inv(_AXES).T) @ np.linalg.inv(_LMS).T, 0, 1)
    return paste_over(background, np.concatenate([to_uint8(recoloured), placed[..., 3:]], axis=-1))


def fill_with_mean(background: np.ndarray, target: np.ndarray, region: np.ndarray) -> np.ndarray:
    """An oracle: the region filled with the mean colour of the ground truth there, over all frames.

    No other single colour has a higher PSNR in the region (bool [T, H, W]) against the target, uint8
    [T, H, W, 3].
    """
    out = background.copy()
    if region.any():
        out[region] = np.rint(target[region].mean(axis=0, dtype=np.float64)).astype(np.uint8)
    return out


def _decorrelated(frames: np.ndarray) -> np.ndarray:
    """uint8 [..., 3] -> l alpha beta, float64."""
    lms = np.maximum(frames / 255.0 @ _LMS.T, DARKEST)
    axes: np.ndarray = np.log10(lms) @ _AXES.T
    return axes


def _padded(frame: np.ndarray) -> np.ndarray:
    return cv2.copyMakeBorder(frame, *4 * (PAD,), cv2.BORDER_REFLECT)
