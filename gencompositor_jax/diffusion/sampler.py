"""The sampler: one `lax.scan` over a pure step, for every solver.

With x0 computed from the network's prediction, each solver is linear in the current latents x, the estimate
x0, the previous step's estimate x0_old and a fresh noise draw eps:

    (1)  D  = x0 + c_old (x0 - x0_old)
    (2)  x <- c_x x + c_d D + c_eps eps

A solver is a table of four coefficients per step, computed on the host in float64. Infinite log
signal-to-noise ratios at the ends of the schedule stay on the host, where their limits are finite.

On a skipped step (see `approximations`) at timestep t, the prediction p is forecast from the last two that
were computed, at timesteps s < r:

    (3)  p(t) = p(s) + (t - s) (p(s) - p(r)) / (s - r)
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, PRNGKeyArray

from gencompositor_jax.arch import DiffusionArch, Solver
from gencompositor_jax.diffusion import schedule
from gencompositor_jax.errors import InputError

# (latents, timesteps) -> prediction
Predict = Callable[[Float[jax.Array, " B *latent"], Int[jax.Array, " B"]], Float[jax.Array, " B *latent"]]
# step index -> noise
Noise = Callable[[Int[jax.Array, ""]], Float[jax.Array, " B *latent"]]


class Coefficients(NamedTuple):
    """A solver's coefficients for every step: equations (1) and (2)."""

    timestep: Int[np.ndarray, " steps"]  # descending
    from_x: Float[np.ndarray, " steps"]  # x0 = from_x x + from_prediction prediction
    from_prediction: Float[np.ndarray, " steps"]
    c_old: Float[np.ndarray, " steps"]
    c_x: Float[np.ndarray, " steps"]
    c_d: Float[np.ndarray, " steps"]
    c_eps: Float[np.ndarray, " steps"]


def timesteps(steps: int, train_steps: int = 1000) -> Int[np.ndarray, " {steps}"]:
    """ "Trailing" spacing: int32, from train_steps - 1 down in equal strides, rounded."""
    if not 1 <= steps <= train_steps:
        raise InputError(f"steps={steps}: pass a number from 1 to {train_steps}")
    return np.round(np.arange(train_steps, 0, -train_steps / steps)).astype(np.int32)[:steps] - 1


