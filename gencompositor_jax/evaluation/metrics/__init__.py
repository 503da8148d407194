"""Peak signal-to-noise ratio in a region, and its mean over clips."""

import math
from collections.abc import Sequence

import numpy as np

CAP = 60.0  # dB: the score of an exact result in a mean; rounding to uint8 alone gives 59 dB


def psnr(frames: np.ndarray, target: np.ndarray, region: np.ndarray) -> float:
    """PSNR of one clip in dB, over the pixels of a region in all frames and the three channels.

        10 log10(255² / mean((frames - target)²))

    Args:
        frames: uint8 [T, H, W, 3].
        target: uint8 [T, H, W, 3].
        region: bool [T, H, W].

    Returns:
        dB; infinity if both are equal.

    Raises:
        ValueError: the region is empty, or shapes or types differ from these.
    """
    if frames.shape != target.shape or frames.dtype != np.uint8 or target.dtype != np.uint8:
        raise ValueError(
            f"{frames.dtype} {frames.shape} and {target.dtype} {target.shape}: pass equal uint8 clips"
        )
    if region.shape != frames.shape[:-1] or region.dtype != np.bool_:
        raise ValueError(f"region: {region.dtype} {region.shape}; pass bool {frames.shape[:-1]}")
    if not region.any():
        raise ValueError("region: is empty; pass one with at least one pixel")
    error = np.mean((frames[region].astype(np.float64) - target[region]) ** 2)
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def capped(db: float) -> float:
    """At most CAP dB, so that an exact result does not make a mean infinite."""
    return min(db, CAP)


def capped_psnr(frames: np.ndarray, target: np.ndarray, region: np.ndarray) -> float:
    """`psnr`, at most CAP dB; NaN for an empty region."""
    return capped(psnr(frames, target, region)) if region.any() else math.nan


def mean_and_half_width(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and half the width of its 95 % confidence interval (normal approximation; None for one
    value).
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, None
    return mean, float(1.96 * np.std(values, ddof=1) / math.sqrt(len(values)))
