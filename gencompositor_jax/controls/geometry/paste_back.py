"""Putting the model's result back into the background at its own size.

The model works at its own, usually smaller size. Only what it was asked to generate, the inside of the
inflated mask, is enlarged and laid over the native background; every pixel outside stays the input's, bit for
bit.
"""

import math

import cv2
import numpy as np

from gencompositor_jax.controls.geometry.view import View, crop_content, from_model
from gencompositor_jax.errors import InputError


def paste_back(
    native: np.ndarray, generated: np.ndarray, mask: np.ndarray, view: View, feather: float
) -> tuple[np.ndarray, np.ndarray]:
    """The native background with the generated part laid over it through the mask.

    Args:
        native: uint8 [T, H, W, 3], the background.
        generated: uint8 [T, h, w, 3], the model's frames.
        mask: bool [T, h, w], what the model generated (the inflated mask).
        view: how the model saw the background.
        feather: width in model pixels of the ramp from background to result. It lies inside the mask, so give
            less than the inflation's reach; 0 cuts hard.

    Returns (uint8 [T, H, W, 3], bool [T, H, W] the native mask). Pixels outside the native mask equal the
    input exactly. Raises InputError where the feather is negative or not finite.
    """
    if not (math.isfinite(feather) and feather >= 0):
        raise InputError(f"feather={feather}: pass a finite number of pixels, 0 or more")
    if native.shape[1:3] != view.native or mask.shape[1:] != view.model:
        raise ValueError(f"background {native.shape} and mask {mask.shape} for {view}")
    out = native.copy()
    inside = np.zeros(native.shape[:3], bool)
    for t in range(len(native)):
        if not mask[t].any():
            continue
        inside[t] = native_mask(mask[t], view)
        weight = feather_weight(inside[t], feather / min(view.scale))[inside[t]][:, None]
        result = from_model(generated[t : t + 1], view)[0][inside[t]].astype(np.float32)
        below = native[t][inside[t]].astype(np.float32)
        out[t][inside[t]] = np.rint(below + weight * (result - below)).astype(np.uint8)
    return out, inside


def native_mask(mask: np.ndarray, view: View) -> np.ndarray:
    """bool [h, w] of the model -> bool [H, W] native: its outline smoothed between the model's pixels."""
    content = crop_content(mask[None], view)[0].astype(np.float32)
    height, width = view.native
    return cv2.resize(content, (width, height), interpolation=cv2.INTER_LINEAR) >= 0.5


def feather_weight(inside: np.ndarray, width: float) -> np.ndarray:
    """float32 [H, W]: 0 outside, rising smoothly over `width` pixels inside the mask to 1.

    Only a border between inside and outside is feathered, not the frame's edges.
    """
    if width <= 0.5 or inside.all():  # the ramp would end before the first pixel's centre
        return inside.astype(np.float32)
    distance = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    ramp = np.clip((distance - 0.5) / width, 0, 1)  # the border runs half a pixel from the pixels' centres
    return ramp * ramp * (3 - 2 * ramp)
