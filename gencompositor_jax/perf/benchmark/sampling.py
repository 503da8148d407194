"""Measures sampling: encoding, denoising steps and decoding, as `gencompositor compose` runs them."""

import dataclasses
import functools
import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gencompositor_jax import arch as arch_lib
from gencompositor_jax import checkpoints
from gencompositor_jax.arch import ModelArch, Weights
from gencompositor_jax.checkpoints import Model
from gencompositor_jax.controls.conditions import Conditions
from gencompositor_jax.controls.geometry.offsets import no_offsets
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.inference.pipeline import generate, part_length
from gencompositor_jax.inference.programs import Rehearsal
from gencompositor_jax.model import int8
from gencompositor_jax.perf import flops
from gencompositor_jax.perf.benchmark import measure
from gencompositor_jax.pixels import to_signed

PROMPT = "noise"  # the name of a random text, for guidance


def random_model(
    arch: ModelArch, dtype: Any = jnp.bfloat16, weights: Weights | None = None, seed: int = 0
) -> Model:
    """A model of random weights, made on the device: norms' scales near 1, others of standard deviation 0.02.

    weights: "int8" draws the blocks' kernels as 8-bit integers, so that they never exist in `dtype`. None is
    zero, not even those that training initialises with zeros: chips run faster on zeros.
    """
    shapes: Any = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), checkpoints.array_shapes(arch))
    if weights == "int8":
        shapes = jax.eval_shape(int8.quantised, shapes)
    leaves, tree = jax.tree_util.tree_flatten_with_path(shapes)
    keys = jax.random.split(jax.random.key(seed, impl="rbg"), len(leaves))
    drawn = []
    for (path, leaf), key in zip(leaves, keys, strict=True):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name.endswith("kernel/scale"):  # 8-bit integers have standard deviation 74
            drawn.append(jnp.full(leaf.shape, 0.02 / 74, leaf.dtype))
        else:
            drawn.append(_draw(key, tuple(leaf.shape), leaf.dtype, float(name.endswith("/scale"))))
    return Model(arch, jax.tree.unflatten(tree, drawn))


@functools.partial(jax.jit, static_argnums=(1, 2))
def _draw(key: jax.Array, shape: tuple[int, ...], dtype: Any, mean: float) -> jax.Array:
    if dtype == jnp.int8:
        return jax.random.bits(key, shape, jnp.uint8).astype(jnp.int8)
    half = 0.02 * math.sqrt(3)
    return (mean + jax.random.uniform(key, shape, dtype, -half, half)).astype(dtype)


def run(
    model: Model, steps: int | None = None, guided: bool = False, rounds: int = 1, seed: int = 0
) -> dict[str, Any]:
    """Compile, sample a random clip `rounds` times, and report.

    steps: None for as many as the checkpoint is meant for.
    guided: as with a prompt, two evaluations of the network per step. The seconds of a step are those of a
    call of the sampler divided by its steps; totals are those of a round, from conditions to frames, both on
    the host.
    """
    model = dataclasses.replace(model, arrays=jax.device_put(model.arrays))
    arch, watch = model.arch, measure.Stopwatch()
    model = dataclasses.replace(model, prompts={PROMPT: model.arrays["null_text"] + 1})
    conditions = jax.tree.map(lambda x: x[None], noise(arch, seed))
    options = SamplingOptions(steps=steps, seed=seed, prompt=PROMPT if guided else None)
    steps, _ = options.schedule(arch.diffusion)

    def once(run: Any) -> float:
        began = time.perf_counter()
        generate(model, conditions, [0], options, run=run)
        return time.perf_counter() - began

    began = time.perf_counter()
    once(Rehearsal(watch))
    first = time.perf_counter() - began
    watch.forget()
    totals = [once(watch) for _ in range(rounds)]

    each = [seconds / part_length(steps) for seconds in watch.running["advance"]]
    work = (1 + guided) * flops.forward(arch)
    dtype = model.arrays["null_text"].dtype
    step = measure.spread(each)
    return {
        "mode": "sample",
        **facts(arch),
        "parameters": parameters(model),
        "dtype": dtype.name,
        "weights_in": "int8" if int8.is_quantised(model.arrays) else dtype.name,
        "steps": steps,
        "guided": guided,
        "rounds": rounds,
        "compile_seconds": watch.compiling,
        "first_pass_seconds": first,
        "encode_seconds": measure.spread(watch.running["encode"]),
        "step_seconds": step,
        "decode_seconds": measure.spread(watch.running["decode"]),
        "total_seconds": measure.spread(totals),
        **measure.utilisation(work, step["median"], jax.devices()[0], dtype),
    }


def resized(model: Model, size: tuple[int, int, int] | None) -> Model:
    """The model for clips of (frames, height, width). Raises InputError if they don't fit."""
    return model if size is None else checkpoints.at_size(model, *size)


def arch_of(preset: str, size: tuple[int, int, int] | None) -> ModelArch:
    """A preset's architecture, for clips of (frames, height, width). Raises InputError if they don't fit."""
    changes = {} if size is None else dict(zip(("frames", "height", "width"), size, strict=True))
    return arch_lib.preset(preset, changes)


def facts(arch: ModelArch) -> dict[str, Any]:
    """Sizes of the clip and the network, as entries of a report."""
    t, rows, columns = arch.token_grid
    return {
        "frames": arch.frames,
        "height": arch.height,
        "width": arch.width,
        "latents": list(arch.latent_shape),
        "video_tokens": t * rows * columns,
        "joint_tokens": arch.backbone.text_tokens + 2 * t * rows * columns,
        "blocks": [stack.num_layers for stack in arch.stacks.values()],
        "token_size": arch.backbone.width,
    }


def parameters(model: Model) -> int:
    """Number of parameters: of both stacks and the codec, without position tables and text embeddings."""
    params = [model.arrays[name]["params"] for name in model.arch.stacks], model.arrays["codec"]
    leaves = jax.tree.leaves(params, is_leaf=lambda leaf: isinstance(leaf, int8.Int8))
    return sum(leaf.values.size if isinstance(leaf, int8.Int8) else leaf.size for leaf in leaves)


def noise(arch: ModelArch, seed: int = 0) -> Conditions:
    """A clip of random pixels, masked in the middle."""
    rng, shape = np.random.default_rng(seed), (arch.frames, arch.height, arch.width)
    mask = np.zeros((*shape, 1), np.float32)
    mask[:, arch.height // 4 : -arch.height // 4, arch.width // 4 : -arch.width // 4] = 1

    def video() -> np.ndarray:
        return to_signed(rng.integers(0, 256, (*shape, 3), np.uint8))

    offsets = None if arch.offset_cell is None else no_offsets(arch.latent_shape[0])
    return Conditions(mask, video() * (1 - mask), video(), offsets)
