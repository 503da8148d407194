"""Ulysses and ring attention on eight virtual devices."""

import math

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from gencompositor_jax import sharding
from gencompositor_jax.model import attention
from gencompositor_jax.model.attention import chunked, parallel

MESHES = [
    {"data": 2, "context": 2, "tensor": 2},
    *(pytest.param({axis: 8}, marks=pytest.mark.slow) for axis in ("fsdp", "context", "tensor")),
]
DIVISORS = [2, 3, 4, 6, 8, 12, 16, 24, 48]  # of the released 48 heads


def mesh_of(sizes):
    return sharding.make_mesh(sizes, jax.devices()[: math.prod(sizes.values())])


def abstract(*sizes):
    return AbstractMesh(sizes, sharding.AXES, axis_types=(AxisType.Auto,) * len(sizes))


def collectives(mesh, heads, tokens=24):
    """Numbers of all-to-alls and of permutations in attention on a mesh of this size."""
    x = jax.ShapeDtypeStruct((1, tokens, heads, 8), jnp.float32)
    with jax.sharding.use_abstract_mesh(mesh):
        text = str(jax.make_jaxpr(attention.attend)(x, x, x))
    assert "all_gather" not in text
    return text.count("all_to_all["), text.count("ppermute[")


@pytest.mark.parametrize("sizes", MESHES, ids=str)
@pytest.mark.parametrize("heads", [8, 6])  # 8 devices don't divide 6
def test_attention_on_a_mesh_is_attention(agree, make_inputs, sizes, heads):
    with jax.set_mesh(mesh_of(sizes)):
        agree(attention.attend, make_inputs(24, heads, batch=8), 21)


@pytest.mark.parametrize("heads", [8, 5])
def test_the_output_has_the_input_s_sharding(heads):
    mesh = mesh_of({"fsdp": 4, "context": 2})
    place = NamedSharding(mesh, PartitionSpec(sharding.ROWS, sharding.TOKENS))
    x = jax.ShapeDtypeStruct((4, 24, heads, 8), jnp.float32, sharding=place)
    with jax.set_mesh(mesh):
        compiled = jax.jit(attention.attend, out_shardings=place).lower(x, x, x).compile()
    assert "all-gather" not in compiled.as_text()


@pytest.mark.parametrize("heads", [8, pytest.param(5, marks=pytest.mark.slow)])
def test_half_precision_on_a_mesh(agree, make_inputs, heads):
    with jax.set_mesh(mesh_of({"context": 4, "tensor": 2})):
        agree(attention.attend, make_inputs(24, heads, dtype=jnp.bfloat16), 21)


@pytest.mark.parametrize("heads", [8, 5])
def test_what_the_mesh_does_not_divide(agree, make_inputs, heads):
    """One row over two devices, 23 tokens over four."""
    with jax.set_mesh(mesh_of({"data": 2, "context": 4})):
        agree(attention.attend, make_inputs(23, heads, batch=1), 22)


@pytest.mark.parametrize("length", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (4, 24))])
def test_padding_may_fill_whole_devices(agree, make_inputs, length):
    with jax.set_mesh(mesh_of({"context": 8})):
        agree(attention.attend, make_inputs(24, 5), length)


@pytest.mark.parametrize("parts", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 4, 6, 8))])
def test_the_released_heads_by_ulysses(agree, make_inputs, parts):
    with jax.set_mesh(mesh_of({"context": parts})):
        agree(attention.attend, make_inputs(24, 48, dim=8, batch=1), 22)


@pytest.mark.parametrize("parts", DIVISORS)
def test_numbers_of_devices_that_divide_the_released_heads_use_ulysses(parts):
    for context in (n for n in range(1, parts + 1) if parts % n == 0):
        mesh = abstract(1, 1, context, parts // context)
        assert parallel.layout(mesh, 48) == ("tensor", "context", True)
        assert collectives(mesh, 48, tokens=48) == (4, 0)  # queries, keys and values in, outputs out


@pytest.mark.parametrize("parts", [5, 9, 32, 64])
def test_other_numbers_of_devices_use_a_ring(parts):
    mesh = abstract(1, 1, parts, 1)
    assert parallel.layout(mesh, 48) == ("tensor", "context", False)
    assert collectives(mesh, 48, tokens=parts) == (0, 2)  # keys and values


def test_heads_that_tensor_does_not_divide_stay_together():
    mesh = abstract(1, 1, 2, 4)
    assert parallel.layout(mesh, 6) == (None, ("context", "tensor"), False)


@pytest.mark.parametrize("heads", [pytest.param(8, marks=pytest.mark.slow), 5])
def test_memory_grows_linearly_and_falls_with_the_devices(heads, monkeypatch):
    monkeypatch.setattr(chunked, "_CPU_TILE", (256, 256))  # tiles of constant size

    def temporaries(tokens, parts):
        x = jax.ShapeDtypeStruct((1, tokens, heads, 16), jnp.float32)
        step = jax.grad(lambda q, k, v: jnp.sum(jnp.sin(attention.attend(q, k, v))), (0, 1, 2))
        with jax.set_mesh(mesh_of({"context": parts})):
            return jax.jit(step).lower(x, x, x).compile().memory_analysis().temp_size_in_bytes

    one = temporaries(16_384, 8)
    assert temporaries(32_768, 8) < 2.1 * one
    assert one < 0.6 * temporaries(16_384, 2)
