"""The shapes in signatures are checked in this suite, also while JAX traces."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Float, TypeCheckError, jaxtyped

from gencompositor_jax import codec
from gencompositor_jax.arch import Inflation, PatchCodecArch
from gencompositor_jax.codec import vae
from gencompositor_jax.diffusion import sampler
from gencompositor_jax.errors import InputError
from gencompositor_jax.masks import inflation, latent
from gencompositor_jax.model import attention, fusion_block, injection
from gencompositor_jax.model.background_branch import BackgroundBranch
from gencompositor_jax.model.denoiser import Denoiser
from gencompositor_jax.model.fusion_dit import FusionDiT
from tests import shape_checks

DOORS = [
    Denoiser.__call__,
    FusionDiT.__call__,
    BackgroundBranch.__call__,
    attention.attend,
    codec.decode,
    codec.encode,
    fusion_block.fusion_attention,
    inflation.blacken,
    inflation.inflate,
    injection.inject,
    latent.latent_mask,
    latent.token_mask,
    sampler.advance,
    sampler.initial_state,
    sampler.sample,
    vae.decode,
    vae.encode_moments,
]


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__qualname__)
def test_the_doors_have_shapes_in_their_signatures(door):
    hints = [parameter.annotation for parameter in inspect.signature(door).parameters.values()]
    assert any(map(shape_checks.has_shape, hints))


def injected(tokens=(2, 5, 3), residual=(2, 5, 3), mask=(2, 5), dtype=bool):
    return jnp.zeros(tokens), jnp.zeros(residual), jnp.zeros(mask, dtype)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit, lambda f: lambda *x: jax.eval_shape(f, *x)])
@pytest.mark.parametrize(
    "wrong", [{"residual": (2, 1, 3)}, {"mask": (1, 5)}, {"mask": (5,)}, {"dtype": float}]
)
def test_arguments_are_checked_where_broadcasting_would_accept_them(transform, wrong):
    transform(injection.inject)(*injected())
    with pytest.raises(TypeCheckError):
        transform(injection.inject)(*injected(**wrong))


def test_shapes_are_those_inside_vmap_and_scan():
    vmapped = jax.vmap(injection.inject, in_axes=(0, None, None))
    assert vmapped(jnp.zeros((4, 2, 5, 3)), *injected()[1:]).shape == (4, 2, 5, 3)
    scanned = jax.lax.scan(
        lambda x, _: (injection.inject(x, *injected()[1:]), None), jnp.zeros((2, 5, 3)), length=2
    )
    assert scanned[0].shape == (2, 5, 3)
    with pytest.raises(TypeCheckError):
        jax.vmap(injection.inject)(*injected())


def test_results_are_checked():
    @jaxtyped(typechecker=shape_checks.checked)
    def transposed(x: Float[jax.Array, "a b"]) -> Float[jax.Array, "b a"]:
        return x

    assert transposed(jnp.zeros((2, 2))).shape == (2, 2)
    with pytest.raises(TypeCheckError, match="return value"):
        transposed(jnp.zeros((2, 3)))


def test_a_function_s_own_errors_come_first():
    with pytest.raises(InputError, match=r"expected \[B, T, H, W, 3\]"):
        codec.encode({}, PatchCodecArch(), jnp.zeros((9, 8, 8, 3)))
    with pytest.raises(InputError, match=r"\[frames, height, width\]"):
        inflation.inflate(np.zeros((8, 8), bool), Inflation())
