"""Pixel scaling, with NumPy and with JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencompositor_jax.pixels import to_pixels, to_signed


@pytest.mark.parametrize("of", [np.asarray, jnp.asarray])
def test_every_pixel_value_survives_scaling_and_its_inverse(of):
    pixels = of(np.arange(256, dtype=np.uint8))
    signed = to_signed(pixels)
    assert isinstance(signed, type(pixels)) and signed.dtype == np.float32
    assert signed[0] == -1 and signed[-1] == 1 and (np.diff(signed) > 0).all()
    np.testing.assert_array_equal(to_pixels(signed), pixels)
    assert to_pixels(of([-3.0, 3.0])).tolist() == [0, 255]


def test_compiled_scaling_differs_by_at_most_one_ulp_and_its_inverse_not_at_all():
    pixels, video = np.arange(256, dtype=np.uint8), np.linspace(-1.2, 1.2, 9999, dtype=np.float32)
    np.testing.assert_array_max_ulp(np.asarray(jax.jit(to_signed)(pixels)) + 2, to_signed(pixels) + 2, 1)
    np.testing.assert_array_equal(jax.jit(to_pixels)(video), to_pixels(video))
