import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gencompositor_jax.arch import DiffusionArch
from gencompositor_jax.diffusion import schedule

TABLE = schedule.alpha_bars(DiffusionArch())
KINDS = ["velocity", "noise", "x0"]


def draw(seed):
    x0, eps = jax.random.normal(jax.random.key(seed), (2, 3, 1, 2, 2, 4))
    return x0, eps


def test_schedule_falls_to_zero():
    assert TABLE[0] == pytest.approx(1 - 0.00085)
    assert TABLE[-1] == 0.0
    assert (np.diff(TABLE) < 0).all()


def test_a_larger_shift_means_more_noise():
    shifted = schedule.alpha_bars(DiffusionArch(snr_shift=3.0))
    assert (shifted[1:-1] < TABLE[1:-1]).all()


@given(st.sampled_from(KINDS), st.integers(1, 998), st.integers(0, 1000))
def test_x0_comes_back_from_every_prediction(kind, timestep, seed):
    x0, eps = draw(seed)
    at = schedule.signal_at(TABLE, jnp.full(3, timestep))
    noisy, answer = schedule.add_noise(x0, eps, at), schedule.target(kind, x0, eps, at)
    from_x, from_prediction = schedule.x0_coefficients(kind, TABLE[[timestep]])
    tolerance = 1e-5 / np.sqrt(TABLE[timestep]) if kind == "noise" else 1e-5
    np.testing.assert_allclose(from_x * noisy + from_prediction * answer, x0, atol=tolerance)


@given(st.sampled_from(KINDS), st.integers(1, 998), st.integers(0, 1000))
def test_weighted_errors_agree_with_velocity_s(kind, timestep, seed):
    x0, eps = draw(seed)
    at = schedule.signal_at(TABLE, jnp.full(3, timestep))
    noisy = schedule.add_noise(x0, eps, at)
    wrong_x0 = x0 + 0.1
    wrong_eps = (noisy - at.signal * wrong_x0) / at.noise  # the same error in the other prediction types
    right, wrong = (schedule.target(kind, a, b, at) for a, b in ((x0, eps), (wrong_x0, wrong_eps)))
    v_right, v_wrong = (schedule.target("velocity", a, b, at) for a, b in ((x0, eps), (wrong_x0, wrong_eps)))
    ours = schedule.velocity_weight(kind, TABLE[[timestep]])[0] * float(jnp.mean((right - wrong) ** 2))
    assert ours == pytest.approx(float(jnp.mean((v_right - v_wrong) ** 2)), rel=2e-2)


def test_each_sample_has_its_own_timestep():
    x0, eps = draw(0)
    mixed = schedule.add_noise(x0, eps, schedule.signal_at(TABLE, jnp.array([0, 500, 999])))
    for i, timestep in enumerate((0, 500, 999)):
        alone = schedule.add_noise(x0, eps, schedule.signal_at(TABLE, jnp.full(3, timestep)))
        np.testing.assert_array_equal(mixed[i], alone[i])
    np.testing.assert_array_equal(mixed[2], eps[2])  # pure noise at the end
