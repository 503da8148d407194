"""Noise schedule and solvers against the reference, with its recorded noise draws replayed."""

import re

import jax.numpy as jnp
import numpy as np
import pytest

from gencompositor_jax.diffusion import sampler, schedule
from tests.parity.released import assert_near, diffusion_arch
from tests.parity.replay import advance_once, draws_that_count
from tests.recordings import explain

pytestmark = pytest.mark.parity
TOLERANCE = 2e-6
TRAJECTORIES = explain("schedulers")["trajectories"]


def test_schedule(golden):
    case = golden("schedulers")
    arrays, config = case.arrays, case.info["config"]
    tables = {name: recorded for name, recorded in arrays.items() if name.startswith("alphas_cumprod")}
    assert len(tables) > 2
    for name, recorded in tables.items():
        shift = re.fullmatch(r"alphas_cumprod_snr_shift_([\d.]+)", name)
        changes = {"snr_shift": float(shift[1])} if shift else {}
        if name.endswith("_without_zero_snr"):
            changes = {"zero_terminal_snr": False}
        ours = schedule.alpha_bars(diffusion_arch(config, **changes))
        np.testing.assert_allclose(ours, recorded, rtol=1e-6, atol=1e-12, err_msg=name)
        assert (ours[-1] == 0.0) == (recorded[-1] == 0.0)
        if name.endswith("_without_zero_snr") and config["snr_shift_scale"] == 1:
            np.testing.assert_allclose(1 - ours[1:] / ours[:-1], arrays["betas"][1:], rtol=1e-9)


def test_timesteps(golden):
    case = golden("schedulers")
    names = [name for name in case.arrays if re.fullmatch(r"timesteps_\d+", name)]
    assert names
    for name in names:
        ours = sampler.timesteps(int(name.split("_")[1]), case.info["config"]["num_train_timesteps"])
        np.testing.assert_array_equal(ours, case.arrays[name])


def test_noise_and_velocity(golden):
    case = golden("schedulers")
    table = schedule.alpha_bars(diffusion_arch(case.info["config"]))
    x0, eps = jnp.asarray(case.arrays["x_init"]), jnp.asarray(case.arrays["add_noise/noise"])
    names = [name for name in case.arrays if re.fullmatch(r"(add_noise|velocity)/t\d+", name)]
    assert names
    for name in names:
        kind, _, timestep = name.rpartition("/t")
        at = schedule.signal_at(table, jnp.array([int(timestep)]))
        ours = (
            schedule.add_noise(x0, eps, at)
            if kind == "add_noise"
            else schedule.target("velocity", x0, eps, at)
        )
        assert_near(ours, case.arrays[name], TOLERANCE, name)


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_every_step_of_a_trajectory(golden, name):
    case = golden("schedulers")
    arrays, info, config = case.arrays, TRAJECTORIES[name], case.info["config"]
    arch, solver = diffusion_arch(config), name.split("_")[0]
    recorded, outputs = arrays[f"{name}/latents"], arrays[f"{name}/model_output"]
    coefficients = sampler.coefficients(arch, info["steps"], solver)
    np.testing.assert_array_equal(coefficients.timestep, info["timesteps"])
    previous = coefficients.timestep - arch.train_steps // info["steps"]
    np.testing.assert_array_equal(np.maximum(previous, -1), info["prev_timestep_used"])
    draws, consumed = draws_that_count(
        arrays.get(f"{name}/noise_draws"), coefficients, arch, recorded.shape[1:]
    )
    if solver == "dpm":
        assert consumed == info["noise_draws_per_step"]
    state = sampler.initial_state(jnp.asarray(recorded[0]))
    for i, after in enumerate(recorded[1:]):
        state = advance_once(state, coefficients, i, outputs[i], draws[i])
        assert_near(state.x0_old, arrays[f"{name}/pred_original"][i], TOLERANCE, f"x0 of step {i}")
        assert_near(state.x, after, TOLERANCE, f"step {i}")
    # With the network that they were recorded with, so that errors of a step reach the next ones.
    np.testing.assert_allclose(
        outputs,
        0.3 * recorded[:-1] + 0.1 * np.sin(info["timesteps"]).reshape(-1, 1, 1, 1, 1, 1),
        atol=TOLERANCE,
    )
    assert sampler.leaves_noise(info["steps"], arch.train_steps) == (not info["final_equals_last_x0"])
