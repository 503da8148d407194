"""The solvers against diffusers' CogVideoX schedulers over random schedules, step counts and predictions."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gencompositor_jax.arch import DiffusionArch
from gencompositor_jax.diffusion import sampler, schedule
from tests.parity.live.pairs import few, normal, seeds
from tests.parity.released import PREDICTIONS, assert_near, diffusion_arch
from tests.parity.replay import advance_once

pytestmark = [pytest.mark.parity, pytest.mark.slow]
TOLERANCE = 2e-6
SHAPE = (1, 2, 3, 2, 2)

configs = st.fixed_dictionaries(
    {
        "num_train_timesteps": st.sampled_from([1000, 1000, 640]),
        "beta_start": st.sampled_from([0.00085, 0.0003]),
        "beta_end": st.sampled_from([0.012, 0.02]),
        "prediction_type": st.sampled_from(sorted(PREDICTIONS)),
        "rescale_betas_zero_snr": st.booleans(),
        "snr_shift_scale": st.sampled_from([1.0, 3.0]),
    }
)
EXTRA = {"beta_schedule": "scaled_linear", "clip_sample": False, "timestep_spacing": "trailing"}


@pytest.mark.parametrize("solver", ["dpm", "ddim"])
@few(30)
@given(config=configs, steps=st.integers(1, 50), seed=seeds)
def test_every_step(solver: str, config: dict, steps: int, seed: int) -> None:
    # At zero terminal SNR, x0 is undefined for noise prediction.
    assume(not (config["prediction_type"] == "epsilon" and config["rescale_betas_zero_snr"]))
    import torch
    from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler
    from diffusers.schedulers import scheduling_dpm_cogvideox as dpm

    arch, rng = diffusion_arch(config), np.random.default_rng(seed)
    theirs = (CogVideoXDPMScheduler if solver == "dpm" else CogVideoXDDIMScheduler)(**config, **EXTRA)
    np.testing.assert_allclose(
        schedule.alpha_bars(arch), theirs.alphas_cumprod.numpy(), rtol=1e-9, atol=1e-15
    )
    theirs.set_timesteps(steps)
    coefficients = sampler.coefficients(arch, steps, solver)
    timesteps = theirs.timesteps.tolist()
    assert coefficients.timestep.tolist() == timesteps

    draws: list[np.ndarray] = []

    def randn(shape, **_):
        draws.append(normal(rng, *shape))
        return torch.from_numpy(draws[-1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dpm, "randn_tensor", randn)
        state, x, old = sampler.initial_state(jnp.asarray(normal(rng, *SHAPE))), None, None
        x = torch.from_numpy(np.asarray(state.x).copy())
        for i, t in enumerate(timesteps):
            output = normal(rng, *SHAPE)
            if solver == "dpm":
                given_back = timesteps[i - 1] if i else None
                x, old = theirs.step(torch.from_numpy(output), old, t, given_back, x)
            else:
                draws.append(np.zeros(SHAPE, np.float32))
                x, old = theirs.step(torch.from_numpy(output), t, x, return_dict=False)
            state = advance_once(state, coefficients, i, output, draws[-1])
            x, old = x.float(), old.float()
            scale = max(1.0, float(old.abs().max()), float(x.abs().max()))
            assert_near(state.x0_old, old.numpy(), scale * TOLERANCE, f"x0 of step {i}")
            assert_near(state.x, x.numpy(), scale * TOLERANCE, f"step {i}")


@few(10)
@given(config=configs, seed=seeds, timestep=st.integers(0, 639))
def test_noising_and_velocity(config: dict, seed: int, timestep: int) -> None:
    import torch
    from diffusers import CogVideoXDPMScheduler

    theirs = CogVideoXDPMScheduler(**config, **EXTRA)
    arch, rng = diffusion_arch({**config, "prediction_type": "v_prediction"}), np.random.default_rng(seed)
    assert isinstance(arch, DiffusionArch)
    x0, eps, t = normal(rng, *SHAPE), normal(rng, *SHAPE), np.array([timestep])
    at = schedule.signal_at(schedule.alpha_bars(arch), jnp.asarray(t))
    given = torch.from_numpy(x0), torch.from_numpy(eps), torch.from_numpy(t)
    x0, eps = jnp.asarray(x0), jnp.asarray(eps)
    assert_near(schedule.add_noise(x0, eps, at), theirs.add_noise(*given).numpy(), TOLERANCE)
    assert_near(schedule.target("velocity", x0, eps, at), theirs.get_velocity(*given).numpy(), TOLERANCE)
