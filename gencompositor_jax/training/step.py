"""One training step: loss, gradients, optimiser, moving average, as one jitted function on a mesh."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax
from jax.sharding import Mesh

from gencompositor_jax import sharding
from gencompositor_jax.model.denoiser import Denoiser
from gencompositor_jax.training import loss as loss_lib
from gencompositor_jax.training.state import Frozen, TrainState, compute_copy, networks

Metrics = dict[str, jax.Array]
SUMS = ("bucket_sum", "bucket_count")  # metrics that add up over the parts of a batch; the others average


def make_step(
    config: ml_collections.ConfigDict,
    denoiser: Denoiser,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    mesh: Mesh,
) -> jax.stages.Wrapped:
    """The jitted step (state, frozen, batch) -> (state, metrics); to be called under `jax.set_mesh(mesh)`.

    The state's memory is used again, and its arrays stay where they are. Metrics are scalars and the loss by
    timestep (see `loss.loss`), on every device. A step whose loss or gradients are not finite changes nothing
    but the counts `step` and `skipped`.
    """
    # Read here, so that the compiled step depends on nothing that may change.
    weights = {"mask_weight": config.loss.mask_weight, "weight_cap": config.loss.weight_cap}
    bias, parts = config.loss.timestep_bias, config.optimizer.accumulate
    longest, alpha = config.optimizer.ema, config.lora.alpha
    seed = config.seed

    def step(state: TrainState, frozen: Frozen, batch: loss_lib.Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        draws = loss_lib.draw(key, len(batch["mask"]), denoiser.arch, bias)
        draws = jax.tree.map(lambda x: sharding.constrain(x, sharding.ROWS), draws)
        fixed = {"codec": frozen.codec, "null_text": frozen.null_text}

        def of(params: Any, batch: loss_lib.Batch, draws: loss_lib.Draws) -> tuple[jax.Array, Metrics]:
            variables = networks(compute_copy(params, denoiser.dtype), frozen, alpha)
            return loss_lib.loss(variables, fixed, denoiser, batch, draws, **weights)

        def gradient(part: tuple[loss_lib.Batch, loss_lib.Draws]) -> tuple[Any, Metrics]:
            (value, metrics), gradients = jax.value_and_grad(of, has_aux=True)(state.params, *part)
            return gradients, {"loss": value, **metrics}

        gradients, metrics = in_parts(gradient, (batch, draws), parts)
        norm = optax.tree.norm(gradients)
        finite = jnp.isfinite(norm) & jnp.isfinite(metrics["loss"])

        updates, moments = optimizer.update(gradients, state.optimizer, state.params)
        params, ema = optax.apply_updates(state.params, updates), state.ema
        if ema is not None:
            # The average starts short, so that early steps are forgotten: decay min(ema, (1 + n) / (10 + n)).
            decay = jnp.minimum(longest, (1 + state.step) / (10 + state.step))
            ema = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, ema, params)
        # Chosen number by number: behind a branch XLA would hold old and new at once.
        kept = state.params, state.ema, state.optimizer
        params, ema, moments = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old), (params, ema, moments), kept
        )
        skipped = state.skipped + ~finite
        metrics = {**metrics, "gradient_norm": norm, "skipped": skipped}
        return TrainState(params, ema, moments, state.step + 1, skipped), metrics

    places = jax.tree.map(lambda x: x.sharding, state)
    return jax.jit(step, donate_argnums=0, out_shardings=(places, sharding.replicated(mesh)))


def in_parts(gradient: Callable[[Any], tuple[Any, Metrics]], rows: Any, parts: int) -> tuple[Any, Metrics]:
    """Gradients and metrics of a batch that goes through in equal parts, one after another: their means.

    rows: a tree of arrays with the batch's rows in front. Part i holds rows i, i + parts, i + 2 parts, ...,
    so that each device has as many of every part.
    """
    if parts == 1:
        return gradient(rows)
    cut = jax.tree.map(lambda x: x.reshape(len(x) // parts, parts, *x.shape[1:]).swapaxes(0, 1), rows)

    def add(total: Any, part: Any) -> tuple[Any, None]:
        part = jax.tree.map(lambda x: sharding.constrain(x, sharding.ROWS), part)
        return jax.tree.map(jnp.add, total, gradient(part)), None

    shapes = jax.eval_shape(gradient, jax.tree.map(lambda x: x[0], cut))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    (gradients, metrics), _ = jax.lax.scan(add, zeros, cut)
    metrics = {name: x if name in SUMS else x / parts for name, x in metrics.items()}
    return jax.tree.map(lambda x: x / parts, gradients), metrics
