import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gencompositor_jax.inference.windows import OVERLAP, cross_fade, window_starts


@given(st.integers(1, 60), st.integers(2, 20))
def test_windows_cover_the_clip_and_overlap(total, size):
    starts = window_starts(total, size)
    if total <= size:
        assert starts == (0,)
        return
    assert starts[0] == 0 and starts[-1] == total - size
    steps = np.diff(starts)
    assert steps.min() >= 1 and steps.max() <= size - 1
    # One more or fewer for the rounding of evenly spread starts.
    assert size - steps.max() >= max(1, round(OVERLAP * size)) - 1


@given(st.integers(1, 60), st.integers(2, 20))
def test_weights_sum_to_one_and_fade(total, size):
    size = min(size, total)
    starts = window_starts(total, size)
    weights = cross_fade(starts, size, total)
    assert weights.dtype == np.float32 and weights.min() > 0
    summed = np.zeros(total)
    for start, own in zip(starts, weights, strict=True):
        summed[start : start + size] += own
    np.testing.assert_allclose(summed, 1, rtol=1e-6)


def test_a_fade_is_linear_over_the_overlap():
    assert window_starts(22, 13) == (0, 9)
    first, second = cross_fade((0, 9), 13, 22)
    np.testing.assert_allclose(second[:5], [0.2, 0.4, 0.6, 0.8, 1], rtol=1e-6)
    np.testing.assert_allclose(first[8:], [1, 0.8, 0.6, 0.4, 0.2], rtol=1e-6)


@pytest.mark.parametrize(("total", "starts"), [(3, (0,)), (4, (0, 1)), (5, (0, 2)), (7, (0, 2, 4))])
def test_as_few_windows_as_overlap(total, starts):
    assert window_starts(total, 3) == starts
