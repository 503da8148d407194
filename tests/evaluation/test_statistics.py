import numpy as np
import pytest

from gencompositor_jax.evaluation import statistics


def test_the_interval_of_a_normal_sample_is_that_of_its_mean():
    values = np.random.default_rng(1).normal(5, 2, 400)
    mean, low, high = statistics.bootstrap(values)
    half = 1.96 * values.std(ddof=1) / 20
    assert low is not None and high is not None
    assert mean == pytest.approx(values.mean())
    assert (high - low) / 2 == pytest.approx(half, rel=0.05)
    assert statistics.bootstrap(values) == (mean, low, high)


def test_pairs_that_always_differ_alike_have_no_spread():
    theirs = np.random.default_rng(2).normal(0, 10, 50)
    assert statistics.paired(list(theirs + 3), list(theirs)) == pytest.approx((3, 3, 3))


def test_missing_values_are_left_out_and_a_single_one_has_no_interval():
    assert statistics.bootstrap([np.nan, 4.0]) == (4.0, None, None)
    with pytest.raises(ValueError, match="no clip"):
        statistics.bootstrap([np.nan])
