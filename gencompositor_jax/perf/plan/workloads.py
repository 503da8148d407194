"""The programs of training and sampling, with shapes in place of arrays.

The functions are those of `training.step` and `inference.pipeline`: what is compiled here runs there.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from jax.sharding import Mesh

from gencompositor_jax import arch as arch_lib
from gencompositor_jax import checkpoints, sharding
from gencompositor_jax.arch import ModelArch
from gencompositor_jax.controls.conditions import Conditions
from gencompositor_jax.diffusion import sampler
from gencompositor_jax.inference import meshes, pipeline
from gencompositor_jax.inference.pipeline import LatentConditions, NoiseKeys
from gencompositor_jax.model.denoiser import Denoiser
from gencompositor_jax.perf import flops
from gencompositor_jax.training import state as state_lib
from gencompositor_jax.training import token_choice
from gencompositor_jax.training.step import make_step


@dataclasses.dataclass(frozen=True)
class Program:
    """A jitted function with the shapes and shardings of its arguments."""

    name: str
    lower: Callable[[], jax.stages.Lowered]
    # Arrays (jax.ShapeDtypeStruct with a sharding) on the devices while it runs, by kind; those `waiting`
    # aren't its arguments.
    arguments: Mapping[str, Any]
    waiting: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    useful_flops: float = 0.0  # of the network as `perf.flops` counts it, over all devices; 0 if not counted
    steps: int = 1  # denoising steps of one run; figures are per step
    runs: int = 1  # in a composite, of what the figures are for


def of_training(config: ml_collections.ConfigDict, mesh: Mesh) -> list[Program]:
    """The training step of a config on a mesh. Raises InputError if the two don't fit."""
    arch = arch_lib.preset(config.arch, config.arch_changes.to_dict())
    sharding.check_batch(config.batch_size, config.optimizer.accumulate, mesh)
    optimizer = state_lib.make_optimizer(config)
    state, frozen = state_lib.shapes(config, arch, optimizer, mesh)
    frames = (config.batch_size, arch.frames, arch.height, arch.width)
    rows = sharding.by_rows(mesh)
    batch = {
        name: jax.ShapeDtypeStruct((*frames, 3), jnp.uint8, sharding=rows)
        for name in ("target", "masked_background", "foreground")
    }
    batch["mask"] = jax.ShapeDtypeStruct(frames, jnp.bool_, sharding=rows)
    if arch.offset_cell is not None:
        offsets = config.batch_size, arch.latent_shape[0], 2
        batch["offsets"] = jax.ShapeDtypeStruct(offsets, jnp.int32, sharding=rows)
    denoiser = Denoiser(arch, jnp.dtype(config.compute_dtype), config.remat)
    counts = [sum(x.size for x in jax.tree.leaves(tree)) for tree in (state.params, frozen.params)]

    def lower() -> jax.stages.Lowered:
        with jax.set_mesh(mesh):
            return make_step(config, denoiser, optimizer, state, mesh).lower(state, frozen, batch)

    arguments = {
        "weights": (state.params, frozen.params, frozen.buffers, state.step, state.skipped),
        "optimiser": state.optimizer,
        "EMA weights": state.ema,
        "codec": (frozen.codec, frozen.null_text),
        "batch": batch,
    }
    # The next batch is transferred while a step runs.
    return [
        Program(
            "train step",
            lower,
            arguments,
            {"next batch": batch},
            flops.train_step(
                arch, config.batch_size, counts[0] / sum(counts), token_choice.counts(arch, config.tokens)
            ),
        )
    ]


def of_sampling(arch: ModelArch, mesh: Mesh, batch: int, dtype: Any = jnp.bfloat16) -> list[Program]:
    """Encoding, a call of the solver (branch and backbone) and decoding of a batch of clips on a mesh.

    The functions and their arguments are those of `pipeline.generate` with the default options.

    dtype: of the weights, and of the network's computation. All weights stay on the devices throughout.
    Raises InputError if batch and mesh don't fit.
    """
    sharding.check_batch(batch, 1, mesh)
    weights, fixed = weights_of(arch, mesh, dtype)
    stacks, (params, text) = weights["weights"], fixed["codec"]

    def rows(*shape: int, dtype: Any = jnp.float32) -> Any:
        return jax.ShapeDtypeStruct((batch, *shape), dtype, sharding=sharding.by_rows(mesh))

    pixels = (arch.frames, arch.height, arch.width)
    offsets = None if arch.offset_cell is None else rows(arch.latent_shape[0], 2, dtype=jnp.int32)
    conditions: Any = Conditions(rows(*pixels, 1), rows(*pixels, 3), rows(*pixels, 3), offsets)
    key = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), batch)).dtype
    keys = NoiseKeys(*(rows(dtype=key) for _ in NoiseKeys._fields))
    latents = rows(*arch.latent_shape)
    given = LatentConditions(latents, latents, rows(*arch.latent_shape[:-1], 1), offsets)
    state = sampler.SolverState(latents, latents)
    steps = pipeline.part_length(arch.diffusion.steps)
    part = jax.tree.map(
        lambda c: jax.ShapeDtypeStruct((steps,), jnp.int32 if c.dtype.kind == "i" else jnp.float32),
        sampler.coefficients(arch.diffusion, arch.diffusion.steps, arch.diffusion.solver),
    )
    first = jax.ShapeDtypeStruct((), jnp.int32)

    def encode() -> jax.stages.Lowered:
        return pipeline.encode.lower(params, conditions, keys, arch=arch)

    def step() -> jax.stages.Lowered:
        return pipeline.advance.lower(stacks, text, None, given, state, first, part, keys.steps, arch=arch)

    def decode() -> jax.stages.Lowered:
        return pipeline.decode.lower(params, latents, arch=arch)

    return [
        Program("encode", under_mesh(mesh, encode), {**fixed, "videos": conditions}, weights),
        Program(
            "denoising step",
            under_mesh(mesh, step),
            {**weights, "latents": (given, state)},
            fixed,
            batch * flops.forward(arch),
            steps,
            arch.diffusion.steps,
        ),
        Program("decode", under_mesh(mesh, decode), {**fixed, "latents": latents}, weights),
    ]


def weights_of(arch: ModelArch, mesh: Mesh, dtype: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The weights of sampling by kind: the networks', and those of the codec with the text.

    Raises InputError where the mesh doesn't divide the heads.
    """
    meshes.check_heads(arch, mesh)
    known = checkpoints.array_shapes(arch)
    known = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), known)
    arrays = with_shardings(known, sharding.shardings(known, mesh))
    stacks = {name: arrays[name] for name in arch.stacks}
    return {"weights": stacks}, {"codec": (arrays["codec"], arrays["null_text"])}


def under_mesh(mesh: Mesh, lower: Callable[[], jax.stages.Lowered]) -> Callable[[], jax.stages.Lowered]:
    """`lower` with the mesh in force."""

    def lowered() -> jax.stages.Lowered:
        with jax.set_mesh(mesh):
            return lower()

    return lowered


def with_shardings(tree: Any, shardings: Any) -> Any:
    """A tree of shapes with their shardings."""
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings)
