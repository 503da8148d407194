"""Trains one config with several seeds in one program, with a leading axis of seeds.

Each run is that of `gencompositor train` with its seed. On two CPU cores it takes 0.9 times the work, and
compiles once.
"""

import functools
import itertools
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from tqdm import tqdm

from gencompositor_jax import arch as arch_lib
from gencompositor_jax import sharding
from gencompositor_jax.checkpoints import Model
from gencompositor_jax.codec import linear
from gencompositor_jax.data_pipelines import echo
from gencompositor_jax.data_pipelines.pipeline import batches
from gencompositor_jax.data_pipelines.source import ClipSource
from gencompositor_jax.model.denoiser import Denoiser
from gencompositor_jax.training import state as state_lib
from gencompositor_jax.training.checkpointer import open_checkpointer
from gencompositor_jax.training.loop import augmentation_of
from gencompositor_jax.training.step import make_update

SAVE_SECONDS = 20.0  # between checkpoints
CURVE = 50  # points of the loss curve
TIMED = 20  # steps that say how long one takes

Seeds = tuple[int, ...]


def train(
    config: ml_collections.ConfigDict,
    seeds: Seeds,
    source: ClipSource,
    basis: linear.Basis | None,
    folder: Path,
    name: str,
) -> tuple[list[Model], dict[str, Any]]:
    """Train to `config.steps`, from the last checkpoint in `folder` if there is one, with a progress bar of
    this name on stderr.

    Returns the models, of the EMA weights, and a record: steps, seconds of one run (those of all divided by
    their number), and points of the loss curve, [step, loss of each seed].
    """
    arch = arch_lib.preset(config.arch, config.arch_changes.to_dict())
    step_of_all = program(ml_collections.FrozenConfigDict(config))
    state, frozen = initial_states(config, seeds, basis)
    keys = keys_of(seeds)
    every = max(1, config.steps // CURVE)
    with ExitStack() as stack:
        checkpointer = stack.enter_context(open_checkpointer(folder, keep_last=1))
        first, seconds, curve = 0, 0.0, []
        if (restored := checkpointer.restore(state)) is not None:
            state, first = restored.state, restored.step
            known = restored.data["unreported"][0]
            seconds, curve = known["seconds"], known["curve"]
        bar = stack.enter_context(progress_bar(config.steps, name, first))
        saved = began = time.monotonic()
        waiting: tuple[int, jax.Array] | None = None

        def report() -> None:
            """Wait for the losses of the step before the one that was dispatched last."""
            if waiting is not None:
                losses = np.asarray(waiting[1], np.float64)
                bar.set_postfix(loss=f"{losses.mean():.4f}", refresh=False)
                bar.update()
                if waiting[0] % every == 0:
                    curve.append([waiting[0], *(round(float(loss), 5) for loss in losses)])

        for step, batch in enumerate(stacked_batches(config, seeds, source, first), first):
            state, metrics = step_of_all(state, frozen, batch, keys)
            report()
            waiting = step + 1, metrics["loss"]
            now = time.monotonic()
            if step == first:
                saved = now  # compilation, which is in that step, leaves nothing to save
            if now - saved > SAVE_SECONDS and step + 1 < config.steps:
                report()
                waiting = None
                so_far = {"seconds": seconds + now - began, "curve": curve}
                checkpointer.save(step + 1, state, {"next_batch": step + 1, "unreported": [so_far]})
                saved = now
        report()
        jax.block_until_ready(state)
        seconds += time.monotonic() - began
    params = state_lib.model_params(state)
    models = []
    for i, seed in enumerate(seeds):
        own = jax.tree.map(lambda x, i=i: x[i], params)
        arrays = state_lib.model_arrays(own, frozen, config.lora.alpha)
        provenance = {"trained_by": "gencompositor ablate", "step": config.steps, "seed": seed}
        models.append(Model(arch, jax.tree.map(np.asarray, arrays), provenance))
    return models, {"steps": config.steps, "seconds": round(seconds / len(seeds), 1), "curve": curve}


def progress_bar(steps: int, name: str, first: int) -> tqdm:
    """The steps of an ablation, their rate and the time left, on stderr; every half minute where that isn't a
    terminal.
    """
    every = 0.5 if sys.stderr.isatty() else 30.0
    return tqdm(total=steps, initial=first, desc=name, unit="step", mininterval=every, maxinterval=every)


@functools.lru_cache(maxsize=1)
def program(config: ml_collections.FrozenConfigDict) -> jax.stages.Wrapped:
    """(states, frozen, batches, keys) -> (states, metrics), all with an axis of seeds but `frozen`."""
    arch = arch_lib.preset(config.arch, config.arch_changes.to_dict())
    denoiser = Denoiser(arch, jnp.dtype(config.compute_dtype), config.remat)
    update = make_update(config, denoiser, state_lib.make_optimizer(config))
    return jax.jit(jax.vmap(update, in_axes=(0, None, 0, 0)), donate_argnums=0)


def keys_of(seeds: Seeds) -> jax.Array:
    """The keys of the runs' random numbers."""
    return jnp.stack([jax.random.key(seed) for seed in seeds])


def initial_states(
    config: ml_collections.ConfigDict, seeds: Seeds, basis: linear.Basis | None
) -> tuple[state_lib.TrainState, state_lib.Frozen]:
    """The states of all seeds with a leading axis, and the frozen arrays, the same for all."""
    arch = arch_lib.preset(config.arch, config.arch_changes.to_dict())
    optimizer, mesh = state_lib.make_optimizer(config), sharding.make_mesh({}, jax.devices()[:1])
    states, frozen = [], None
    for seed in seeds:
        own = config.copy_and_resolve_references()
        own.seed = seed
        state, frozen = state_lib.initial_state(own, arch, optimizer, mesh, None, basis)
        states.append(state)
    assert frozen is not None
    where = jax.devices()[0]
    state = jax.tree.map(lambda *leaves: jax.device_put(jnp.stack(leaves), where), *states)
    return state, jax.tree.map(lambda x: jax.device_put(x, where), frozen)


def stacked_batches(
    config: ml_collections.ConfigDict, seeds: Seeds, source: ClipSource, start: int
) -> Iterator[dict[str, np.ndarray]]:
    """The batches of the steps from `start` on, with a leading axis of seeds: each seed has an order and
    draws of its own.
    """
    data = config.data
    augmentation = augmentation_of(data)
    with ExitStack() as stack:
        streams = []
        for seed in seeds:
            loader = batches(
                source,
                augmentation,
                seed=seed,
                batch_size=config.batch_size,
                rows=range(config.batch_size),
                start=echo.oldest(start, data.echo),
                stop=echo.count(config.steps, data.echo),
                workers=data.workers,
                prefetch=1,
            )
            stack.enter_context(closing(loader))
            streams.append(echo.echoed(loader, start, config.steps, data.echo))
        for each in zip(*streams, strict=True):
            yield {name: np.stack([batch[name] for batch in each]) for name in each[0] if name != "broken"}


def seconds_per_step(
    config: ml_collections.ConfigDict, seeds: Seeds, source: ClipSource, basis: linear.Basis | None
) -> float:
    """Seconds that a step of one run takes here, without compilation: the median of TIMED steps."""
    step_of_all = program(ml_collections.FrozenConfigDict(config))
    state, frozen = initial_states(config, seeds, basis)
    keys, seconds = keys_of(seeds), []
    for batch in itertools.islice(stacked_batches(config, seeds, source, 0), TIMED + 1):
        began = time.monotonic()
        state, metrics = step_of_all(state, frozen, batch, keys)
        jax.block_until_ready(metrics)
        seconds.append(time.monotonic() - began)
    return float(np.median(seconds[1:])) / len(seeds)
