"""Compositing the model's result into the background at the background's own size.

The model's frames are usually smaller. Only the inside of the inflated mask is enlarged and blended over the
background; every pixel outside equals the input's.
"""

import math

import cv2
import numpy as np

from gencompositor_jax.controls.geometry.view import View, crop_content, from_model
from gencompositor_jax.errors import InputError


def paste_back(
    native: np.ndarray, generated: np.ndarray, mask: np.ndarray, view: View, feather: float
) -> tuple[np.ndarray, np.ndarray]:
    """The background with the generated part blended over it through the mask.

    Args:
        native: uint8 [T, H, W, 3], the background.
        generated: uint8 [T, h, w, 3], the model's frames.
        mask: bool [T, h, w], what the model generated (the inflated mask).
        view: how the model saw the background.
        feather: width in model pixels of the ramp from background to result, inside the mask. It should be
            less than the mask was inflated by; 0 makes a hard edge.

    Returns (uint8 [T, H, W, 3], bool [T, H, W] the mask at the background's size). Pixels outside that mask
    equal the input. InputError if the feather is negative or not finite.
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
    """bool [h, w] of the model -> bool [H, W] of the background; the outline is interpolated linearly."""
    content = crop_content(mask[None], view)[0].astype(np.float32)
    height, width = view.native
    return cv2.resize(content, (width, height), interpolation=cv2.INTER_LINEAR) >= 0.5


def feather_weight(inside: np.ndarray, width: float) -> np.ndarray:
    """float32 [H, W]: 0 outside the mask, and from its edge inwards a smooth ramp of `width` pixels to 1.

    The frame's edges are not feathered.
    """
    if width <= 0.5 or inside.all():  # the ramp would end before the first pixel's centre
        return inside.astype(np.float32)
    distance = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    ramp = np.clip((distance - 0.5) / width, 0, 1)  # the edge is half a pixel from the pixels' centres
    return ramp * ramp * (3 - 2 * ramp)
