import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gencompositor_jax.arch import DiffusionArch
from gencompositor_jax.diffusion import sampler
from gencompositor_jax.errors import InputError

SOLVERS = ["dpm", "ddim"]
ALL_SOLVERS = [*SOLVERS, "consistency"]
X0_ARCH = DiffusionArch(prediction="x0")


def noise_of(seed, shape):
    key = jax.random.key(seed)
    return lambda index: sampler.step_noise(key, index, shape)


@given(st.sampled_from(ALL_SOLVERS), st.integers(1, 60), st.sampled_from(["velocity", "x0"]))
def test_coefficients_are_finite(solver, steps, prediction):
    for column in sampler.coefficients(DiffusionArch(prediction=prediction), steps, solver):
        assert len(column) == steps
        assert np.isfinite(column).all()


@settings(max_examples=30)  # each compiles
@given(st.sampled_from(ALL_SOLVERS), st.sampled_from([1, 2, 4, 5, 10, 20, 25, 50]), st.integers(0, 99))
def test_a_perfect_prediction_is_the_result(solver, steps, seed):
    answer = jax.random.normal(jax.random.key(seed + 1), (1, 6))
    start = jax.random.normal(jax.random.key(seed), (1, 6))
    result = sampler.sample(
        lambda x, t: answer, start, sampler.coefficients(X0_ARCH, steps, solver), noise_of(seed, (1, 6))
    )
    np.testing.assert_allclose(result, answer, atol=1e-5)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_gaussian_is_sampled_with_its_mean_and_spread(solver):
    """Data N(2, 0.5^2): the exact prediction is known, so the samples must follow that distribution."""
    from gencompositor_jax.diffusion import schedule

    table = jnp.asarray(schedule.alpha_bars(X0_ARCH), jnp.float32)
    mean, variance = 2.0, 0.25

    def predict(x, timestep):
        a = table[timestep][:, None]
        return mean + variance * jnp.sqrt(a) / (variance * a + 1 - a) * (x - jnp.sqrt(a) * mean)

    start = jax.random.normal(jax.random.key(0), (20_000, 1))
    out = sampler.sample(predict, start, sampler.coefficients(X0_ARCH, 50, solver), noise_of(3, start.shape))
    assert float(out.mean()) == pytest.approx(mean, abs=0.03)
    assert float(out.std()) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("solver", SOLVERS)
def test_sampling_in_parts_equals_sampling_in_one_part(solver):
    start, steps = jax.random.normal(jax.random.key(0), (2, 5)), sampler.coefficients(X0_ARCH, 10, solver)
    predict = lambda x, t: jnp.tanh(x) + 1e-3 * t[:, None]  # noqa: E731
    whole = sampler.sample(predict, start, steps, noise_of(1, start.shape))
    state = sampler.initial_state(start)
    for first in range(0, 10, 5):
        part = sampler.Coefficients(*(column[first : first + 5] for column in steps))
        state = sampler.advance(predict, state, jnp.array(first), part, noise_of(1, start.shape))
    np.testing.assert_allclose(state.x, whole, rtol=1e-5, atol=1e-6)


def skipping(predict, steps, computed, solver="dpm", parts=1):
    """Final latents of a pass that skips steps, run in `parts`, and the number of network evaluations."""
    start = jax.random.normal(jax.random.key(0), (2, 5))
    evaluated = []

    def counted(x, timestep):
        jax.debug.callback(lambda: evaluated.append(1))
        return predict(x, timestep)

    table, noise = sampler.coefficients(X0_ARCH, steps, solver), noise_of(1, start.shape)
    state, length = sampler.initial_state(start, skipping=True), steps // parts
    for first in range(0, steps, length):
        part = sampler.Coefficients(*(column[first : first + length] for column in table))
        some = computed[first : first + length]
        state = sampler.advance(counted, state, jnp.array(first), part, noise, some)
    jax.effects_barrier()
    return state.x, len(evaluated)


def test_a_pass_without_skipped_steps_is_exact():
    predict = lambda x, t: jnp.tanh(x) + 1e-3 * t[:, None]  # noqa: E731
    start, steps = jax.random.normal(jax.random.key(0), (2, 5)), sampler.coefficients(X0_ARCH, 10, "dpm")
    exact = sampler.sample(predict, start, steps, noise_of(1, start.shape))
    same, evaluations = skipping(predict, 10, np.ones(10, bool))
    np.testing.assert_allclose(same, exact, rtol=1e-6, atol=1e-6)
    assert evaluations == 10


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_forecast_is_exact_for_predictions_linear_in_the_timestep(solver):
    """From the second computed prediction on; before it, the first one is repeated."""
    predict = lambda x, t: jnp.ones_like(x) * (3.0 + t[:, None] / 50)  # noqa: E731
    computed = np.array([1, 1, 0, 0, 0, 1, 0, 0, 0, 1], bool)
    start, steps = jax.random.normal(jax.random.key(0), (2, 5)), sampler.coefficients(X0_ARCH, 10, solver)
    exact = sampler.sample(predict, start, steps, noise_of(1, start.shape))
    forecast, evaluations = skipping(predict, 10, computed, solver)
    np.testing.assert_allclose(forecast, exact, rtol=1e-4, atol=1e-4)
    assert evaluations == 4


def test_skipping_in_parts_equals_skipping_in_one_part():
    predict = lambda x, t: jnp.tanh(x) * t[:, None] / 500  # noqa: E731
    computed = np.arange(12) % 3 == 0
    whole, evaluations = skipping(predict, 12, computed)
    parts, evaluations_in_parts = skipping(predict, 12, computed, parts=6)
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-6)
    assert evaluations == evaluations_in_parts == 4
    assert np.abs(whole - skipping(predict, 12, np.ones(12, bool))[0]).max() > 1e-3


def test_skipping_needs_its_initial_state():
    start, steps = jnp.zeros((1, 2)), sampler.coefficients(X0_ARCH, 2, "dpm")
    with pytest.raises(ValueError, match="computed"):
        sampler.advance(
            lambda x, t: x,
            sampler.initial_state(start),
            jnp.array(0),
            steps,
            noise_of(1, (1, 2)),
            np.ones(2, bool),
        )


def test_noise_depends_on_key_and_step_alone():
    a, b = noise_of(1, (3,)), noise_of(2, (3,))
    np.testing.assert_array_equal(a(4), a(4))
    assert not np.allclose(a(4), a(5))
    assert not np.allclose(a(4), b(4))


@pytest.mark.parametrize(
    ("steps", "clean"), [(1, True), (10, True), (20, True), (50, True), (6, False), (7, False)]
)
def test_step_counts_that_leave_noise_are_known(steps, clean):
    assert sampler.leaves_noise(steps) == (not clean)


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_step_counts(steps):
    with pytest.raises(InputError, match="steps="):
        sampler.timesteps(steps)


def test_unknown_solver():
    with pytest.raises(InputError, match="euler"):
        sampler.coefficients(X0_ARCH, 5, "euler")


def test_guidance_moves_away_from_the_null_text():
    null, prompt = jnp.zeros((2, 3)), jnp.ones((2, 3))
    calls = []

    def predict(x, timestep, text):
        calls.append(text.shape[0])
        return x + text.sum(axis=(1, 2))[:, None]

    x, timestep = jnp.ones((2, 4)), jnp.array([5, 5])
    out = sampler.guided(predict, null, prompt, 3.0)(x, timestep)
    assert calls == [4]  # one batched call
    np.testing.assert_allclose(out, 1.0 + 3.0 * 6.0)
    np.testing.assert_allclose(sampler.guided(predict, null, prompt, 0.0)(x, timestep), 1.0)
