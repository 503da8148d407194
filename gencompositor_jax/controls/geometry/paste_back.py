"""Compositing the model's result into the background at the background's own size.

The model's frames are usually smaller. Only the inside of the inflated mask is enlarged and blended over the
background; every pixel outside equals the input's. An element keeps its own pixels where `detail` knows how.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np

from gencompositor_jax.controls.geometry.detail import Detail, Fit, draw, fit
from gencompositor_jax.controls.geometry.view import View, crop_content, from_model
from gencompositor_jax.errors import InputError


class Transfer(NamedTuple):
    """An element that keeps its own pixels; see `detail`."""

    fit: Fit
    paste: np.ndarray  # uint8 [T, H, W, 4]: the placed element at the background's size, straight alpha


def make_transfer(
    seen: np.ndarray,
    generated: np.ndarray,
    mask: np.ndarray,
    pastes: tuple[np.ndarray, np.ndarray],
    token: int,
    detail: Detail,
) -> Transfer | None:
    """The transfer of a placed element, or None where there is nothing to transfer.

    Args:
        seen: uint8 [T, h, w, 3], the scene behind the element at the model's size.
        generated: uint8 [T, h, w, 3], the model's frames.
        mask: bool [T, h, w], what the model generated.
        pastes: the placed element, uint8 straight alpha, at the model's size and at the background's.
        token: pixels of a token's side.
        detail: "element", "auto" (the element's own pixels where the model drew the same) or "model" (None).
    """
    small, large = pastes
    found = None if detail == "model" else fit(seen, small, generated, mask, token)
    if found is None:
        return None
    return Transfer(found if detail == "auto" else found._replace(trust=np.ones_like(found.trust)), large)


def paste_back(
    native: np.ndarray,
    generated: np.ndarray,
    mask: np.ndarray,
    view: View,
    feather: float,
    transfer: Transfer | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The background with the generated part blended over it through the mask.

    Args:
        native: uint8 [T, H, W, 3], the background; or float32 in the same levels, which are not rounded then.
        generated: uint8 [T, h, w, 3], the model's frames.
        mask: bool [T, h, w], what the model generated (the inflated mask).
        view: how the model saw the background.
        feather: width in model pixels of the ramp from background to result, inside the mask. It should be
            less than the mask was inflated by; 0 makes a hard edge.
        transfer: draws the element's own pixels where its fit is trusted; None takes the model's everywhere.

    Returns ([T, H, W, 3] like `native`, bool [T, H, W] the mask at the background's size). Pixels outside
    that mask equal the input. InputError if the feather is negative or not finite.
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
        box = cv2.boundingRect(inside[t].astype(np.uint8))
        part = slice(box[1], box[1] + box[3]), slice(box[0], box[0] + box[2])
        width = feather / min(view.scale)
        near = _grown(part, native.shape[1:3])
        weight = feather_weight(inside[t][near], width)[_within(part, near)]
        result = from_model(generated[t : t + 1], view)[0][part].astype(np.float32)
        below = native[t][part].astype(np.float32)
        if transfer is not None:
            field, shade, trust = (_enlarged(v[t], view)[part] for v in transfer.fit[2:])
            # Wider for the shade: a mask may be too large, and the error would be seen around it.
            shade = 1 + feather_weight(inside[t][near], 3 * width)[_within(part, near)] * (shade - 1)
            drawn = draw(transfer.fit[:2], field, shade, below, transfer.paste[t][part])
            result += trust[..., None] * (drawn - result)
        mixed = below + weight[..., None] * (result - below)
        out[t][part] = np.rint(mixed) if native.dtype == np.uint8 else mixed
    return out, inside


def _grown(part: tuple[slice, slice], size: tuple[int, ...]) -> tuple[slice, slice]:
    """A bounding box with the pixels around it, from which the mask's edge is measured."""
    rows, columns = (
        slice(max(0, each.start - 1), min(most, each.stop + 1)) for each, most in zip(part, size, strict=True)
    )
    return rows, columns


def _within(part: tuple[slice, slice], around: tuple[slice, slice]) -> tuple[slice, slice]:
    """A part in the pixels of a larger one."""
    rows, columns = (
        slice(each.start - other.start, each.stop - other.start)
        for each, other in zip(part, around, strict=True)
    )
    return rows, columns


def _enlarged(frame: np.ndarray, view: View) -> np.ndarray:
    """A smooth float32 frame [h, w, ...] of the model at the background's size [H, W, ...]."""
    height, width = view.native
    content = np.ascontiguousarray(crop_content(frame[None], view)[0])
    return cv2.resize(content, (width, height), interpolation=cv2.INTER_LINEAR)


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
