"""Mask inflation, and the background that is masked with its result; both run on the host.

One implementation serves inference and training.
"""

import cv2
import numpy as np

from gencompositor_jax.arch import Inflation
from gencompositor_jax.errors import InputError


def inflate(mask: np.ndarray, inflation: Inflation) -> np.ndarray:
    """Grows a target mask, so that shadows and soft edges around the element are generated too.

    `Inflation()` gives the released preset: specks go (opening, small components), then every frame is
    filtered with a Gaussian of peak 1 (not normalised) and whatever reaches `tau` is inside. The result
    contains `clean(mask, inflation)`, grows with the mask, and away from the border moves with it.

    Args:
        mask: [T, H, W], bool, or uint8 grey values 0..255.
        inflation: the settings; see `gencompositor_jax.arch.Inflation`.

    Returns:
        bool [T, H, W].

    Raises:
        InputError: the mask has another shape or type, or a setting is out of its range.
    """
    kernel = gaussian_window(inflation)
    cleaned = clean(mask, inflation)
    grown = np.empty_like(cleaned)
    for t, frame in enumerate(cleaned):
        # Zero padding: a mask that touches the border is not mirrored there.
        response = cv2.sepFilter2D(
            frame.astype(np.float32), cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_CONSTANT
        )
        grown[t] = response >= inflation.tau
    return grown


def clean(mask: np.ndarray, inflation: Inflation) -> np.ndarray:
    """The first half of `inflate`: threshold, opening, no small components; [T, H, W] -> bool [T, H, W]."""
    if inflation.opening < 0 or (inflation.opening and inflation.opening % 2 == 0):
        raise InputError(
            f"inflation.opening={inflation.opening}: pass an odd number of pixels, or 0 for no opening"
        )
    if not 0 <= inflation.min_area < 1:
        raise InputError(
            f"inflation.min_area={inflation.min_area}: pass a share of the frame from 0 to below 1"
        )
    inside = threshold(mask, inflation.threshold)
    if inflation.opening > 1:
        element = _disc(inflation.opening)
        opened = [cv2.morphologyEx(f, cv2.MORPH_OPEN, element) for f in inside.view(np.uint8)]
        inside = np.array(opened, np.uint8).reshape(inside.shape).astype(bool)
    return drop_small(inside, inflation.min_area)


def threshold(mask: np.ndarray, above: int) -> np.ndarray:
    """Inside is what a bool mask says, or uint8 grey values larger than `above`; bool [T, H, W]."""
    if mask.ndim != 3 or 0 in mask.shape[1:]:
        raise InputError(f"mask of shape {mask.shape}: pass [frames, height, width]")
    if mask.dtype == np.bool_:
        return mask.copy()
    if mask.dtype != np.uint8:
        raise InputError(f"mask of type {mask.dtype}: pass bool, or uint8 grey values from 0 to 255")
    return mask > above


def drop_small(mask: np.ndarray, min_area: float) -> np.ndarray:
    """Drops 8-connected components of at most `min_area` (share of the frame); bool [T, H, W] both ways."""
    kept = np.zeros_like(mask)
    for t, frame in enumerate(mask):
        _, labels, stats, _ = cv2.connectedComponentsWithStats(frame.view(np.uint8), connectivity=8)
        large = stats[:, cv2.CC_STAT_AREA] > min_area * frame.size
        large[0] = False  # the background
        kept[t] = large[labels]
    return kept


def gaussian_window(inflation: Inflation) -> np.ndarray:
    """One axis of the separable window, float32 [kernel]: exp(-d² / (2 sigma²)), peak 1, not normalised.

    Raises:
        InputError: `kernel`, `sigma` or `tau` is out of range (a `tau` above the peak would shrink the mask).
    """
    if inflation.kernel < 1 or inflation.kernel % 2 == 0:
        raise InputError(f"inflation.kernel={inflation.kernel}: pass an odd number of pixels")
    if not (np.isfinite(inflation.sigma) and inflation.sigma > 0):
        raise InputError(f"inflation.sigma={inflation.sigma}: pass a number of pixels above 0")
    if not 0 < inflation.tau <= 1:
        raise InputError(f"inflation.tau={inflation.tau}: pass a response above 0 and at most 1")
    d = np.arange(inflation.kernel) - inflation.kernel // 2
    return np.exp(-(d**2) / (2 * inflation.sigma**2)).astype(np.float32)


def blacken(frames: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The masked background: uint8 [T, H, W, 3] frames, black where the mask, bool [T, H, W], is set.

    Nothing of what stood there reaches the network.
    """
    out = np.zeros(frames.shape, np.uint8)
    if out.size:
        rows = (-1, *frames.shape[2:])
        keep = (~mask).view(np.uint8).reshape(-1, frames.shape[2])
        cv2.copyTo(np.ascontiguousarray(frames).reshape(rows), keep, out.reshape(rows))
    return out


def _disc(side: int) -> np.ndarray:
    # OpenCV's own ellipse depends on its version; side 3 is the plus sign that the release opens with.
    d = np.arange(side) - side // 2
    return (d[:, None] ** 2 + d[None, :] ** 2 <= (side // 2) ** 2).astype(np.uint8)
