import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gencompositor_jax.evaluation import metrics

SHAPE = (2, 4, 5)


def clip(value: int) -> np.ndarray:
    return np.full((*SHAPE, 3), value, np.uint8)


def region(pixels: int = 0) -> np.ndarray:
    """The first `pixels` pixels of the clip, all for 0."""
    flat = np.arange(np.prod(SHAPE)) < (pixels or np.prod(SHAPE))
    return flat.reshape(SHAPE)


def test_the_psnr_of_an_exact_result_is_infinite_and_capped():
    assert metrics.psnr(clip(7), clip(7), region()) == math.inf
    assert metrics.capped(math.inf) == metrics.CAP
    assert metrics.capped(12.5) == 12.5


@given(st.integers(0, 255), st.integers(0, 255))
def test_a_constant_error_has_the_known_value(a, b):
    if a != b:
        expected = 20 * math.log10(255 / abs(a - b))
        assert metrics.psnr(clip(a), clip(b), region()) == pytest.approx(expected)


def test_black_for_white_is_zero_decibels():
    assert metrics.psnr(clip(0), clip(255), region()) == pytest.approx(0.0)


def test_only_the_pixels_of_the_region_count():
    frames, target = clip(100), clip(100)
    frames[0, 0, 0] = 110  # in the region
    frames[1, -1, -1] = 0  # outside it
    assert metrics.psnr(frames, target, region(8)) == pytest.approx(10 * math.log10(255**2 / (100 / 8)))
    frames[0, 0, 0] = 100
    assert metrics.psnr(frames, target, region(8)) == math.inf


@given(st.integers(1, 40))
def test_the_psnr_is_of_the_mean_error_over_the_region(pixels):
    frames = clip(100)
    frames[0, 0, 0] = 90
    result = metrics.psnr(frames, clip(100), region(pixels))
    assert result == pytest.approx(metrics.psnr(frames, clip(100), region(1)) + 10 * math.log10(pixels))


def test_an_empty_region_and_wrong_shapes_or_types_are_refused():
    with pytest.raises(ValueError, match="region: is empty"):
        metrics.psnr(clip(0), clip(1), np.zeros(SHAPE, bool))
    with pytest.raises(ValueError, match="uint8"):
        metrics.psnr(clip(0).astype(np.float32), clip(1), region())
    with pytest.raises(ValueError, match="region"):
        metrics.psnr(clip(0), clip(1), region()[:1])


def test_confidence_interval_of_known_values():
    mean, half = metrics.mean_and_half_width([1.0, 3.0, 5.0, 7.0])
    assert mean == 4.0
    assert half == pytest.approx(1.96 * math.sqrt(20 / 3) / 2)
    assert metrics.mean_and_half_width([2.0]) == (2.0, None)