def leaves_noise(steps: int, train_steps: int = 1000) -> bool:
    """True if the last step ends before alpha_bar = 1, by the release's stride rule.

    This happens for numbers of steps that don't divide `train_steps` well.
    """
    return bool(timesteps(steps, train_steps)[-1] - train_steps // steps >= 0)


def coefficients(arch: DiffusionArch, steps: int, solver: Solver) -> Coefficients:
    """The coefficients of a solver, float64.

    A step goes from alpha_bar = a at timestep t to a' at t' = t - train_steps // steps (release); a' = 1 for
    negative t'.

    dpm: the second-order multistep SDE solver of DPM-Solver++ in x0 form. With lambda = log sqrt(a / (1 - a))
    and h = lambda' - lambda,

        c_x = sqrt((1 - a') / (1 - a)) e^-h,  c_d = (1 - e^-2h) sqrt(a'),  c_eps = sqrt((1 - a') (1 - e^-2h)),

    and c_old = h / (2 (lambda - lambda_old)) with the previous step's lambda_old; 0 on the first and the last
    step.

    ddim: c_x = sqrt((1 - a') / (1 - a)), c_d = sqrt(a') - sqrt(a) c_x, c_eps = c_old = 0.

    consistency: c_d = sqrt(a'), c_eps = sqrt(1 - a'), c_x = c_old = 0: fresh noise on the estimate of x0, for
    a network that `training.distillation` has taught to name it from anywhere.
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
        case "consistency":
            c_x, c_d, c_eps = np.zeros(steps), np.sqrt(a_previous), np.sqrt(1 - a_previous)
        case "dpm":
            with np.errstate(divide="ignore"):
                half_log_snr, h = _half_log_snr(a), _half_log_snr(a_previous) - _half_log_snr(a)
            c_x, c_d = remaining * np.exp(-h), -np.expm1(-2 * h) * np.sqrt(a_previous)
            c_eps = np.sqrt(1 - a_previous) * np.sqrt(-np.expm1(-2 * h))
            middle = np.arange(steps)[1:][previous[1:] >= 0]
            c_old[middle] = h[middle] / (2 * (half_log_snr[middle] - half_log_snr[middle - 1]))
        case _:
            raise InputError(f"solver={solver!r}: pass 'dpm', 'ddim' or 'consistency'")
    return Coefficients(t, *schedule.x0_coefficients(arch.prediction, a), c_old, c_x, c_d, c_eps)


def _half_log_snr(a: np.ndarray) -> np.ndarray:
    """lambda = log sqrt(a / (1 - a)): minus infinity at a = 0, infinity at a = 1."""
    return 0.5 * (np.log(a) - np.log1p(-a))


def step_noise(key: PRNGKeyArray, index: int | Int[jax.Array, ""], shape: tuple[int, ...]) -> jax.Array:
    """Standard normal noise of step `index`: a function of the key and the index alone."""
    return jax.random.normal(jax.random.fold_in(key, index), shape)


class Forecast(NamedTuple):
    """State of the forecast on skipped steps: equation (3)."""

    prediction: Float[jax.Array, " B *latent"]  # the last one that was computed
    slope: Float[jax.Array, " B *latent"]  # its change per timestep since the one before; 0 at first
    timestep: Int[jax.Array, ""]  # of the last one; negative before the first


class SolverState(NamedTuple):
    """State of a solver between two steps."""

    x: Float[jax.Array, " B *latent"]
    x0_old: Float[jax.Array, " B *latent"]  # the previous step's estimate
    forecast: Forecast | None = None  # None if no step is skipped


def initial_state(start: Float[jax.Array, " B *latent"], skipping: bool = False) -> SolverState:
    """State before the first step; `start` is pure noise. skipping: `advance` will skip steps."""
    # Arrays of their own, since a compiled `advance` may have its state donated.
    forecast = Forecast(jnp.zeros_like(start), jnp.zeros_like(start), jnp.int32(-1)) if skipping else None
    return SolverState(start, jnp.zeros_like(start), forecast)


def sample(
    predict: Predict, start: Float[jax.Array, " B *latent"], table: Coefficients, noise: Noise
) -> Float[jax.Array, " B *latent"]:
    """All steps, from pure noise to clean latents; call it under jit.

    predict: the network with its conditions bound. noise: for example
    `lambda i: step_noise(key, i, start.shape)`.
    """
    return advance(predict, initial_state(start), jnp.array(0), table, noise).x


def advance(
    predict: Predict,
    state: SolverState,
    first: Int[jax.Array, ""],
    part: Coefficients,
    noise: Noise,
    computed: Bool[jax.Array | np.ndarray, " steps"] | None = None,
) -> SolverState:
    """Some consecutive steps; call it under jit.

    Sampling in parts of equal length needs a single compiled program, lets the host report progress and
    cancel, and can be cached on disk, which JAX refuses for programs with host callbacks.

    Args:
        predict: as in `sample`.
        state: from `initial_state` or the previous part.
        first: index of the part's first step.
        part: rows of `coefficients`.
        noise: as in `sample`.
        computed: the steps of this part that call `predict`; the others forecast its prediction. The first
            step of all must be computed. None computes every step.
    """

    def step(
        state: SolverState, now: tuple[jax.Array, Coefficients, jax.Array | None]
    ) -> tuple[SolverState, None]:
        (x, x0_old, forecast), (index, c, is_computed) = state, now

        def evaluate() -> jax.Array:
            return predict(x, jnp.full(x.shape[:1], c.timestep, jnp.int32))

        if forecast is None or is_computed is None:
            prediction = evaluate()
        else:
            forecast = _updated(forecast, jnp.asarray(c.timestep), evaluate, is_computed)
            prediction = forecast.prediction + (c.timestep - forecast.timestep) * forecast.slope
        x0 = c.from_x * x + c.from_prediction * prediction
        direction = x0 + c.c_old * (x0 - x0_old)
        x = c.c_x * x + c.c_d * direction + c.c_eps * noise(index)
        return SolverState(x, x0, forecast), None

    kinds = {True: jnp.int32, False: jnp.float32}
    rows = jax.tree.map(lambda c: jnp.asarray(c, kinds[jnp.issubdtype(c.dtype, jnp.integer)]), part)
    if (computed is None) != (state.forecast is None):
        raise ValueError("computed: pass it with initial_state(start, skipping=True), and only then")
    flags = None if computed is None else jnp.asarray(computed)
    return jax.lax.scan(step, state, (first + jnp.arange(len(part.timestep)), rows, flags))[0]


def _updated(
    old: Forecast, timestep: jax.Array, evaluate: Callable[[], jax.Array], is_computed: jax.Array
) -> Forecast:
    """The forecast after a computed step; the old one on a skipped step."""

    def computed() -> Forecast:
        prediction = evaluate()
        slope = (prediction - old.prediction) / (timestep - old.timestep)
        return Forecast(prediction, jnp.where(old.timestep < 0, 0.0, slope), timestep)

    return jax.lax.cond(is_computed, computed, lambda: old)


def guided(
    predict: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    null: Float[jax.Array, "L text_dim"],
    prompt: Float[jax.Array, "L text_dim"],
    scale: float | jax.Array,
) -> Predict:
    """Classifier-free guidance in one batched call: null + scale (prompt - null).

    predict: (latents, timestep, text [B, L, text_dim]) -> prediction. null, prompt: text embeddings. If they
    are equal, guidance computes the same prediction twice: call `predict` with the null text instead.
    """

    def both(x: jax.Array, timestep: jax.Array) -> jax.Array:
        text = jnp.stack([null, prompt]).repeat(len(x), axis=0)
        for_null, for_prompt = jnp.split(predict(jnp.concatenate([x, x]), jnp.tile(timestep, 2), text), 2)
        return for_null + scale * (for_prompt - for_null)

    return both
