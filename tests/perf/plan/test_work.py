import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

from gencompositor_jax.perf import flops
from gencompositor_jax.perf.plan import hlo, work


def found(function, *arguments) -> list[work.Operation]:
    text = jax.jit(function).lower(*arguments).compile().as_text()
    return list(work.operations(hlo.parse(text)))


def total(operations, what="flops") -> float:
    return sum(one.times * getattr(one, what) for one in operations)


def test_products_in_a_loop():
    def turn(x, w):
        return jnp.tanh(x @ w), None

    x, w = jnp.ones((32, 48)), jnp.ones((7, 48, 48))
    assert total(found(lambda x, w: lax.scan(turn, x, w)[0], x, w)) == 7 * 2 * 32 * 48 * 48


def test_a_batched_product_counts_once_per_row():
    a, b = jnp.ones((5, 16, 24)), jnp.ones((5, 24, 8))
    assert total(found(lambda a, b: jnp.einsum("bij,bjk->bik", a, b), a, b)) == 2 * 5 * 16 * 24 * 8


def written(line: str, left: str, right: str) -> float:
    text = (
        f"HloModule m\n\nENTRY %main (a: {left}, b: {right}) -> f32[1] {{\n"
        f"  %a = {left} parameter(0)\n  %b = {right} parameter(1)\n  {line}\n}}\n"
    )
    return total(work.operations(hlo.parse(text)))


def test_products_as_xla_writes_them_for_a_tpu():
    # 17776 x 3072 by 3072 x (48 x 64): the heads as a window of 48 over one element, padded with 47.
    line = (
        "ROOT %c = bf16[17776,48,64]{0,2,1:T(8,128)(2,1)} convolution(%a, %b), "
        "window={size=48 pad=47_47 rhs_reversal=1}, dim_labels=bf0_i0o->b0f"
    )
    count = written(line, "bf16[17776,3072,1]{1,0,2}", "bf16[3072,48,64]{2,1,0}")
    assert count == 2 * 17776 * 3072 * 48 * 64


@given(
    inputs=st.integers(1, 12),
    size=st.integers(1, 5),
    stride=st.integers(1, 3),
    before=st.integers(0, 4),
    after=st.integers(0, 4),
    spread=st.integers(1, 3),
    dilation=st.integers(1, 2),
)
def test_a_convolution_counts_what_meets_its_input(inputs, size, stride, before, after, spread, dilation):
    reach = (inputs - 1) * spread + 1 + before + after - (size - 1) * dilation
    results = max(0, (reach - 1) // stride + 1)
    met = sum(
        (at := r * stride - before + k * dilation) % spread == 0 and 0 <= at // spread < inputs
        for r, k in itertools.product(range(results), range(size))
    )
    line = (
        f"ROOT %c = f32[1,{results},7] convolution(%a, %b), window={{size={size} stride={stride} "
        f"pad={before}_{after} lhs_dilate={spread} rhs_dilate={dilation}}}, dim_labels=b0f_0io->b0f"
    )
    assert written(line, f"f32[1,{inputs},3]", f"f32[{size},3,7]") == 2 * 3 * 7 * met


@pytest.mark.parametrize("along_lanes", [False, True])
@pytest.mark.parametrize("name, products", [("fwd", 2), ("dq", 3), ("dkv", 4)])
def test_attention_kernels_of_a_tpu(name, products, along_lanes):
    line = (
        f"ROOT %splash_mha_{name}_no_residuals.1 = (f32[512,128], bf16[48,35328,64]) custom-call(%a, %b), "
        'custom_call_target="tpu_custom_call"'
    )
    sides = ("64,1536", "64,35328") if along_lanes else ("1536,64", "35328,64")
    queries, keys = (f"bf16[48,{side}]" for side in sides)
    assert written(line, queries, keys) == 2 * products * 48 * 1536 * 35328 * 64


def test_an_unknown_kernel_is_reported():
    text = (
        "HloModule m\n\nENTRY %main (a: f32[8]) -> f32[8] {\n  %a = f32[8] parameter(0)\n"
        '  ROOT %magic = f32[8] custom-call(%a), custom_call_target="tpu_custom_call"\n}\n'
    )
    assert work.unknown_kernels(hlo.parse(text)) == ["magic"]


def test_a_loop_reads_its_slices_once():
    def turn(x, w):
        return x + w, w * 2

    x, w = jnp.ones((256, 256)), jnp.ones((50, 256, 256))
    moved = total(found(lambda x, w: lax.scan(turn, x, w), x, w), "bytes")
    # Read x and a slice, write x and a slice; reading all of w every time would be 12 times that.
    assert w.nbytes * 3 < moved < w.nbytes * 8


def test_the_network_does_its_counted_products(small_model):
    from gencompositor_jax.model.denoiser import Denoiser, LatentConditions

    arch = small_model.arch
    latents = np.zeros((1, *arch.latent_shape), np.float32)
    given = LatentConditions(latents, latents, latents[..., :1])
    networks = {name: small_model.arrays[name] for name in ("backbone", "branch")}
    text = small_model.arrays["null_text"][None]
    ran = found(Denoiser(arch), networks, latents, np.zeros(1, np.int32), given, text)
    # `flops` leaves nothing out but the second of two identical rows of modulation in each norm.
    assert total(ran) == pytest.approx(flops.forward(arch), rel=0.01)
