"""The whole pipeline of the reference with its recorded noise: pixels -> latents -> every step -> pixels."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencompositor_jax import codec
from gencompositor_jax.diffusion import sampler, schedule
from gencompositor_jax.masks.latent import latent_mask
from gencompositor_jax.model.background_branch import BackgroundBranch
from gencompositor_jax.model.denoiser import Denoiser, LatentConditions
from gencompositor_jax.pixels import to_signed
from tests.parity.released import (
    assert_near,
    backbone_variables,
    branch_variables,
    channels_last,
    model_arch,
    vae_arch,
    vae_params,
)
from tests.parity.replay import advance_once, draws_that_count
from tests.recordings import explain, load

pytestmark = pytest.mark.parity
TOLERANCE = 3e-4
VAE_TOLERANCE = 1e-4
RUNS = explain("pipeline_e2e")["runs"]


@functools.cache
def weights():
    arch = model_arch()
    return {
        "backbone": backbone_variables(arch),
        "branch": branch_variables(arch),
        "codec": vae_params(arch.codec),
    }


@functools.partial(jax.jit, static_argnames="arch")
def encode(params, arch, video, noise):
    return codec.encode(params, arch, video, noise)


@functools.partial(jax.jit, static_argnames="arch")
def decode(params, arch, latents):
    return codec.decode(params, arch, latents)


@jax.jit
def network(networks, latents, timestep, given, text):
    return Denoiser(model_arch())(networks, latents, timestep, given, text)


def pixel_mask(arrays):
    """The target mask in pixels: grey above one half."""
    return arrays["mask_video_uint8"][..., 0] / 255 > 0.5


@functools.cache
def conditions(tiling: bool) -> tuple[LatentConditions, jax.Array]:
    """Conditions from pixels, encoded with the recorded posterior draws, and the latents of the reference's
    `video` argument, which it draws first.
    """
    arrays, info = load("pipeline_e2e").arrays, explain("weights_vae")["config"]
    tile = (info["sample_height"] // 2, info["sample_width"] // 2) if tiling else None
    arch = vae_arch(info, tile)

    def latents(video, noise):
        signed = jnp.asarray(to_signed(arrays[video]))[None]
        return encode(weights()["codec"], arch, signed, channels_last(arrays[f"shared/noise_vae_{noise}"], 1))

    mask = latent_mask(pixel_mask(arrays)[None], arch.time_factor, arch.space_factor)
    given = LatentConditions(
        latents("masked_video_uint8", "masked_video"),
        latents("fg_video_uint8", "foreground"),
        jnp.asarray(mask, jnp.float32)[..., None],
    )
    return given, latents("masked_video_uint8", "init_video")


def test_masks_and_latents(golden):
    arrays = golden("pipeline_e2e").arrays
    given, video = conditions(tiling=False)
    np.testing.assert_array_equal(pixel_mask(arrays)[None, None], arrays["shared/mask_condition"])
    np.testing.assert_array_equal(given.mask[None, ..., 0], arrays["shared/mask"])
    for ours, name in (
        (given.background, "masked_video_latents"),
        (given.foreground, "fg_video_latents"),
        (video, "video_latents"),
    ):
        assert_near(np.moveaxis(ours, -1, 2), arrays[f"shared/{name}"], VAE_TOLERANCE, name)
    np.testing.assert_array_equal(arrays["shared/noise_initial_latents"], arrays["shared/initial_latents"])


def test_first_step_from_inside(golden):
    arrays = golden("pipeline_e2e").arrays
    given, _ = conditions(tiling=False)
    noisy = channels_last(arrays["shared/initial_latents"])
    run = next(name for name in RUNS if f"{name}/step0_model_input" in arrays)
    both = jnp.concatenate([noisy, given.background, given.foreground], axis=-1)
    assert_near(np.moveaxis(both, -1, 2), arrays[f"{run}/step0_model_input"], TOLERANCE)
    np.testing.assert_array_equal(np.moveaxis(given.mask, -1, 2), arrays[f"{run}/step0_branch_block_masks"])
    timestep = jnp.full(len(noisy), RUNS[run]["timesteps"][0], jnp.int32)
    samples = jax.jit(BackgroundBranch(model_arch()).apply)(
        weights()["branch"], noisy, given.background, given.mask, arrays["null_prompt_embeds"], timestep
    )
    recorded = golden("pipeline_e2e").numbered(f"{run}/step0_branch_sample.")
    for ours, sample in zip(samples, recorded, strict=True):
        assert_near(ours, sample, TOLERANCE)


def scales(info) -> list[float]:
    """The guidance scale of each step.

    The release's dynamic guidance uses the timestep as the step's index, so the scale jumps. The package
    doesn't have it.
    """
    n, most = info["steps"], info["guidance_scale"]
    if not info["use_dynamic_cfg"]:
        return [most] * n
    return [1 + most * (1 - math.cos(math.pi * ((n - t) / n) ** 5)) / 2 for t in info["timesteps"]]


def replaced(x, i, coefficients, run_latents, arch):
    """`replace_gt` of the reference, which its scripts don't set and the package doesn't have.

    After each step it replaces the latents outside the mask by the video's, noised for the next timestep with
    the initial noise.
    """
    given, video = conditions(tiling=False)
    if i + 1 < len(coefficients.timestep):
        at = schedule.signal_at(schedule.alpha_bars(arch), jnp.asarray(coefficients.timestep[i + 1 : i + 2]))
        video = schedule.add_noise(video, run_latents, at)
    return jnp.where(given.mask > 0, x, video)


def recorded_draws(arrays, name):
    """The solver's draws of a run; runs with the same solver and number of steps share them."""
    alike = [other for other in RUNS if (RUNS[other]["scheduler"], RUNS[other]["steps"]) == _kind(name)]
    own = [arrays[f"{other}/noise_dpm"] for other in (name, *alike) if f"{other}/noise_dpm" in arrays]
    return own[0] if own else None


