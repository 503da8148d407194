"""Mask inflation and the masked background (paper, section 4.1), for inference and training.

With a Gaussian window G and a binary mask M (paper, equation 4), and background frames v (equation 3):

    (1)  M <- [G * M >= tau]
    (2)  X  = (1 - M) v

The paper gives no values. The release's window has peak 1 instead of sum 1, so that (1) is a dilation by
about 25 pixels; it also removes specks from the mask first (`clean`).
"""

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from gencompositor_jax.arch import Inflation
from gencompositor_jax.errors import InputError


def inflate(
    mask: Bool[np.ndarray, "T H W"] | UInt8[np.ndarray, "T H W"], inflation: Inflation
) -> Bool[np.ndarray, "T H W"]:
    """Equation (1) after `clean`: adds a band around the element, where the model generates shadows and soft
    edges.

    The result contains `clean(mask, inflation)`, is monotonic in the mask and, away from the border, shifts
    with it.

    Args:
        mask: bool, or grey values from 0 to 255.
        inflation: the settings; their defaults are the release's.

    Raises:
        InputError: the mask has another shape or type, or a setting is out of its range.
    """
    kernel = gaussian_window(inflation)
    cleaned = clean(mask, inflation)
    grown = np.empty_like(cleaned)
    for t, frame in enumerate(cleaned):
        # OpenCV's default padding would mirror a mask that touches the border.
        response = cv2.sepFilter2D(
            frame.astype(np.float32), cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_CONSTANT
        )
        grown[t] = response >= inflation.tau
    return grown


def clean(
    mask: Bool[np.ndarray, "T H W"] | UInt8[np.ndarray, "T H W"], inflation: Inflation
) -> Bool[np.ndarray, "T H W"]:
    """The first half of `inflate` (release): threshold, opening, removal of small components."""
    if inflation.opening < 0 or (inflation.opening and inflation.opening % 2 == 0):
        raise InputError(
            f"inflation.opening={inflation.opening}: pass an odd number of pixels, or 0 for no opening"
        )
    if not 0 <= inflation.min_area < 1:
        raise InputError(
            f"inflation.min_area={inflation.min_area}: pass a fraction of the frame, from 0 to below 1"
        )
    inside = threshold(mask, inflation.threshold)
    if inflation.opening > 1:
        element = _disc(inflation.opening)
        opened = [cv2.morphologyEx(f, cv2.MORPH_OPEN, element) for f in inside.view(np.uint8)]
        inside = np.array(opened, np.uint8).reshape(inside.shape).astype(bool)
    return drop_small(inside, inflation.min_area)


def threshold(
    mask: Bool[np.ndarray, "T H W"] | UInt8[np.ndarray, "T H W"], above: int
) -> Bool[np.ndarray, "T H W"]:
    """True for grey values larger than `above`; a copy of a bool mask."""
    if mask.ndim != 3 or 0 in mask.shape[1:]:
        raise InputError(f"mask of shape {mask.shape}: pass [frames, height, width]")
    if mask.dtype == np.bool_:
        return mask.copy()
    if mask.dtype != np.uint8:
        raise InputError(f"mask of type {mask.dtype}: pass bool, or uint8 grey values from 0 to 255")
    return mask > above


def drop_small(mask: Bool[np.ndarray, "T H W"], min_area: float) -> Bool[np.ndarray, "T H W"]:
    """Removes 8-connected components of at most `min_area`, a fraction of the frame."""
    kept = np.zeros_like(mask)
    for t, frame in enumerate(mask):
        _, labels, stats, _ = cv2.connectedComponentsWithStats(frame.view(np.uint8), connectivity=8)
        large = stats[:, cv2.CC_STAT_AREA] > min_area * frame.size
        large[0] = False  # label 0 is the background
        kept[t] = large[labels]
    return kept


def gaussian_window(inflation: Inflation) -> Float[np.ndarray, " {inflation.kernel}"]:
    """One axis of the separable window G, float32: exp(-d^2 / (2 sigma^2)), so its peak is 1.

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


def blacken(
    frames: UInt8[np.ndarray, "T H W 3"], mask: Bool[np.ndarray, "T H W"]
) -> UInt8[np.ndarray, "T H W 3"]:
    """The masked background of equation (2): black inside the mask, whose pixels never reach the network."""
    out = np.zeros(frames.shape, np.uint8)
    if out.size:
        rows = (-1, *frames.shape[2:])
        keep = (~mask).view(np.uint8).reshape(-1, frames.shape[2])
        cv2.copyTo(np.ascontiguousarray(frames).reshape(rows), keep, out.reshape(rows))
    return out


def _disc(side: int) -> np.ndarray:
    # OpenCV's own ellipse depends on its version. Side 3 is the release's plus-shaped element.
    d = np.arange(side) - side // 2
    return (d[:, None] ** 2 + d[None, :] ** 2 <= (side // 2) ** 2).astype(np.uint8)
