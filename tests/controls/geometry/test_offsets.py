import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gencompositor_jax.controls.geometry.offsets import whole_tokens

distances = arrays(np.float64, (9, 2), elements=st.floats(-200, 200))


@given(distances)
def test_offset_and_rest_make_the_distance(distance):
    offsets, rest = whole_tokens(distance, (4, 8))
    assert offsets.shape == (3, 2) and offsets.dtype == np.int32
    latent_frame = np.array([0, 1, 1, 1, 1, 2, 2, 2, 2])
    np.testing.assert_allclose(rest + 8 * offsets[latent_frame, ::-1], distance, atol=1e-9)


@given(distances)
def test_what_is_left_is_half_a_token_on_average(distance):
    _, rest = whole_tokens(distance, (4, 8))
    for part in (rest[:1], rest[1:5], rest[5:]):
        assert np.abs(part.mean(0)).max() <= 4 + 1e-9


def test_offsets_are_rows_and_columns():
    offsets, rest = whole_tokens(np.array([[17.0, -8.0]]), (4, 8))
    np.testing.assert_array_equal(offsets, [[-1, 2]])
    np.testing.assert_array_equal(rest, [[1.0, 0.0]])
