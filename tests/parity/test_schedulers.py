"""Noise schedule and solvers against the reference, with its recorded noise draws replayed."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from gencompositor_jax import diffusion, sampler
from gencompositor_jax.arch import DiffusionArch
from tests.parity.conftest import FOLDER

pytestmark = pytest.mark.parity
INFO = json.loads((FOLDER / "schedulers.json").read_text())
TOLERANCE = 2e-6


def arch_of(config, **changes):
    return DiffusionArch(
        train_steps=config["num_train_timesteps"],
        beta_start=config["beta_start"],
        beta_end=config["beta_end"],
        **{"snr_shift": config["snr_shift_scale"], "zero_terminal_snr": config["rescale_betas_zero_snr"], **changes},
    )


def test_schedule(golden):
    case = golden("schedulers")
    arrays, config = case.arrays, case.info["config"]
    for name, changes in (
        ("alphas_cumprod", {}),
        ("alphas_cumprod_without_zero_snr", {"zero_terminal_snr": False}),
        ("alphas_cumprod_snr_shift_3", {"snr_shift": 3.0}),
    ):
        ours = diffusion.alpha_bars(arch_of(config, **changes))
        np.testing.assert_allclose(ours, arrays[name], rtol=1e-6, atol=1e-12, err_msg=name)
    assert ours[-1] == 0.0


def test_timesteps(golden):
    arrays = golden("schedulers").arrays
    recorded = {int(name.split("_")[1]): value for name, value in arrays.items() if name.startswith("timesteps_")}
    assert recorded
    for steps, value in recorded.items():
        np.testing.assert_array_equal(sampler.timesteps(steps), value)


def test_noise_and_velocity(golden):
    case = golden("schedulers")
    table = diffusion.alpha_bars(arch_of(case.info["config"]))
    x0, eps = case.arrays["x_init"], case.arrays["add_noise/noise"]
    for name in case.arrays:
        kind, _, timestep = name.rpartition("/t")
        if kind not in ("add_noise", "velocity"):
            continue
        at = diffusion.signal_at(table, jnp.array([int(timestep)]))
        ours = diffusion.add_noise(x0, eps, at) if kind == "add_noise" else diffusion.target("velocity", x0, eps, at)
        np.testing.assert_allclose(ours, case.arrays[name], rtol=0, atol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize("name", INFO["trajectories"])
def test_every_step_of_a_trajectory(golden, name):
    case = golden("schedulers")
    arrays, info = case.arrays, case.info["trajectories"][name]
    recorded = arrays[f"{name}/latents"]
    draws = replayed(arrays.get(f"{name}/noise_draws"), info["noise_draws_per_step"], recorded[0].shape)
    steps = sampler.plan(arch_of(case.info["config"]), info["steps"], name.split("_")[0])
    np.testing.assert_array_equal(steps.timestep, info["timesteps"])

    def fake_model(x, timestep):
        return 0.3 * x + 0.1 * jnp.sin(timestep.astype(jnp.float32)).reshape(-1, *[1] * (x.ndim - 1))

    state = sampler.begin(jnp.asarray(recorded[0]))
    for i, after in enumerate(recorded[1:]):
        part = sampler.Steps(*(column[i : i + 1] for column in steps))
        state = sampler.advance(fake_model, state, jnp.array(i), part, lambda index: draws[index])
        scale = max(1.0, np.abs(after).max())
        np.testing.assert_allclose(state.x, after, rtol=0, atol=TOLERANCE * scale, err_msg=f"step {i}")
    assert sampler.leaves_noise(info["steps"]) == (not info["final_equals_last_x0"])


def replayed(draws, per_step, shape):
    """The draw that counts in each step: the reference's solver draws twice on middle steps and drops the first."""
    if draws is None:
        return jnp.zeros((len(per_step), *shape))
    last = np.cumsum(per_step) - 1
    return jnp.asarray(draws[last])
