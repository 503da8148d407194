import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencompositor_jax import arch as arch_lib
from gencompositor_jax.configs.common import base
from gencompositor_jax.training import token_choice

ARCH = arch_lib.linear()  # 3 x 8 x 12 tokens of 8 x 8 pixels
TIES = jax.random.uniform(jax.random.key(0), (2, 2, 288))


@pytest.fixture
def inputs():
    """A mask of 4 x 4 tokens and an element of 3 x 2 of them, in two clips."""
    mask = jnp.zeros((2, 3, 8, 12)).at[:, :, 2:6, 4:8].set(1)
    foreground = jnp.full((2, 9, 64, 96, 3), 255, jnp.uint8).at[:, :, 16:40, 24:40].set(10)
    return mask, foreground


def test_all_tokens_need_no_choice(inputs):
    assert token_choice.choose(ARCH, (288, 288), *inputs, TIES) is None
    assert token_choice.counts(ARCH, base().tokens) == (288, 288)


def test_the_mask_and_the_element_come_first_then_what_is_near(inputs):
    subset = token_choice.choose(ARCH, (3 * 36, 3 * 6), *inputs, TIES)
    near = np.zeros((3, 8, 12), bool)
    near[:, 1:7, 3:9] = True
    shown = np.zeros((3, 8, 12), bool)
    shown[:, 2:5, 3:5] = True
    for row in range(2):
        np.testing.assert_array_equal(subset.video[row], np.flatnonzero(near))
        np.testing.assert_array_equal(subset.foreground[row], np.flatnonzero(shown))


def test_tokens_at_equal_distances_are_drawn(inputs):
    subset = token_choice.choose(ARCH, (288, 30), *inputs, TIES)
    np.testing.assert_array_equal(subset.video[0], np.arange(288))
    assert (np.diff(subset.foreground, axis=1) > 0).all()
    assert (subset.foreground[0] != subset.foreground[1]).any()


def test_received_latents(inputs):
    received = token_choice.received(ARCH, jnp.array([[0, 13]]))
    assert received.shape == (1, 3, 8, 12, 1)
    assert received[0, 0, 0, 0, 0] == received[0, 0, 1, 1, 0] == 1
    assert received.sum() == 2
