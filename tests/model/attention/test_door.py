"""The choice of the backend, and what the backward pass reuses."""

import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencompositor_jax import sharding
from gencompositor_jax.model import attention
from gencompositor_jax.model.attention import cudnn


def mesh_of(sizes):
    return sharding.make_mesh(sizes, jax.devices()[: math.prod(sizes.values())])


def test_naive_on_request(agree, make_inputs):
    agree(lambda *x: attention.attend(*x, backend="naive"), make_inputs(24, 2), 21)


def test_unknown_backend(make_inputs):
    with pytest.raises(ValueError, match="'flash9'; pass one of naive, chunked, cudnn, splash"):
        attention.attend(*make_inputs(4, 1), backend="flash9")


@pytest.mark.parametrize(
    ("platform", "dtype", "works", "backend"),
    [
        ("cpu", jnp.bfloat16, True, "chunked"),
        ("tpu", jnp.bfloat16, False, "splash"),
        ("tpu", jnp.float32, False, "splash"),
        ("gpu", jnp.bfloat16, True, "cudnn"),
        ("gpu", jnp.float16, True, "cudnn"),
        ("gpu", jnp.float32, True, "chunked"),
        ("gpu", jnp.bfloat16, False, "chunked"),
    ],
)
def test_the_platform_chooses(monkeypatch, platform, dtype, works, backend):
    monkeypatch.setattr(sharding, "platform", lambda: platform)
    monkeypatch.setattr(cudnn, "usable", lambda dtype, head_dim: works)
    used = []
    backends = {name: lambda q, *_, name=name: used.append(name) or q for name in attention.BACKENDS}
    monkeypatch.setattr(attention, "BACKENDS", backends)
    x = jnp.zeros((1, 4, 2, 16), dtype)
    attention.attend(x, x, x)
    assert used == [backend]


@pytest.mark.parametrize(
    ("kind", "platform"),
    [("cpu", "cpu"), ("TPU v5 lite", "tpu"), ("NVIDIA H200", "gpu"), ("Quadro RTX 6000", "gpu")],
)
def test_the_platform_is_the_mesh_s(monkeypatch, kind, platform):
    mesh = SimpleNamespace(empty=False, abstract_device=SimpleNamespace(device_kind=kind))
    monkeypatch.setattr(jax.sharding, "get_abstract_mesh", lambda: mesh)
    assert sharding.platform() == platform


def test_without_cudnn_one_line_is_printed_and_chunks_are_used(monkeypatch, capsys, agree, make_inputs):
    cudnn.usable.cache_clear()
    monkeypatch.setattr(sharding, "platform", lambda: "gpu")  # although there is none
    half = make_inputs(24, 2, dtype=jnp.bfloat16)
    agree(attention.attend, half, 21)
    agree(attention.attend, half, 20)
    said = capsys.readouterr().err
    cudnn.usable.cache_clear()
    assert said.count("\n") == 1
    assert said.startswith("attention: cuDNN can't be used for bfloat16 heads of size 16 (")


def block(x):
    return x + attention.attend(*(jnp.cos(n * x) for n in (1, 2, 3)), 21)


@pytest.mark.parametrize("sizes", [{}, {"context": 4, "tensor": 2}, {"context": 3}], ids=str)
def test_rematerialised_blocks_do_not_recompute_attention(sizes, make_inputs):
    x, *_ = make_inputs(24, 8)

    def products(policy):
        """Matrix products in a step with gradients."""
        again = jax.checkpoint(block, policy=policy, prevent_cse=False)

        def step(x):
            return jnp.sum(jax.lax.scan(lambda x, _: (again(x), None), x, length=2)[0])

        with jax.set_mesh(mesh_of(sizes)):
            return jax.jit(jax.value_and_grad(step)).lower(x).compile().as_text().count(" dot(")

    forward, backward = 2, 5
    assert products(attention.keep) == forward + backward
    assert products(jax.checkpoint_policies.nothing_saveable) == 2 * forward + backward


@pytest.mark.parametrize("sizes", [{}, {"context": 4, "tensor": 2}, {"context": 3}], ids=str)
def test_outputs_and_log_sums_are_saved(capsys, sizes, make_inputs):
    x, *_ = make_inputs(24, 8)
    with jax.set_mesh(mesh_of(sizes)):
        jax.ad_checkpoint.print_saved_residuals(jax.checkpoint(block, policy=attention.keep), x)
    lines = [
        line
        for line in capsys.readouterr().out.splitlines()
        if "argument" not in line and "constant" not in line
    ]
    numbers = [np.prod([int(n) for n in line.split("[")[1].split("]")[0].split(",")]) for line in lines]
    assert sorted(numbers) == [x.size // 16, x.size], lines


@pytest.mark.parametrize(("tokens", "length"), [(24, None), (24, 21), (23, None), (23, 20), (23, 23)])
def test_cudnn_gets_even_numbers_of_tokens(monkeypatch, agree, make_inputs, tokens, length):
    """JAX refuses gradients of others. XLA's attention stands in for cuDNN's."""
    dot_product_attention, seen = jax.nn.dot_product_attention, []

    def checked(q, k, v, *, key_value_seq_lengths, implementation):
        seen.append((implementation, q.shape[1], k.shape[1], v.shape[1]))
        return dot_product_attention(
            q, k, v, key_value_seq_lengths=key_value_seq_lengths, implementation="xla"
        )

    monkeypatch.setattr(jax.nn, "dot_product_attention", checked)
    agree(lambda *x: attention.attend(*x, backend="cudnn"), make_inputs(tokens, 2), length)
    assert set(seen) == {("cudnn", 24, 24, 24)}
