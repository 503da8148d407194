import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencompositor_jax.model.injection import inject, on_joint_sequence, residual_of_block


def test_residuals_are_added_outside_the_mask_only():
    tokens, residual = jax.random.normal(jax.random.key(0), (2, 2, 5, 3))
    mask = jnp.array([[True, False, True, False, False], [False] * 5])
    expected = tokens + (1 - mask[..., None]) * residual  # equation 5 of the paper
    np.testing.assert_allclose(inject(tokens, residual, mask), expected, atol=1e-6)
    np.testing.assert_array_equal(inject(tokens, residual, jnp.ones_like(mask)), tokens)


def test_a_masked_token_ignores_a_residual_that_is_not_finite():
    tokens, residual = jnp.ones((1, 2, 1)), jnp.array([[[jnp.nan], [1.0]]])
    mask = jnp.array([[True, False]])
    np.testing.assert_array_equal(inject(tokens, residual, mask), [[[1.0], [2.0]]])
    gradient = jax.grad(lambda residual: inject(tokens, residual, mask).sum())(residual)
    np.testing.assert_array_equal(gradient, [[[0.0], [1.0]]])


@pytest.mark.parametrize(
    ("blocks", "residuals", "expected"),
    [(42, 2, [0] * 21 + [1] * 21), (5, 2, [0] * 3 + [1] * 2), (3, 1, [0] * 3)],
)
def test_each_residual_serves_consecutive_blocks(blocks, residuals, expected):
    assert residual_of_block(blocks, residuals).tolist() == expected


def test_only_video_tokens_of_the_joint_sequence_receive_residuals():
    residuals, mask = jnp.ones((2, 1, 3, 4)), jnp.array([[False, True, False]])
    residuals, mask = on_joint_sequence(residuals, mask, first=2, length=8)
    assert residuals.shape == (2, 1, 8, 4)
    changed = inject(jnp.zeros((1, 8, 4)), residuals[0], mask)[0].any(-1)
    assert changed.tolist() == [False, False, True, False, True, False, False, False]
