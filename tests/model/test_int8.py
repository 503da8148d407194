"""Weights quantised to 8 bits: rounding, and the network that runs on them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gencompositor_jax import arch as arch_lib
from gencompositor_jax import checkpoints, sharding
from gencompositor_jax.model import int8
from gencompositor_jax.model.denoiser import Denoiser
from tests.model.test_denoiser import ARCH, inputs


def kernels_of(tree):
    """The quantised kernels by their paths."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: isinstance(x, int8.Int8))
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in flat}
    return {name: leaf for name, leaf in named.items() if isinstance(leaf, int8.Int8)}


@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6))
def test_rounding_is_off_by_half_a_step_at_most(seed, size):
    kernel = np.random.default_rng(seed).normal(0, size, (2, 3, 4, 5)).astype(np.float32)
    kernel[:, :, :, 2] = 0  # a channel without weights
    for name, axes in (("query", (1,)), ("out", (1, 2))):
        tree = {"blocks": {"attention": {name: {"kernel": jnp.asarray(kernel)}}}}
        found = int8.quantised(tree)["blocks"]["attention"][name]["kernel"]
        assert found.values.dtype == jnp.int8 and found.values.shape == kernel.shape
        assert found.scale.shape == tuple(1 if i in axes else n for i, n in enumerate(kernel.shape))
        back = int8.restored({"x": found}, jnp.float32)["x"]
        assert (np.abs(back - kernel) <= 0.501 * np.asarray(found.scale)).all()
        # Each channel uses the whole range.
        assert (np.abs(found.values).max(axis=axes)[kernel.any(axis=axes)] == 127).all()


@pytest.fixture(scope="module")
def variables(small_model):
    """The small model's, scaled up: with smaller weights the blocks have little effect."""
    return jax.tree.map(lambda x: 6 * x, {name: small_model.arrays[name] for name in ("backbone", "branch")})


@pytest.fixture(scope="module")
def run(small_model):
    """The network of the small model, jitted, on fixed inputs: variables -> prediction."""
    network = jax.jit(Denoiser(small_model.arch).__call__)
    return lambda variables: network(variables, *inputs(small_model.arch))


@pytest.fixture(scope="module")
def near(variables, run):
    return run(int8.quantised(variables))


def test_the_network_runs_on_quantised_kernels(variables, run, near):
    small = int8.quantised(variables)
    assert int8.is_quantised(small) and not int8.is_quantised(variables)
    exact = run(variables)
    error = jnp.linalg.norm(near - exact) / jnp.linalg.norm(exact)
    assert 1e-5 < error < 0.01
    # The result is that of the rounded kernels, not only near the exact one.
    rounded = run(int8.restored(small, jnp.float32))
    assert jnp.linalg.norm(rounded - near) < 0.01 * jnp.linalg.norm(near - exact)


def test_kernels_of_every_block_and_nothing_else_are_rounded(variables):
    named = kernels_of(int8.quantised(variables))
    both = {name.split("/")[0] for name in named}
    assert both == {"backbone", "branch"} and len(named) == 2 * 8
    assert all("/blocks/" in name and name.endswith("kernel") for name in named)


def test_one_layer_at_a_time_is_dequantised():
    """The program for many layers needs less memory than half of their kernels as floats."""
    deep = dataclasses.replace(
        ARCH, backbone=dataclasses.replace(ARCH.backbone, num_layers=16, num_heads=8, mlp_ratio=16)
    )
    deep = dataclasses.replace(deep, branch=dataclasses.replace(deep.backbone, num_layers=1))
    shapes = jax.eval_shape(lambda key: int8.quantised(Denoiser(deep).init(key)), jax.random.key(0))
    floats = 4 * sum(kernel.values.size for kernel in kernels_of(shapes).values())
    compiled = jax.jit(Denoiser(deep).__call__).lower(shapes, *inputs(deep)).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < floats / 2


def test_the_released_networks_take_half_the_bytes_of_bfloat16():
    shapes = {name: checkpoints.array_shapes(arch_lib.released())[name] for name in ("backbone", "branch")}
    params = {name: {"params": tree["params"]} for name, tree in shapes.items()}
    half = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16), params)
    rounded = jax.eval_shape(int8.quantised, half)

    def size(tree):
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))

    assert size(half) == 2 * (5_570_679_360 + 301_568_576)
    assert 0.5 < size(rounded) / size(half) < 0.51


@pytest.mark.slow
def test_quantised_kernels_keep_their_shardings(small_model, variables, near):
    mesh = sharding.make_mesh({"fsdp": 8})
    placed = jax.device_put(variables, sharding.shardings(variables, mesh))
    up = ("backbone", "params", "blocks", "feed_forward", "up", "kernel")
    before, after = placed, int8.quantised(placed)
    for part in up:
        before, after = before[part], after[part]
    assert not before.is_fully_replicated
    assert after.values.sharding.is_equivalent_to(before.sharding, before.ndim)
    with jax.set_mesh(mesh):
        cut = jax.jit(Denoiser(small_model.arch).__call__)(int8.quantised(placed), *inputs(small_model.arch))
    np.testing.assert_allclose(cut, near, atol=1e-5 * float(jnp.abs(near).max()))
