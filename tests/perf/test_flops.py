import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from gencompositor_jax import arch as arch_lib
from gencompositor_jax.arch import ModelArch
from gencompositor_jax.model.denoiser import Denoiser, LatentConditions
from gencompositor_jax.model.joint_sequence import Subset
from gencompositor_jax.perf import flops

SHORT = dataclasses.replace(arch_lib.tiny(), frames=5, height=32, width=48, base_grid=(2, 3))
STACK = dataclasses.replace(SHORT.backbone, num_heads=2, head_dim=32, text_tokens=3, mlp_ratio=3)
# Few tokens and wide layers, so that what isn't a matrix product hardly counts.
WIDE = dataclasses.replace(STACK, num_layers=1, num_heads=1, head_dim=512, time_embed_dim=64)
ARCHS = {
    "deep": dataclasses.replace(
        SHORT,
        backbone=dataclasses.replace(STACK, num_layers=4),
        branch=dataclasses.replace(STACK, num_layers=2, text_tokens=3),
    ),
    "one layer": dataclasses.replace(SHORT, backbone=WIDE, branch=WIDE),
    "tiny": arch_lib.tiny(),
}
ARCHS |= {
    "cross_attention": dataclasses.replace(ARCHS["deep"], fusion="cross_attention"),
    "channels, no branch": dataclasses.replace(ARCHS["deep"], fusion="channels", injection="none"),
}


def network(arch: ModelArch) -> tuple[Any, Any, Any]:
    """The loss-like function of a network, and shapes of its variables and inputs for one clip."""
    denoiser = Denoiser(arch)
    latents = jax.ShapeDtypeStruct((1, *arch.latent_shape), jnp.float32)
    mask = jax.ShapeDtypeStruct((1, *arch.latent_shape[:3], 1), jnp.float32)
    text = jax.ShapeDtypeStruct((1, arch.backbone.text_tokens, arch.backbone.text_dim), jnp.float32)

    def evaluate(variables: Any, noisy: Any, background: Any, foreground: Any, mask: Any, text: Any) -> Any:
        given = LatentConditions(background, foreground, mask)
        return denoiser(variables, noisy, jnp.zeros(1, jnp.int32), given, text).sum()

    variables = jax.eval_shape(denoiser.init, jax.random.key(0))
    return evaluate, variables, (latents, latents, latents, mask, text)


def products(jaxpr: Any) -> float:
    """FLOPs of all matrix products of a program, those in loops as often as they run."""
    count = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            summed = math.prod(equation.invars[0].aval.shape[i] for i in contracted)
            count += 2.0 * summed * equation.outvars[0].aval.size
        times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")
        ):
            if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                count += times * products(inner if hasattr(inner, "eqns") else inner.jaxpr)
    return count


@pytest.mark.parametrize("name", ARCHS)
def test_forward_is_every_matrix_product_of_the_network(name):
    evaluate, variables, inputs = network(ARCHS[name])
    assert flops.forward(ARCHS[name]) == products(jax.make_jaxpr(evaluate)(variables, *inputs).jaxpr)


def test_foreground_tokens_that_are_left_out_are_not_counted():
    arch, kept = ARCHS["deep"], 5
    _, variables, (latents, _, _, mask, text) = network(arch)

    def evaluate(variables: Any, latents: Any, mask: Any, text: Any) -> Any:
        given = LatentConditions(latents, latents, mask)
        steps = jnp.zeros(1, jnp.int32)
        return Denoiser(arch)(variables, latents, steps, given, text, jnp.arange(kept))

    counted = products(jax.make_jaxpr(evaluate)(variables, latents, mask, text).jaxpr)
    assert flops.backbone(arch, kept).total + flops.branch(arch).total == counted < flops.forward(arch)


@pytest.mark.parametrize("name", ["deep", "cross_attention"])
def test_tokens_that_are_left_out_of_training_are_not_counted(name):
    arch, video, foreground = ARCHS[name], 7, 4
    _, variables, (latents, _, _, mask, text) = network(arch)

    def evaluate(variables: Any, latents: Any, mask: Any, text: Any) -> Any:
        given = LatentConditions(latents, latents, mask)
        subset = Subset(jnp.arange(video)[None], jnp.arange(foreground)[None])
        return Denoiser(arch)(variables, latents, jnp.zeros(1, jnp.int32), given, text, subset=subset)

    counted = products(jax.make_jaxpr(evaluate)(variables, latents, mask, text).jaxpr)
    works = flops.backbone(arch, foreground, video), flops.branch(arch, video)
    assert sum(work.total for work in works) == counted < flops.forward(arch)
    assert flops.train_step(arch, 2, kept=(video, foreground)) == 6 * counted


def test_xla_counts_about_as_much():
    """XLA counts norms and activations, too, and a loop's body once; here every loop has one iteration."""
    evaluate, variables, inputs = network(ARCHS["one layer"])
    counted = jax.jit(evaluate).lower(variables, *inputs).compile().cost_analysis()["flops"]
    assert flops.forward(ARCHS["one layer"]) == pytest.approx(counted, rel=0.02)


def test_a_step_is_three_times_the_forward_pass():
    """Gradients of all variables and inputs; only the timestep, an integer, has none."""
    arch = ARCHS["deep"]
    assert flops.train_step(arch, 2) == 6 * flops.forward(arch)
    attention = flops.backbone(arch).attention + flops.branch(arch).attention
    assert flops.train_step(arch, 1, trained=0.0) == 2 * flops.forward(arch) + attention
    evaluate, variables, inputs = network(arch)
    counted = products(jax.make_jaxpr(jax.grad(evaluate, range(6)))(variables, *inputs).jaxpr)
    # A little more is counted: attention's backward pass recomputes its scores, which MFU doesn't count.
    assert flops.train_step(arch, 1) == pytest.approx(counted, rel=5e-3)
    assert flops.train_step(arch, 1) <= counted


def test_the_released_model_is_a_petaflop():
    backbone, branch = flops.backbone(arch_lib.released()), flops.branch(arch_lib.released())
    assert backbone.total == pytest.approx(0.98e15, rel=0.005)
    assert backbone.attention / backbone.total == pytest.approx(0.66, abs=0.005)
    assert branch.total == pytest.approx(0.016e15, rel=0.05)
