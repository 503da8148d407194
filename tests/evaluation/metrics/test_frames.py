"""Metrics of single frames: against an independent computation, and their properties."""

import numpy as np
import pytest

from gencompositor_jax.evaluation.metrics import frames as metrics

RNG = np.random.default_rng(0)
TARGET = RNG.integers(0, 256, (2, 24, 32, 3)).astype(np.uint8)
NOISY = np.clip(TARGET + RNG.normal(0, 20, TARGET.shape), 0, 255).astype(np.uint8)
MASK = np.zeros((2, 24, 32), bool)
MASK[0, 4:15, 6:20] = True  # the second frame has none


def naive_ssim(a: np.ndarray, b: np.ndarray, data_range: float, padded: bool) -> np.ndarray:
    """The SSIM map of one channel by sums over each window, float64."""
    offsets = np.arange(11) - 5
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    a, b = (np.pad(x.astype(float), 5) if padded else x.astype(float) for x in (a, b))
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    out = np.empty((a.shape[0] - 10, a.shape[1] - 10))
    for i, j in np.ndindex(out.shape):
        x, y = a[i : i + 11, j : j + 11], b[i : i + 11, j : j + 11]
        mx, my = (window * x).sum(), (window * y).sum()
        vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
        vxy = (window * (x - mx) * (y - my)).sum()
        out[i, j] = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return out


def test_ssim_is_the_mean_over_whole_windows_and_channels():
    expected = np.mean([naive_ssim(NOISY[0, ..., c], TARGET[0, ..., c], 255, False) for c in range(3)])
    assert metrics.ssim(NOISY, TARGET)[0] == pytest.approx(expected, rel=1e-6)


def test_fssim_is_the_mean_over_the_mask_with_the_constants_of_the_field():
    maps = np.stack([naive_ssim(NOISY[0, ..., c], TARGET[0, ..., c], 1, True) for c in range(3)], -1)
    # Windows over the border see the frame only, so that variances there are those of zero padding.
    interior = np.zeros_like(MASK)
    interior[0, 6:14, 8:18] = True
    assert metrics.fssim(NOISY, TARGET, interior)[0] == pytest.approx(maps[interior[0]].mean(), rel=1e-6)


def test_errors_of_a_known_offset():
    shifted = TARGET.copy()
    shifted[0, MASK[0]] = np.where(TARGET[0, MASK[0]] < 128, TARGET[0, MASK[0]] + 6, TARGET[0, MASK[0]] - 6)
    fraction = MASK[0].mean()
    assert metrics.mse(shifted, TARGET) == pytest.approx([36 * fraction, 0])
    fmse = metrics.fmse(shifted, TARGET, MASK)
    assert fmse[0] == pytest.approx(36) and np.isnan(fmse[1])
    assert np.isnan(metrics.fssim(shifted, TARGET, MASK)[1])


def test_both_peaks_of_the_psnr():
    dark, darker = np.full_like(TARGET, 100), np.full_like(TARGET, 90)
    assert metrics.psnr(darker, dark) == pytest.approx([20 * np.log10(255 / 10)] * 2)
    assert metrics.psnr(darker, dark, "target") == pytest.approx([20 * np.log10(100 / 10)] * 2)
    assert (metrics.psnr(dark, dark) == metrics.EXACT).all()


def test_an_equal_frame_has_ssim_1_and_more_noise_less():
    noisier = np.clip(TARGET + RNG.normal(0, 60, TARGET.shape), 0, 255).astype(np.uint8)
    values = [metrics.ssim(frames, TARGET).mean() for frames in (TARGET, NOISY, noisier)]
    assert values[0] == pytest.approx(1) and values[0] > values[1] > values[2]


@pytest.mark.parametrize(
    ("frames", "target", "mask"),
    [
        (TARGET.astype(np.float32), TARGET, MASK),
        (TARGET[:1], TARGET, MASK),
        (TARGET, TARGET, MASK[:1]),
        (TARGET, TARGET, MASK.astype(np.uint8)),
    ],
)
def test_other_shapes_and_types_are_refused(frames, target, mask):
    with pytest.raises(ValueError, match="pass"):
        metrics.fmse(frames, target, mask)


def test_frames_smaller_than_the_window_have_no_ssim():
    with pytest.raises(ValueError, match="11 pixels"):
        metrics.ssim(TARGET[:, :10], TARGET[:, :10])
