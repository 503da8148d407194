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
    """The first `pixels` of the clip, all of them where 0."""
    flat = np.arange(np.prod(SHAPE)) < (pixels or np.prod(SHAPE))
    return flat.reshape(SHAPE)


def test_an_exact_answer_is_infinitely_good_and_counts_the_cap():
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


def test_only_the_region_counts_and_all_its_frames_do_alike():
    frames, target = clip(100), clip(100)
    frames[0, 0, 0] = 110  # one of the pixels that are judged, of three colours
    frames[1, -1, -1] = 0  # not judged
    assert metrics.psnr(frames, target, region(8)) == pytest.approx(10 * math.log10(255**2 / (100 / 8)))
    frames[0, 0, 0] = 100
    assert metrics.psnr(frames, target, region(8)) == math.inf


@given(st.integers(1, 40))
def test_the_same_error_in_fewer_pixels_is_better(pixels):
    frames = clip(100)
    frames[0, 0, 0] = 90
    diluted = metrics.psnr(frames, clip(100), region(pixels))
    assert diluted == pytest.approx(metrics.psnr(frames, clip(100), region(1)) + 10 * math.log10(pixels))


def test_what_cannot_be_judged_is_refused():
    with pytest.raises(ValueError, match="no pixel"):
        metrics.psnr(clip(0), clip(1), np.zeros(SHAPE, bool))
    with pytest.raises(ValueError, match="uint8"):
        metrics.psnr(clip(0).astype(np.float32), clip(1), region())
    with pytest.raises(ValueError, match="region"):
        metrics.psnr(clip(0), clip(1), region()[:1])


def test_interval_of_known_values():
    mean, half = metrics.mean_and_half_width([1.0, 3.0, 5.0, 7.0])
    assert mean == 4.0
    assert half == pytest.approx(1.96 * math.sqrt(20 / 3) / 2)
    assert metrics.mean_and_half_width([2.0]) == (2.0, None)
