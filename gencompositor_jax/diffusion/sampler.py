"""The jitted sampler: one `lax.scan` over a pure step, for every solver.

With the prediction turned into x0, each solver here is linear in the current latents x, the estimate x0, the
estimate of the step before and a fresh noise draw eps:

    (1)  D  = x0 + c_old (x0 - x0_old)
    (2)  x <- c_x x + c_d D + c_eps eps

so a solver is a table of four coefficients per step, made on the host in float64. Infinite log
signal-to-noise ratios at the ends of the schedule stay in the host's arithmetic, where their limits are
finite.

Where steps may be approximate, the network's prediction p on a skipped one, at timestep t, is forecast from
the last two that were computed, at s < r:

    (3)  p(t) = p(s) + (t - s) (p(s) - p(r)) / (s - r)
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gencompositor_jax.arch import DiffusionArch, Solver
from gencompositor_jax.diffusion import schedule
from gencompositor_jax.errors import InputError

Predict = Callable[
    [jax.Array, jax.Array], jax.Array
]  # latents [B, ...], timestep int [B] -> prediction [B, ...]


class Coefficients(NamedTuple):
    """The coefficients of every step, each [steps]; equations (1) and (2)."""

    timestep: np.ndarray  # int32, descending
    from_x: np.ndarray  # x0 = from_x * x + from_prediction * prediction
    from_prediction: np.ndarray
    c_old: np.ndarray
    c_x: np.ndarray
    c_d: np.ndarray
    c_eps: np.ndarray


def timesteps(steps: int, train_steps: int = 1000) -> np.ndarray:
    """ "Trailing" spacing: int [steps], from train_steps - 1 down in equal strides (rounded)."""
    if not 1 <= steps <= train_steps:
        raise InputError(f"steps={steps}: pass a number from 1 to {train_steps}")
    return np.round(np.arange(train_steps, 0, -train_steps / steps)).astype(np.int32)[:steps] - 1


def leaves_noise(steps: int, train_steps: int = 1000) -> bool:
    """True if the last step stops short of alpha_bar = 1: `steps` does not divide `train_steps` well (the
    released stride rule).
    """
    return bool(timesteps(steps, train_steps)[-1] - train_steps // steps >= 0)


def coefficients(arch: DiffusionArch, steps: int, solver: Solver) -> Coefficients:
    """The coefficient table of a solver.

    dpm: the second-order multistep SDE solver of DPM-Solver++ in x0 form; with lambda = log sqrt(a / (1 - a))
    and h = lambda_previous - lambda, c_x = sqrt((1 - a_previous) / (1 - a)) e^-h, c_d = (1 - e^-2h)
    sqrt(a_previous), c_eps = sqrt(1 - a_previous) sqrt(1 - e^-2h) and c_old = h / (2 h_last), 0 on the first
    and last step, where h_last is what lambda grew by between this step's timestep and the one before. ddim:
    the same form without noise, c_x = sqrt((1 - a_previous) / (1 - a)), c_d = sqrt(a_previous) - sqrt(a) c_x.
    The previous step is t - train_steps // steps (released), and alpha_bar = 1 below 0.
    """
    table = schedule.alpha_bars(arch)
    t = timesteps(steps, arch.train_steps)
    previous = t - arch.train_steps // steps
    a, a_previous = table[t], np.where(previous >= 0, table[previous], 1.0)
    remaining = np.sqrt((1 - a_previous) / (1 - a))
    c_old = np.zeros(steps)
    match solver:
        case "ddim":
            c_x, c_eps = remaining, np.zeros(steps)
            c_d = np.sqrt(a_previous) - np.sqrt(a) * c_x
        case "dpm":
            with np.errstate(divide="ignore"):
                half_log_snr, h = _half_log_snr(a), _half_log_snr(a_previous) - _half_log_snr(a)
            c_x, c_d = remaining * np.exp(-h), -np.expm1(-2 * h) * np.sqrt(a_previous)
            c_eps = np.sqrt(1 - a_previous) * np.sqrt(-np.expm1(-2 * h))
            middle = np.arange(steps)[1:][previous[1:] >= 0]
            c_old[middle] = h[middle] / (2 * (half_log_snr[middle] - half_log_snr[middle - 1]))
        case _:
            raise InputError(f"solver={solver!r}: known are 'dpm' and 'ddim'")
    return Coefficients(t, *schedule.x0_coefficients(arch.prediction, a), c_old, c_x, c_d, c_eps)


def _half_log_snr(a: np.ndarray) -> np.ndarray:
    """lambda = log sqrt(a / (1 - a)); minus infinity at a = 0, infinity at a = 1."""
    return 0.5 * (np.log(a) - np.log1p(-a))


def step_noise(key: jax.Array, index: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The noise of step `index`: it depends on the key and the step alone."""
    return jax.random.normal(jax.random.fold_in(key, index), shape)


