"""The minimal training loop, top to bottom: data, state, step, log, save."""

import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from data_pipelines.clip_cache import CacheSettings, ClipCache, build_cache
from data_pipelines.examples import augment
from gencompositor_jax import checkpoint
from gencompositor_jax.denoiser import Denoiser
from gencompositor_jax.training import loss as loss_lib
from gencompositor_jax.training import state as state_lib
from gencompositor_jax.training.state import Frozen, TrainState


def train(config: ml_collections.ConfigDict, workdir: Path, minutes: float | None = None) -> Path:
    """Trains to `config.steps` or for `minutes`, whichever comes first; a later call goes on from the last
    save.

    Writes `workdir`/config.json, metrics.jsonl, state/ (to go on from) and model/ (averaged weights, for
    --checkpoint). Returns model/.
    """
    began = time.monotonic()
    arch = state_lib.make_arch(config)
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text(config.to_json_best_effort(indent=2) + "\n")

    # Model and state.
    denoiser = Denoiser(arch, jnp.dtype(config.compute_dtype))
    optimizer = state_lib.make_optimizer(config)
    state, frozen = state_lib.init(arch, optimizer, jax.random.key(config.seed))
    if state_lib.saved(workdir / "state"):
        state = state_lib.restore(workdir / "state", state)
    start = int(state.step)
    parameters = sum(x.size for x in jax.tree.leaves(state.params))
    devices = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    print(f"{parameters:,} parameters, step {start} of {config.steps}, {devices}", flush=True)

    # Data.
    whole = CacheSettings(
        config.data.clips, frames=arch.frames, height=arch.height, width=arch.width, inflation=arch.inflation
    )
    followed = dataclasses.replace(whole, clips=config.data.followed_clips, followed=True)
    caches = (
        build_cache(f"{config.data.cache}/whole", whole),
        build_cache(f"{config.data.cache}/followed", followed),
    )
    batches = make_batches(*caches, config, start)

    # Step.
    step_fn = make_step(config, denoiser, optimizer)

    def save() -> None:
        state_lib.save(workdir / "state", state)
        provenance = {
            "trained_by": "gencompositor train",
            "config": json.loads(config.to_json_best_effort()),
            "step": int(state.step),
        }
        model = state_lib.as_model(state, frozen, arch, provenance)
        checkpoint.save(workdir / "model", model, dtype=jnp.bfloat16, overwrite=True)

    waiting: list[tuple[int, dict[str, jax.Array]]] = []  # metrics are read once the device has moved on
    last_save = last_log = time.monotonic()
    with open(workdir / "metrics.jsonl", "a") as log:
        for step in range(start, config.steps):
            batch = {name: jnp.asarray(value) for name, value in next(batches).items()}
            state, metrics = step_fn(state, frozen, batch, jax.random.key(config.seed))
            waiting.append((step + 1, metrics))
            if (step + 1) % config.log_every == 0:
                rows = [jax.device_get(m) for _, m in waiting[:-1]]
                waiting = waiting[-1:]
                if rows:
                    now = time.monotonic()
                    mean = {name: float(np.mean([r[name] for r in rows])) for name in rows[0]}
                    rate = config.log_every / (now - last_log)
                    last_log = now
                    log.write(json.dumps({"step": step, **mean, "steps_per_second": rate}) + "\n")
                    log.flush()
                    left = (config.steps - step - 1) / rate / 60
                    numbers = "  ".join(f"{name} {value:.4f}" for name, value in mean.items())
                    print(f"step {step + 1}  {numbers}  {rate:.2f} steps/s  {left:.0f} min left", flush=True)
            if time.monotonic() - last_save > 60 * config.checkpoint_minutes:
                save()
                last_save = time.monotonic()
            if minutes is not None and time.monotonic() - began > 60 * minutes:
                break
    save()
    print(f"step {int(state.step)} of {config.steps} saved in {workdir}")
    return workdir / "model"


def make_step(
    config: ml_collections.ConfigDict, denoiser: Denoiser, optimizer: optax.GradientTransformation
) -> Any:
    """The jitted step (state, frozen, batch, key) -> (state, metrics); the state's memory is used again."""
    options = config.loss.to_dict()

    def step(
        state: TrainState, frozen: Frozen, batch: Any, key: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(key, state.step)

        def of(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
            fixed = {"codec": frozen.codec, "null_text": frozen.null_text}
            return loss_lib.loss(state_lib.variables(params, frozen), fixed, denoiser, batch, key, **options)

        (value, metrics), gradients = jax.value_and_grad(of, has_aux=True)(state.params)
        updates, moments = optimizer.update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        # The average starts short, so that early steps are forgotten: decay min(ema, (1 + n) / (10 + n)).
        decay = jnp.minimum(config.optimizer.ema, (1 + state.step) / (10 + state.step))
        ema = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, state.ema, params)
        metrics = {"loss": value, **metrics, "gradient_norm": optax.tree.norm(gradients)}
        return TrainState(params, ema, moments, state.step + 1), metrics

    return jax.jit(step, donate_argnums=0)


def make_batches(
    whole: ClipCache, followed: ClipCache, config: ml_collections.ConfigDict, start: int
) -> Iterator[dict[str, np.ndarray]]:
    """Augmented uint8 batches from step `start` on; batch n depends on the seed and n alone.

    A share `data.followed` of the clips is seen through a window that follows the element.
    """
    data = config.data

    def load(index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        follow = rng.random() < data.followed
        clip = followed[[index % len(followed)]] if follow else whole[[index % len(whole)]]
        one = augment(clip, rng, gamma_range=data.gamma, removal=data.removal, cast=data.colour_cast)
        return {name: one[name][0] for name in ("target", "masked_background", "foreground", "mask")}

    dataset = (
        grain.MapDataset.range(max(len(whole), len(followed)))
        .seed(config.seed)
        .shuffle()
        .repeat()
        .random_map(load)
    )
    dataset = dataset.batch(config.batch_size)[start : config.steps]
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)))
