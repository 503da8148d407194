"""Alpha: straight, or multiplied into the colours."""

from typing import Literal

import numpy as np

AlphaKind = Literal["auto", "straight", "premultiplied"]

_NOISE = 8  # of 255: what coding adds to values
_SOFT = 64  # partly transparent pixels from which the kind can be told
SAMPLES = 200_000  # pixels of a clip from which its kind is told


def straight_alpha(frames: np.ndarray, kind: AlphaKind) -> np.ndarray:
    """uint8 RGBA [T, H, W, 4] of a kind -> with straight alpha; "auto": see `is_premultiplied`."""
    if kind == "straight" or (kind == "auto" and not is_premultiplied(frames)):
        return frames
    out = frames.copy()
    for frame in out:
        alpha = frame[..., 3:].astype(np.float32)
        straight = frame[..., :3] * (255 / np.maximum(alpha, 1))
        frame[..., :3] = np.rint(np.minimum(straight, 255))
    return out


def is_premultiplied(frames: np.ndarray) -> bool:
    """Whether the colours of uint8 RGBA [..., 4] are multiplied by alpha.

    They are if no colour exceeds alpha and colours fade with alpha: with m the largest component, m / alpha
    of the fainter half of the soft pixels is nearer to that of the more opaque ones than m itself is. Without
    soft pixels both kinds are the same, and of black elements too.
    """
    pixels = frames.reshape(-1, 4)
    pixels = pixels[:: max(1, len(pixels) // SAMPLES)]
    alpha = pixels[:, 3].astype(np.float32)
    largest = pixels[:, :3].max(axis=-1).astype(np.float32)
    soft = (alpha > _NOISE) & (alpha < 255 - _NOISE)
    if np.count_nonzero(soft) < _SOFT or (largest > alpha + _NOISE).mean() > 1e-3:
        return False
    faint = soft & (alpha <= np.median(alpha[soft]))
    opaque = (alpha > _NOISE) & ~faint
    if not opaque.any() or largest[opaque].mean() <= _NOISE:
        return False
    as_straight = abs(largest[faint].mean() / largest[opaque].mean() - 1)
    ratio = largest / np.maximum(alpha, 1)
    as_premultiplied = abs(ratio[faint].mean() / ratio[opaque].mean() - 1)
    return bool(as_premultiplied < as_straight)