class Recall(NamedTuple):
    """What the prediction of a skipped step is forecast from; equation (3)."""

    prediction: jax.Array  # the last one that was computed [B, ...]
    slope: jax.Array  # how it changed per timestep since the one before it; 0 if there is none
    timestep: jax.Array  # of the last one, int32 []; negative before the first


class SolverState(NamedTuple):
    """Where a solver stands between two steps."""

    x: jax.Array  # latents [B, ...]
    x0_old: jax.Array  # the estimate of the step before
    recall: Recall | None = None  # only where steps are skipped


def sample(
    predict: Predict, start: jax.Array, steps: Coefficients, noise: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """Runs the solver from pure noise `start` [B, ...] to latents of the same shape, float32; call it under
    jit.

    predict: the network with its conditions closed over. noise: step index -> draw of start's shape, for
    example `lambda i: step_noise(key, i, start.shape)`.
    """
    return advance(predict, initial_state(start), jnp.array(0), steps, noise).x


def initial_state(start: jax.Array, skipping: bool = False) -> SolverState:
    """Before the first step, with pure noise `start`; `skipping` where `advance` will be told to skip."""
    recall = Recall(jnp.zeros_like(start), jnp.zeros_like(start), jnp.int32(-1)) if skipping else None
    return SolverState(start, jnp.zeros_like(start), recall)


def advance(
    predict: Predict,
    state: SolverState,
    first: jax.Array,
    part: Coefficients,
    noise: Callable[[jax.Array], jax.Array],
    computed: np.ndarray | jax.Array | None = None,
) -> SolverState:
    """Runs the steps `part` of a plan, `first` being the index of the first of them; call it under jit.

    computed: bool, one for each step of `part`: where `predict` is called; elsewhere its answer is forecast.
    The plan's first step must be computed. None: everywhere, without any approximation.

    `sample` in pieces: with parts of one length a single compiled program serves all of them, the host hears
    of progress and may stop in between, and JAX can keep the program on disk, which it refuses for programs
    that call back to the host.
    """

    def step(
        state: SolverState, now: tuple[jax.Array, Coefficients, jax.Array | None]
    ) -> tuple[SolverState, None]:
        (x, x0_old, recall), (index, c, is_computed) = state, now

        def ask() -> jax.Array:
            return predict(x, jnp.full(x.shape[:1], c.timestep, jnp.int32))

        if recall is None or is_computed is None:
            prediction = ask()
        else:
            recall = _recall(recall, jnp.asarray(c.timestep), ask, is_computed)
            prediction = recall.prediction + (c.timestep - recall.timestep) * recall.slope
        x0 = c.from_x * x + c.from_prediction * prediction
        direction = x0 + c.c_old * (x0 - x0_old)
        x = c.c_x * x + c.c_d * direction + c.c_eps * noise(index)
        return SolverState(x, x0, recall), None

    kinds = {True: jnp.int32, False: jnp.float32}
    rows = jax.tree.map(lambda c: jnp.asarray(c, kinds[jnp.issubdtype(c.dtype, jnp.integer)]), part)
    if (computed is None) != (state.recall is None):
        raise ValueError("computed: pass it with initial_state(start, skipping=True), and only then")
    flags = None if computed is None else jnp.asarray(computed)
    return jax.lax.scan(step, state, (first + jnp.arange(len(part.timestep)), rows, flags))[0]


def _recall(old: Recall, timestep: jax.Array, ask: Callable[[], jax.Array], is_computed: jax.Array) -> Recall:
    """After a step: with the network's own prediction, or as it was."""

    def asked() -> Recall:
        prediction = ask()
        slope = (prediction - old.prediction) / (timestep - old.timestep)
        return Recall(prediction, jnp.where(old.timestep < 0, 0.0, slope), timestep)

    return jax.lax.cond(is_computed, asked, lambda: old)


def guided(
    predict: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    null: jax.Array,
    prompt: jax.Array,
    scale: float | jax.Array,
) -> Predict:
    """Classifier-free guidance in one batched call: null + scale (prompt - null).

    predict(latents, timestep, text [B, L, D]); null and prompt are text embeddings [L, D]. Where both are the
    same the answer would be the same twice: call `predict` with the null text instead.
    """

    def both(x: jax.Array, timestep: jax.Array) -> jax.Array:
        text = jnp.stack([null, prompt]).repeat(len(x), axis=0)
        for_null, for_prompt = jnp.split(predict(jnp.concatenate([x, x]), jnp.tile(timestep, 2), text), 2)
        return for_null + scale * (for_prompt - for_null)

    return both
