"""Metrics of single frames, as the harmonisation field computes them: MSE, fMSE, PSNR, SSIM, fSSIM.

Every function takes clips uint8 [T, H, W, 3], and a mask bool [T, H, W] where it has one, and returns a value
per frame, float64 [T]. A frame whose mask is empty has the value NaN.
"""

from typing import Literal

import cv2
import numpy as np

Peak = Literal["255", "target"]

EXACT = (
    100.0  # dB: the PSNR of a frame that equals its target; one level in one pixel of 256 x 256 gives 101 dB
)
WINDOW, SIGMA = 11, 1.5  # of SSIM's Gaussian, in pixels (Wang et al. 2004)
K1, K2 = 0.01, 0.03


def mse(frames: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The mean squared error over pixels and channels, of values in 0..255."""
    check(frames, target)
    return np.array([_squared(a, b).mean() for a, b in zip(frames, target, strict=True)])


def fmse(frames: np.ndarray, target: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """fMSE: the mean squared error over the pixels of the foreground mask, of values in 0..255.

    Published code has the error of the whole frame (CO2Net) or of the masked frames (DoveNet), divided by the
    foreground's area. All three are equal where a method leaves the background as it is.
    """
    check(frames, target, mask)
    parts = zip(frames, target, mask, strict=True)
    return np.array([_squared(a[m], b[m]).mean() if m.any() else np.nan for a, b, m in parts])


def psnr(frames: np.ndarray, target: np.ndarray, peak: Peak = "255") -> np.ndarray:
    """10 log10(peak^2 / MSE) in dB, at most EXACT.

    peak: 255, or the largest value of the target's frame ("target"), which older evaluation scripts of the
    field pass as the data range. It gives lower values for dark frames.
    """
    errors = np.maximum(mse(frames, target), 1e-12)
    peaks = np.array([255.0 if peak == "255" else max(float(frame.max()), 1.0) for frame in target])
    return np.minimum(10 * np.log10(peaks**2 / errors), EXACT)


def ssim(frames: np.ndarray, target: np.ndarray) -> np.ndarray:
    """SSIM (Wang et al. 2004): Gaussian window, population covariance, mean over channels and pixels.

    Pixels whose window leaves the frame are left out. Equals scikit-image's `structural_similarity` with
    gaussian_weights, sigma 1.5, use_sample_covariance False and data_range 255.

    Raises ValueError for frames smaller than the window.
    """
    check(frames, target)
    edge = WINDOW // 2
    if min(frames.shape[1:3]) < WINDOW:
        raise ValueError(f"frames of {frames.shape[1:3]}: SSIM needs {WINDOW} pixels or more on each side")
    inside = slice(edge, -edge)
    pairs = zip(frames, target, strict=True)
    return np.array([_ssim_map(a, b, 255.0, cv2.BORDER_REFLECT)[inside, inside].mean() for a, b in pairs])


def fssim(frames: np.ndarray, target: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """fSSIM: the mean of the SSIM map over the foreground mask, with the constants of the field's code.

    That code passes values in 0..255 to constants for a data range of 1, and pads frames with zeros. Both are
    kept: with the right constants the values would not compare with published ones.
    """
    check(frames, target, mask)
    parts = zip(frames, target, mask, strict=True)
    return np.array(
        [_ssim_map(a, b, 1.0, cv2.BORDER_CONSTANT)[m].mean() if m.any() else np.nan for a, b, m in parts]
    )


def check(frames: np.ndarray, target: np.ndarray, mask: np.ndarray | None = None) -> None:
    """Raise ValueError unless both are uint8 [T, H, W, 3] of one shape, and the mask is bool [T, H, W]."""
    video = frames.ndim == 4 and frames.shape[-1] == 3 and frames.size > 0
    if not video or frames.shape != target.shape or frames.dtype != np.uint8 or target.dtype != np.uint8:
        raise ValueError(
            f"{frames.dtype} {frames.shape} and {target.dtype} {target.shape}: pass equal uint8 [T, H, W, 3]"
        )
    if mask is not None and (mask.shape != frames.shape[:-1] or mask.dtype != np.bool_):
        raise ValueError(f"mask: {mask.dtype} {mask.shape}; pass bool {frames.shape[:-1]}")


def _squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    difference: np.ndarray = a.astype(np.float64) - b
    return difference**2


def _ssim_map(a: np.ndarray, b: np.ndarray, data_range: float, border: int) -> np.ndarray:
    """float64 [H, W, 3]: SSIM of the window around each pixel, per channel."""

    def mean(image: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(image, (WINDOW, WINDOW), SIGMA, borderType=border)

    x, y = a.astype(np.float64), b.astype(np.float64)
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    similarity: np.ndarray = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return similarity
