import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencompositor_jax import sharding
from gencompositor_jax.model.attention import chunked, naive

TOKENS, LENGTH = 37, 33


@pytest.fixture(params=["cpu", "gpu"])
def tiles(request, monkeypatch):
    """A platform's tiles: one head at a time, or all at once."""
    monkeypatch.setattr(sharding, "platform", lambda: request.param)
    name = "_CPU_TILE" if request.param == "cpu" else "_TILE"
    return lambda tile: monkeypatch.setattr(chunked, name, tile)


@pytest.mark.parametrize("tile", [(1, 1), (4, 37), (37, 5), (8, 16), (64, 64)])
def test_chunks_agree_with_the_oracle(tiles, agree, make_inputs, tile):
    tiles(tile)
    agree(chunked.attend, make_inputs(TOKENS, 2), LENGTH)


def test_half_precision_keeps_its_type_and_is_near(tiles, agree, make_inputs):
    tiles((8, 16))
    agree(chunked.attend, make_inputs(TOKENS, 2, dtype=jnp.bfloat16), LENGTH)


def test_large_scores_stay_finite(make_inputs, tiles):
    tiles((8, 16))
    q, k, v = make_inputs(TOKENS, 2)
    np.testing.assert_allclose(
        chunked.attend(100 * q, 100 * k, v), naive.attend(100 * q, 100 * k, v), atol=1e-4
    )


def test_a_block_of_padding_has_no_effect(make_inputs):
    q, k, v = (x[0].swapaxes(0, 1) for x in make_inputs(8, 2))
    out, log_sum = chunked.forward(q, k, v, jnp.int32(0))
    assert jnp.isfinite(out).all()
    assert (jnp.exp(log_sum) == 0).all()
    for gradient in chunked.backward(q, k, v, jnp.int32(0), out, jnp.zeros_like(log_sum), q):
        assert (gradient == 0).all()


@pytest.mark.parametrize("tokens", [300, 4_400, 35_326])
@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_tiles_are_full(monkeypatch, platform, tokens):
    """Tiles are nearly as large as allowed and have little padding."""
    monkeypatch.setattr(sharding, "platform", lambda: platform)
    largest = chunked._CPU_TILE if platform == "cpu" else chunked._TILE
    for size, most in zip(chunked._tile(tokens, tokens), largest, strict=True):
        assert most / 2 < size <= most or size == tokens
        assert -tokens % size <= tokens / 100


def temporaries(attend, tokens):
    """Temporary bytes of the forward and backward program."""
    x = jax.ShapeDtypeStruct((1, tokens, 2, 16), jnp.float32)
    step = jax.grad(lambda q, k, v: jnp.sum(jnp.sin(attend(q, k, v))), (0, 1, 2))
    return jax.jit(step).lower(x, x, x).compile().memory_analysis().temp_size_in_bytes


def test_memory_grows_linearly():
    sizes = 4_096, 32_768
    less, more = (temporaries(chunked.attend, n) for n in sizes)
    assert more < 8.1 * less
    assert temporaries(naive.attend, sizes[0]) > 10 * less