def _kind(name):
    return RUNS[name]["scheduler"], RUNS[name]["steps"]


@functools.cache
def run_pipeline(name):
    """(latents after every step, network outputs) of one run, in the reference's axis order."""
    arrays, info, arch = load("pipeline_e2e").arrays, RUNS[name], model_arch()
    given, _ = conditions(info["tiling"])
    null = jnp.asarray(arrays["null_prompt_embeds"])[0]
    prompt = jnp.asarray(arrays["other_prompt_embeds"])[0] if "other_prompt" in name else null
    start = channels_last(arrays["shared/initial_latents"])
    coefficients = sampler.coefficients(arch.diffusion, info["steps"], info["scheduler"])
    np.testing.assert_array_equal(coefficients.timestep, info["timesteps"])
    recorded = recorded_draws(arrays, name) if info["scheduler"] == "dpm" else None
    assert (recorded is None) == ("dpm_step" not in info["noise_draw_kinds"])
    draws, consumed = draws_that_count(
        recorded, coefficients, arch.diffusion, arrays["shared/initial_latents"].shape
    )
    assert sum(consumed) == info["noise_draw_kinds"].count("dpm_step")
    networks = {part: weights()[part] for part in ("backbone", "branch")}
    np.testing.assert_allclose(scales(info), info["effective_guidance_scale_per_step"], rtol=1e-9)
    seen, outputs = [], []

    def predict(x, timestep, text):
        twice = jax.tree.map(lambda c: jnp.concatenate([c] * (len(x) // len(c))), given)
        outputs.append(network(networks, x, timestep, twice, text))
        return outputs[-1]

    state = sampler.initial_state(start)
    for i, scale in enumerate(scales(info)):
        timestep = jnp.full(len(start), coefficients.timestep[i])
        if info["guidance_scale"] > 1:
            velocity = sampler.guided(predict, null, prompt, scale)(state.x, timestep)
        else:
            velocity = predict(state.x, timestep, null[None])
        state = advance_once(state, coefficients, i, velocity, np.moveaxis(draws[i], 2, -1))
        if info["replace_gt"]:
            state = state._replace(x=replaced(state.x, i, coefficients, start, arch.diffusion))
        seen.append(np.moveaxis(state.x, -1, 2))
    return np.stack(seen), np.stack([np.moveaxis(v, -1, 2) for v in outputs])


@pytest.mark.parametrize("name", RUNS)
def test_latents_after_every_step(golden, name):
    arrays, info = golden("pipeline_e2e").arrays, RUNS[name]
    latents, outputs = run_pipeline(name)
    for ours, kind in ((outputs, "noise_pred"), (latents, "latents_after_step")):
        recorded = arrays.get(f"{name}/{kind}")
        if recorded is not None:
            for i in range(info["steps"]):
                assert_near(ours[i], recorded[i], TOLERANCE, f"{kind} {i}")
    # Runs whose arrays equal another run's have only these recorded.
    assert abs(np.abs(latents[-1]).mean() - info["final_abs_mean"]) < TOLERANCE
    assert abs(np.abs(latents[-1]).max() - info["final_max"]) < TOLERANCE


def test_guidance_with_one_prompt_changes_nothing():
    """Recorded difference: 3e-6. The reference evaluates the network twice as often."""
    null = [name for name in RUNS if "_null" in name]
    alone = [name for name in RUNS if name.startswith("guid1") and not RUNS[name]["replace_gt"]]
    assert null and alone
    for name in null:
        assert np.abs(run_pipeline(name)[0] - run_pipeline(alone[0])[0]).max() < 1e-4


def test_decoded_frames(golden):
    case, params, arch = golden("pipeline_e2e"), weights()["codec"], model_arch().codec
    decoded = [key for key in case.arrays if "/decoded_frames_" in key]
    assert decoded
    for key in decoded:
        name, numbers = re.fullmatch(r"(.+)/decoded_frames_([\d_]+)", key).groups()
        frames = [int(number) for number in numbers.split("_")]
        own = run_pipeline(name)[0][-1]
        recorded = case.arrays.get(f"{name}/latents_after_step", own[None])[-1]
        for latents, tolerance in ((recorded, VAE_TOLERANCE), (own, TOLERANCE)):
            video = decode(params, arch, channels_last(latents))[0]
            assert len(video) == case.info["num_frames"]
            ours = jnp.clip(video[jnp.asarray(frames)] / 2 + 0.5, 0, 1)
            assert_near(ours, case.arrays[key], tolerance, name)
