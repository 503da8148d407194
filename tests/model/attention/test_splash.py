"""The TPU's kernel: interpreted on the CPU, and compiled for TPUs if libtpu is installed."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencompositor_jax import sharding
from gencompositor_jax.model import attention
from gencompositor_jax.model.attention import naive, parallel, ring, splash

interpreted = partial(splash.attend, interpret=True)
KERNEL = ring.Kernel(*(partial(f, interpret=True) for f in splash.KERNEL))


@pytest.mark.parametrize(("tokens", "length"), [(128, 128), (200, 190)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_kernel_agrees_with_the_oracle(agree, make_inputs, tokens, length, dtype):
    agree(interpreted, make_inputs(tokens, 2, dtype=dtype), length)


@pytest.mark.parametrize("devices", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_keys_of_another_number_than_queries(make_inputs, devices):
    """Cross-attention, with padding among the keys; on two devices in a ring."""
    q, (_, k, v) = make_inputs(200, 1, batch=1)[0], make_inputs(140, 1, batch=1)

    def attend(q, k, v, length):
        return parallel.attend(q, k, v, length, interpreted, KERNEL)

    def gradients(attend):
        return jax.grad(lambda *arrays: (attend(*arrays, 130) ** 2).sum(), range(3))(q, k, v)

    with jax.set_mesh(sharding.make_mesh({"context": devices}, jax.devices()[:devices])):
        np.testing.assert_allclose(attend(q, k, v, 130), naive.attend(q, k, v, 130), atol=2e-5)
        found = gradients(attend)
    for ours, oracle in zip(found, gradients(naive.attend), strict=True):
        np.testing.assert_allclose(ours, oracle, atol=1e-4)


def test_several_blocks(monkeypatch, agree, make_inputs):
    monkeypatch.setattr(splash, "_BLOCKS", (128, 256))
    agree(interpreted, make_inputs(600, 1, batch=1), 515)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_ring_of_kernels_agrees_with_the_oracle(agree, make_inputs, dtype):
    with jax.set_mesh(sharding.make_mesh({"context": 3}, jax.devices()[:3])):
        agree(
            lambda q, k, v, n: parallel.attend(q, k, v, n, interpreted, KERNEL),
            make_inputs(390, 1, batch=1, dtype=dtype),
            250,  # the last device has padding only
        )


@pytest.mark.parametrize(
    ("tokens", "size", "padded"),
    [(35_326, 1536, 35_328), (17_776, 1280, 17_920), (4_416, 896, 4_480), (100, 128, 128)],
)
def test_blocks_waste_little(tokens, size, padded):
    assert splash.block_size(tokens) == size
    assert -(-tokens // size) * size == padded


@pytest.mark.slow
@pytest.mark.parametrize("trained", [False, True])
def test_the_released_shape_compiles_for_a_tpu(monkeypatch, trained):
    """48 heads of 35,326 tokens on a host of four v5e chips fit into VMEM. HBM holds a few copies of the
    inputs and no scores, which are a thousand times larger.
    """
    pytest.importorskip("libtpu")
    from jax.experimental import topologies

    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    monkeypatch.setenv("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # other tests may be compiling, too
    chips = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices
    mesh = sharding.make_mesh({"context": 4}, chips)
    spec = jax.sharding.PartitionSpec(None, "context")
    with jax.set_mesh(mesh):
        tokens = sharding.padded_length(35_326)
        x = jax.ShapeDtypeStruct(
            (1, tokens, 48, 64), jnp.bfloat16, sharding=jax.sharding.NamedSharding(mesh, spec)
        )

        def step(q, k, v):
            if not trained:
                return attention.attend(q, k, v, 35_326)
            return jax.vjp(lambda q, k, v: attention.attend(q, k, v, 35_326), q, k, v)[1](q)

        compiled = jax.jit(step).lower(x, x, x).compile()
    text = compiled.as_text()
    assert "splash_mha_fwd_segmented" in text
    assert ("splash_mha_dkv" in text) == trained
    share = np.prod(x.shape) * 2 / 4  # bytes of one of q, k, v on a chip
    assert compiled.memory_analysis().temp_size_in_bytes < (20 if trained else 8) * share
