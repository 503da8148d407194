"""Consistency distillation of the sampler (Song et al. 2023, algorithm 2; in latents, Luo et al. 2023).

The DDIM trajectories of a teacher lead from every noisy latent to a clean one. The student learns to be
constant along them, so that from any point it names their end, in one step:

    (1)  z_s = the teacher's DDIM step from z_t to s, the next of `intervals` timesteps
    (2)  x0' = the estimate of x0 by the student's EMA at z_s; z_s itself at the end, where alpha_bar = 1

x0' takes the place of x0 in the training loss. A checkpoint that was trained so is sampled by the solver
"consistency" (`diffusion.sampler`), in any few steps.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Float, Int

from gencompositor_jax.arch import DiffusionArch
from gencompositor_jax.checkpoints import read_metadata
from gencompositor_jax.diffusion import sampler, schedule
from gencompositor_jax.errors import InputError

# (variables, latents, timesteps) -> prediction, with the conditions of the batch
Network = Callable[[Any, Float[jax.Array, "B ..."], Int[jax.Array, " B"]], Float[jax.Array, "B ..."]]


class Teaching(NamedTuple):
    """Who says what the student's estimate should have been."""

    teacher: Any  # variables of the network that is distilled
    ema: Any  # variables of the student's EMA
    table: sampler.Coefficients  # of the teacher's DDIM steps, one row per interval


def check(config: ml_collections.ConfigDict, diffusion: DiffusionArch) -> None:
    """Raise InputError for a config that can't distil."""
    intervals = config.distill.intervals
    if not intervals:
        if diffusion.solver == "consistency" and not (config.init and _is_student(config.init)):
            raise InputError("diffusion.solver=consistency is of distilled networks; pass distill.intervals")
        return
    if not config.init:
        raise InputError("distill.intervals: the teacher is the checkpoint config.init; pass its folder")
    if not config.optimizer.ema:
        raise InputError("distill.intervals: the student learns from its own EMA; pass optimizer.ema above 0")
    if config.init_missing != "error":
        raise InputError("distill.intervals: the student starts as its teacher; pass init_missing=error")
    if diffusion.train_steps % intervals:
        raise InputError(f"distill.intervals={intervals}: pass a divisor of {diffusion.train_steps}")


def _is_student(folder: str) -> bool:
    return read_metadata(Path(folder)).arch.diffusion.solver == "consistency"


def teacher_steps(diffusion: DiffusionArch, intervals: int) -> sampler.Coefficients:
    """The table of equation (1)."""
    return sampler.coefficients(diffusion, intervals, "ddim")


def row_of(
    timestep: Int[jax.Array, " B"], table: sampler.Coefficients, train_steps: int
) -> Int[jax.Array, " B"]:
    """The interval, counted from the noisy end, that each of any timesteps is in."""
    return (train_steps - 1 - timestep) * len(table.timestep) // train_steps


def estimate(
    teaching: Teaching,
    network: Network,
    noisy: Float[jax.Array, "B ..."],
    row: Int[jax.Array, " B"],
) -> Float[jax.Array, "B ..."]:
    """x0' of equation (2), without gradient.

    noisy: z_t at the first timestep of each clip's interval `row`.
    """
    table, rank = teaching.table, noisy.ndim
    x0 = x0_of(network, teaching.teacher, table, noisy, row)
    z_s = at(table.c_x, row, rank) * noisy + at(table.c_d, row, rank) * x0
    last = len(table.timestep) - 1
    following = x0_of(network, teaching.ema, table, z_s, jnp.minimum(row + 1, last))
    is_last = (row == last).reshape(-1, *(1,) * (noisy.ndim - 1))
    return jax.lax.stop_gradient(jnp.where(is_last, z_s, following))


def x0_of(
    network: Network,
    variables: Any,
    table: sampler.Coefficients,
    latents: Float[jax.Array, "B ..."],
    row: Int[jax.Array, " B"],
) -> Float[jax.Array, "B ..."]:
    """The network's estimate of x0 from latents at the first timestep of each clip's interval `row`."""
    prediction = network(variables, latents, jnp.asarray(table.timestep)[row])
    rank = latents.ndim
    return at(table.from_x, row, rank) * latents + at(table.from_prediction, row, rank) * prediction


def at(column: np.ndarray, row: Int[jax.Array, " B"], rank: int) -> Float[jax.Array, "B ..."]:
    """A column of a table in each clip's row, to multiply latents of so many axes with."""
    return jnp.asarray(column, jnp.float32)[row].reshape(-1, *(1,) * (rank - 1))


def implied_noise(
    noisy: Float[jax.Array, "B ..."], x0: Float[jax.Array, "B ..."], at: schedule.Signal
) -> Float[jax.Array, "B ..."]:
    """The noise that equation (1) of `schedule` needs to give these noisy latents for this x0."""
    return (noisy - at.signal * x0) / at.noise
