import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencompositor_jax import attention

SHAPE = (2, 13, 3, 16)


@pytest.fixture
def qkv():
    return jax.random.normal(jax.random.key(0), (3, *SHAPE))


@pytest.mark.parametrize("chunk", [1, 4, 13, 64, None])
def test_chunks_agree_with_the_oracle(qkv, chunk):
    np.testing.assert_allclose(
        attention.chunked(*qkv, chunk=chunk), attention.naive(*qkv), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("chunk", [4, None])
def test_gradients_agree_with_the_oracle(qkv, chunk):
    def gradients(attend):
        return jax.grad(lambda q, k, v: jnp.sum(jnp.sin(attend(q, k, v))), (0, 1, 2))(*qkv)

    pairs = zip(
        gradients(lambda *x: attention.chunked(*x, chunk=chunk)), gradients(attention.naive), strict=True
    )
    for ours, oracle in pairs:
        np.testing.assert_allclose(ours, oracle, rtol=1e-5, atol=1e-5)


def test_large_scores_stay_finite(qkv):
    q, k, v = qkv
    np.testing.assert_allclose(
        attention.chunked(100 * q, 100 * k, v), attention.naive(100 * q, 100 * k, v), atol=1e-4
    )


def test_half_precision_keeps_its_type_and_is_near(qkv):
    half = qkv.astype(jnp.bfloat16)
    out = attention.attend(*half)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(out.astype(jnp.float32), attention.naive(*qkv), atol=0.05)


def test_unknown_backend(qkv):
    with pytest.raises(ValueError, match="flash9"):
        attention.attend(*qkv, backend="flash9")
