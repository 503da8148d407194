"""Fast transposes give NumPy's bits, and no NaN or infinity is missed."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gencompositor_jax.conversion.arrays import all_finite, contiguous

TYPES = [np.dtype(t) for t in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)]
shapes = arrays.array_shapes(min_dims=1, max_dims=5, min_side=1, max_side=9)


@settings(max_examples=150, deadline=None)
@given(shape=shapes, dtype=st.sampled_from(TYPES), data=st.data())
def test_any_permutation_of_axes_and_any_slice(shape, dtype, data):
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 256, (*shape[:-1], shape[-1] * dtype.itemsize), dtype=np.uint8)
    axes = data.draw(st.permutations(range(len(shape))))
    view = bits.view(dtype).transpose(axes)
    part = tuple(slice(data.draw(st.integers(0, n - 1)), n) for n in view.shape)
    for given_view in (view, view[part]):
        ours = contiguous(given_view)
        assert ours.flags.c_contiguous and ours.dtype == dtype
        expected = np.ascontiguousarray(given_view)
        np.testing.assert_array_equal(ours.view(np.uint8), expected.view(np.uint8))


def test_large_transposes_of_every_rule():
    x = np.arange(700 * 600, dtype=np.uint16).reshape(700, 600)
    heads = x.T.reshape(600, 10, 70), x.T.reshape(10, 60, 700), np.moveaxis(x.reshape(700, 60, 10), 0, -1)
    for view in (x.T, *heads, x.T[3:, 5:], x[:, ::2]):
        np.testing.assert_array_equal(contiguous(view), view.copy())


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_found_at_any_index(dtype, bad):
    array = np.full(2**18 + 5, 6e4).astype(dtype)
    array[1] = 0
    array[2] = -array[0]
    assert all_finite(array)
    for index in (0, 2**18 - 1, 2**18, -1):
        damaged = array.copy()
        damaged[index] = bad
        assert not all_finite(damaged)
