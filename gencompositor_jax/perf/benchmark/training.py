"""Measures the training step on one device."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from gencompositor_jax import arch as arch_lib
from gencompositor_jax import sharding
from gencompositor_jax.arch import ModelArch
from gencompositor_jax.errors import InputError
from gencompositor_jax.model.denoiser import Denoiser
from gencompositor_jax.perf import flops
from gencompositor_jax.perf.benchmark import measure
from gencompositor_jax.perf.benchmark.sampling import facts
from gencompositor_jax.perf.hardware import GIB
from gencompositor_jax.training import state as state_lib
from gencompositor_jax.training import token_choice
from gencompositor_jax.training.loss import VIDEOS
from gencompositor_jax.training.step import make_step

WARM_UP = 2  # steps before the measured ones


def run(config: ml_collections.ConfigDict, steps: int = 5) -> dict[str, Any]:
    """Compile the step of a config for the first device, run it and report.

    The config's mesh and data are ignored: one device, random pixels. Raises InputError if batch and
    accumulation don't fit, and before anything is allocated if the step doesn't fit the device's memory.
    """
    device = jax.devices()[0]
    mesh = sharding.make_mesh({}, [device])
    sharding.check_batch(config.batch_size, config.optimizer.accumulate, mesh)
    arch = arch_lib.preset(config.arch, config.arch_changes.to_dict())
    optimizer = state_lib.make_optimizer(config)
    denoiser = Denoiser(arch, jnp.dtype(config.compute_dtype), config.remat)
    watch = measure.Stopwatch()
    with jax.set_mesh(mesh):
        state, frozen = state_lib.shapes(config, arch, optimizer, mesh)
        batch = sharding.to_devices(
            pixels(arch, config.batch_size), range(config.batch_size), config.batch_size, mesh
        )
        step = watch.compile(make_step(config, denoiser, optimizer, state, mesh), state, frozen, batch)
        counts = [sum(x.size for x in jax.tree.leaves(tree)) for tree in (state.params, frozen.params)]
        planned = _memory(step, state, frozen)
        check_fits(planned["planned_bytes"], measure.memory_limit(device))
        state, frozen = state_lib.initial_state(config, arch, optimizer, mesh)
        seconds = []
        for _ in range(WARM_UP + steps):
            began = time.perf_counter()
            state, metrics = jax.block_until_ready(step(state, frozen, batch))
            seconds.append(time.perf_counter() - began)

    kept = token_choice.counts(arch, config.tokens)
    work = flops.train_step(arch, config.batch_size, counts[0] / sum(counts), kept)
    each = measure.spread(seconds[WARM_UP:])
    return {
        "mode": "train",
        **facts(arch),
        "parameters": sum(counts),
        "trained_parameters": counts[0],
        "dtype": config.compute_dtype,
        "batch_size": config.batch_size,
        "remat": config.remat,
        "ema": bool(config.optimizer.ema),
        "steps": steps,
        "compile_seconds": watch.compiling,
        **planned,
        "step_seconds": each,
        "loss": float(metrics["loss"]),
        "skipped_steps": int(metrics["skipped"]),
        **measure.utilisation(work, each["median"], device, config.compute_dtype),
    }


def check_fits(needed: int, limit: int | None) -> None:
    """Raise InputError if a step needs more bytes than JAX may use of the device."""
    if limit is not None and needed > limit:
        raise InputError(
            f"the step needs {needed / GIB:.1f} GiB, JAX may use {limit / GIB:.1f} GiB: set "
            "XLA_PYTHON_CLIENT_MEM_FRACTION=0.95, or try --config.optimizer.ema=0, --config.batch_size=1, or "
            "--config.trainable= with --config.lora.rank=64"
        )


def pixels(arch: ModelArch, batch_size: int, seed: int = 0) -> dict[str, np.ndarray]:
    """A batch of random pixels, as a data pipeline yields it, masked in the middle."""
    rng, shape = np.random.default_rng(seed), (batch_size, arch.frames, arch.height, arch.width)
    mask = np.zeros(shape, bool)
    mask[:, :, arch.height // 4 : -arch.height // 4, arch.width // 4 : -arch.width // 4] = True
    batch = {"mask": mask, **{name: rng.integers(0, 256, (*shape, 3), np.uint8) for name in VIDEOS}}
    if arch.offset_cell is not None:
        batch["offsets"] = np.zeros((batch_size, arch.latent_shape[0], 2), np.int32)
    return batch


def _memory(step: jax.stages.Compiled, state: Any, frozen: Any) -> dict[str, int]:
    """Bytes of the state and of the frozen arrays, and the total that XLA plans while a step runs."""

    def held(tree: Any) -> int:
        return sum(x.size * jnp.dtype(x.dtype).itemsize for x in jax.tree.leaves(tree))

    plan = step.memory_analysis()
    assert plan is not None
    outputs = plan.output_size_in_bytes - plan.alias_size_in_bytes
    return {
        "state_bytes": held(state),
        "frozen_bytes": held(frozen),
        "planned_bytes": plan.argument_size_in_bytes + outputs + plan.temp_size_in_bytes,
    }
