"""Runs solvers step by step with the reference's recorded noise draws."""

import jax
import jax.numpy as jnp
import numpy as np

from gencompositor_jax.arch import DiffusionArch
from gencompositor_jax.diffusion import sampler


def draws_that_count(
    draws: np.ndarray | None, coefficients: sampler.Coefficients, arch: DiffusionArch, shape: tuple[int, ...]
) -> tuple[np.ndarray, list[int]]:
    """The draw that each step's result depends on, and the number of draws that it consumed.

    The reference's DPM solver draws once on the first step and on steps without a previous timestep. On every
    other step it draws twice and discards the result of the first draw.
    """
    count = len(coefficients.timestep)
    if draws is None:
        return np.zeros((count, *shape), np.float32), [0] * count
    previous = coefficients.timestep - arch.train_steps // count
    consumed = [1 if i == 0 or previous[i] < 0 else 2 for i in range(count)]
    assert sum(consumed) == len(draws)
    return draws[np.cumsum(consumed) - 1], consumed


def advance_once(
    state: sampler.SolverState,
    coefficients: sampler.Coefficients,
    i: int,
    prediction: jax.Array,
    draw: np.ndarray,
) -> sampler.SolverState:
    """Step `i` of a solver with a given prediction and a given noise draw."""
    rows = sampler.Coefficients(*(column[i : i + 1].astype(_kind(column)) for column in coefficients))
    return _advance(state, jnp.array(i), rows, jnp.asarray(prediction), jnp.asarray(draw))


@jax.jit
def _advance(state, index, rows, prediction, draw):
    return sampler.advance(lambda x, timestep: prediction, state, index, rows, lambda index: draw)


def _kind(column: np.ndarray) -> type:
    return np.int32 if np.issubdtype(column.dtype, np.integer) else np.float32
