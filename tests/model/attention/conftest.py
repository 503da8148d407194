"""Inputs, and outputs with gradients to compare, for every backend; the reference is attention.naive."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencompositor_jax.model.attention import naive

Attend = Callable[..., jax.Array]


def inputs(
    tokens: int, heads: int, dim: int = 16, batch: int = 2, dtype: Any = jnp.float32
) -> list[jax.Array]:
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.standard_normal((batch, tokens, heads, dim)), dtype) for _ in range(3)]


def with_gradients(attend: Attend, qkv: list[jax.Array], length: int) -> list[np.ndarray]:
    """Outputs of the first `length` tokens, and a loss's gradients with respect to q, k and v."""

    def loss(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        out = attend(q, k, v, length)[:, :length].astype(jnp.float32)
        return jnp.sum(jnp.sin(out)), out

    gradients, out = jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))(*qkv)
    return [np.asarray(x) for x in (out, *gradients)]


@pytest.fixture(scope="session")
def agree() -> Callable[..., None]:
    """agree(attend, qkv, length) compares outputs and gradients with the reference.

    The tolerance is 1e-5 of the largest value in float32 and 2e-2 in bfloat16.
    """
    oracles: dict[Any, list[np.ndarray]] = {}

    def check(attend: Attend, qkv: list[jax.Array], length: int) -> None:
        key = qkv[0].shape, qkv[0].dtype, length
        if key not in oracles:
            oracles[key] = with_gradients(naive.attend, [x.astype(jnp.float32) for x in qkv], length)
        tolerance = 1e-5 if qkv[0].dtype == jnp.float32 else 2e-2
        for ours, oracle in zip(with_gradients(attend, qkv, length), oracles[key], strict=True):
            assert ours.dtype == jnp.float32 or ours.dtype == qkv[0].dtype
            most = np.abs(oracle).max()
            np.testing.assert_allclose(
                np.asarray(ours, np.float32), oracle, rtol=tolerance, atol=tolerance * most
            )

    return check


@pytest.fixture(scope="session")
def make_inputs() -> Callable[..., list[jax.Array]]:
    return inputs
