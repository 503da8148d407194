"""One training step: loss, gradients, optimiser and EMA, as one jitted function on a mesh."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax
from jax.sharding import Mesh

from gencompositor_jax import sharding
from gencompositor_jax.model.denoiser import Denoiser
from gencompositor_jax.training import distillation, token_choice
from gencompositor_jax.training import loss as loss_lib
from gencompositor_jax.training.state import Frozen, TrainState, compute_copy, network_variables

Metrics = dict[str, jax.Array]
# (state, frozen arrays, batch, key of the run's random numbers) -> (state, metrics)
Update = Callable[[TrainState, Frozen, loss_lib.Batch, jax.Array], tuple[TrainState, Metrics]]
SUMS = ("bucket_sum", "bucket_count")  # metrics that are summed over microbatches; the others are averaged


def make_step(
    config: ml_collections.ConfigDict,
    denoiser: Denoiser,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    mesh: Mesh,
) -> jax.stages.Wrapped:
    """The jitted step (state, frozen, batch) -> (state, metrics), to be called under `jax.set_mesh(mesh)`.

    The state is donated and keeps its shardings, metrics are replicated; see `make_update`.
    """
    update, seed = make_update(config, denoiser, optimizer), config.seed

    def step(state: TrainState, frozen: Frozen, batch: loss_lib.Batch) -> tuple[TrainState, Metrics]:
        return update(state, frozen, batch, jax.random.key(seed))

    state_shardings = jax.tree.map(lambda x: x.sharding, state)
    return jax.jit(step, donate_argnums=0, out_shardings=(state_shardings, sharding.replicated(mesh)))


def make_update(
    config: ml_collections.ConfigDict, denoiser: Denoiser, optimizer: optax.GradientTransformation
) -> Update:
    """One step as a pure function.

    Metrics are scalars and the loss by timestep (see `loss.loss`). A step whose loss or gradients are not
    finite changes only the counts `step` and `skipped`.
    """
    # Read here, so that the compiled step does not depend on a config that may change.
    options = {
        "mask_weight": config.loss.mask_weight,
        "weight_cap": config.loss.weight_cap,
        "kept": token_choice.counts(denoiser.arch, config.tokens),
    }
    timestep_bias, microbatches = config.loss.timestep_bias, config.optimizer.accumulate
    max_decay, alpha = config.optimizer.ema, config.lora.alpha
    intervals = config.distill.intervals
    table = distillation.teacher_steps(denoiser.arch.diffusion, intervals) if intervals else None

    def update(
        state: TrainState, frozen: Frozen, batch: loss_lib.Batch, key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(key, state.step)
        draws = loss_lib.draw(key, len(batch["mask"]), denoiser.arch, timestep_bias)
        draws = jax.tree.map(lambda x: sharding.constrain(x, sharding.ROWS), draws)
        fixed = {"codec": frozen.codec, "null_text": frozen.null_text}

        teaching = None
        if table is not None:
            teacher = {
                name: {"params": frozen.teacher[name], "buffers": frozen.buffers[name]}
                for name in frozen.buffers
            }
            ema = network_variables(compute_copy(state.ema, denoiser.dtype), frozen, alpha)
            teaching = distillation.Teaching(teacher, ema, table)

        def loss_of(params: Any, batch: loss_lib.Batch, draws: loss_lib.Draws) -> tuple[jax.Array, Metrics]:
            variables = network_variables(compute_copy(params, denoiser.dtype), frozen, alpha)
            return loss_lib.loss(variables, fixed, denoiser, batch, draws, teaching=teaching, **options)

        def gradients_of(rows: tuple[loss_lib.Batch, loss_lib.Draws]) -> tuple[Any, Metrics]:
            (value, metrics), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params, *rows)
            return gradients, {"loss": value, **metrics}

        gradients, metrics = accumulate(gradients_of, (batch, draws), microbatches)
        norm = optax.tree.norm(gradients)
        finite = jnp.isfinite(norm) & jnp.isfinite(metrics["loss"])

        updates, moments = optimizer.update(gradients, state.optimizer, state.params)
        params, ema = optax.apply_updates(state.params, updates), state.ema
        if ema is not None:
            # A low decay at first makes the EMA forget early steps: min(max_decay, (1 + n) / (10 + n)).
            decay = jnp.minimum(max_decay, (1 + state.step) / (10 + state.step))
            ema = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, ema, params)
        # Selected elementwise: with a branch XLA would hold the old and the new state at once.
        old_state = state.params, state.ema, state.optimizer
        params, ema, moments = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old), (params, ema, moments), old_state
        )
        skipped = state.skipped + ~finite
        metrics = {**metrics, "gradient_norm": norm, "skipped": skipped}
        return TrainState(params, ema, moments, state.step + 1, skipped), metrics

    return update


def accumulate(
    gradients_of: Callable[[Any], tuple[Any, Metrics]], rows: Any, microbatches: int
) -> tuple[Any, Metrics]:
    """The mean gradients and metrics of equal microbatches, computed one after another.

    rows: a tree of arrays [B, ...]. Microbatch i of n has rows i, i + n, i + 2 n, ..., so that each device
    holds equally many rows of every microbatch.
    """
    if microbatches == 1:
        return gradients_of(rows)
    stacked = jax.tree.map(
        lambda x: x.reshape(len(x) // microbatches, microbatches, *x.shape[1:]).swapaxes(0, 1), rows
    )

    def add(total: Any, part: Any) -> tuple[Any, None]:
        part = jax.tree.map(lambda x: sharding.constrain(x, sharding.ROWS), part)
        return jax.tree.map(jnp.add, total, gradients_of(part)), None

    shapes = jax.eval_shape(gradients_of, jax.tree.map(lambda x: x[0], stacked))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    (gradients, metrics), _ = jax.lax.scan(add, zeros, stacked)
    metrics = {name: x if name in SUMS else x / microbatches for name, x in metrics.items()}
    return jax.tree.map(lambda x: x / microbatches, gradients), metrics
