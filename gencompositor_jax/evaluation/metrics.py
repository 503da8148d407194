"""Peak signal-to-noise ratio inside a region, and how it is averaged over clips."""

import math
from collections.abc import Sequence

import numpy as np

CAP = 60.0  # dB: what an exact answer counts in a mean; rounding to uint8 alone costs 59 dB


def psnr(frames: np.ndarray, target: np.ndarray, region: np.ndarray) -> float:
    """PSNR in dB of one clip, over the pixels of a region of all its frames and the three colours.

        10 log10(255² / mean((frames - target)²))

    Args:
        frames: uint8 [T, H, W, 3].
        target: uint8 [T, H, W, 3].
        region: bool [T, H, W].

    Returns:
        dB; infinity where both are equal.

    Raises:
        ValueError: nothing is in the region, or shapes or types differ from these.
    """
    if frames.shape != target.shape or frames.dtype != np.uint8 or target.dtype != np.uint8:
        raise ValueError(
            f"{frames.dtype} {frames.shape} and {target.dtype} {target.shape}: pass equal uint8 clips"
        )
    if region.shape != frames.shape[:-1] or region.dtype != np.bool_:
        raise ValueError(f"region: {region.dtype} {region.shape}; pass bool {frames.shape[:-1]}")
    if not region.any():
        raise ValueError("region: no pixel is in it, so there is nothing to judge")
    error = np.mean((frames[region].astype(np.float64) - target[region]) ** 2)
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def capped(db: float) -> float:
    """At most CAP dB, so that one exact answer doesn't make a mean infinite."""
    return min(db, CAP)


def mean_and_half_width(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and half of its 95 % confidence interval (normal approximation); None for a single value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, None
    return mean, float(1.96 * np.std(values, ddof=1) / math.sqrt(len(values)))
