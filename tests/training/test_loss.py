import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencompositor_jax import arch as arch_lib
from gencompositor_jax import codec
from gencompositor_jax.arch import LinearCodecArch, VAEArch
from gencompositor_jax.codec import vae
from gencompositor_jax.diffusion import schedule
from gencompositor_jax.masks.latent import latent_mask
from gencompositor_jax.pixels import to_signed
from gencompositor_jax.training import loss as loss_lib

ARCH = dataclasses.replace(arch_lib.tiny(), frames=5, height=32, width=48)
FROZEN = {"codec": {}, "null_text": jnp.zeros((1, 16))}


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    frames = {
        name: rng.integers(0, 256, (3, 5, 32, 48, 3), dtype=np.uint8)
        for name in ("target", "masked_background", "foreground")
    }
    mask = np.zeros((3, 5, 32, 48), bool)
    mask[:, :, 8:16, 16:24] = True
    return {**frames, "mask": mask}


def loss_of(predict, batch, arch=ARCH, fixed=FROZEN, **options):
    """The loss of a network that predicts `predict(noisy, timestep, conditions)`."""

    def call(self, variables, noisy, timestep, conditions, text, subset):
        return predict(noisy, timestep, conditions)

    network = type("Fake", (), {"arch": arch, "dtype": jnp.float32, "__call__": call})()
    options = {"mask_weight": 5.0, "weight_cap": float("inf"), **options}
    draws = loss_lib.draw(jax.random.key(0), len(batch["mask"]), arch, timestep_bias=1.0)
    return loss_lib.loss(None, fixed, network, batch, draws, **options)


def encoded(batch, name):
    return codec.encode({}, ARCH.codec, to_signed(jnp.asarray(batch[name])))


def test_the_loss_of_the_ground_truth_is_zero(batch):
    x0 = encoded(batch, "target")
    value, metrics = loss_of(lambda noisy, t, conditions: x0, batch)
    assert float(value) == pytest.approx(0, abs=1e-9)
    assert set(metrics) == {"loss/frame", "loss/mask", "bucket_sum", "bucket_count"}


def test_velocity_and_x0_prediction_agree(batch):
    """The same error has the same loss, whatever the network predicts (equation 5)."""
    table = schedule.alpha_bars(ARCH.diffusion)
    x0 = encoded(batch, "target")

    def velocity(noisy, timestep, conditions):
        at = schedule.signal_at(table, timestep)
        return (at.signal * noisy - (x0 + 0.3)) / at.noise

    of_v = dataclasses.replace(ARCH, diffusion=dataclasses.replace(ARCH.diffusion, prediction="velocity"))
    in_v, _ = loss_of(velocity, batch, of_v)
    in_x0, _ = loss_of(lambda noisy, t, conditions: x0 + 0.3, batch)
    assert float(in_v) == pytest.approx(float(in_x0), rel=1e-3)


def test_errors_inside_the_mask_weigh_more(batch):
    x0 = encoded(batch, "target")
    inside = latent_mask(jnp.asarray(batch["mask"]), 4, 8, ARCH.latent_mask)[..., None]

    def loss(error_mask, weight):
        wrong = x0 + 0.5 * error_mask
        return float(
            loss_of(lambda noisy, t, conditions: wrong, batch, mask_weight=weight, weight_cap=1.0)[0]
        )

    fraction = float(inside.mean())
    assert loss(inside, 0.0) == pytest.approx(0.25 * fraction, rel=1e-4)
    assert loss(inside, 5.0) == pytest.approx(0.25 * (fraction + 5.0), rel=1e-4)
    assert loss(~inside, 5.0) == pytest.approx(loss(~inside, 0.0), rel=1e-6)


def test_the_inputs_of_the_network(batch):
    def check(noisy, timestep, conditions):
        np.testing.assert_allclose(conditions.background, encoded(batch, "masked_background"), atol=1e-6)
        np.testing.assert_allclose(conditions.foreground, encoded(batch, "foreground"), atol=1e-6)
        assert set(np.unique(conditions.mask)) == {0.0, 1.0}
        assert conditions.mask.shape == (*noisy.shape[:-1], 1)
        return jnp.zeros_like(noisy)

    loss_of(check, batch)


def test_timesteps_cover_the_schedule_with_a_bias_to_noise():
    uniform = loss_lib.draw_timesteps(jax.random.key(0), 20_000, 1000, 1.0)
    biased = loss_lib.draw_timesteps(jax.random.key(0), 20_000, 1000, 3.0)
    for t in (uniform, biased):
        assert t.min() >= 0
        assert t.max() == 999
    assert float(uniform.mean()) == pytest.approx(499.5, abs=10)
    assert float(biased.mean()) == pytest.approx(1000 * 3 / 4, abs=10)  # E[1 - u^3]


def test_the_cap_bounds_the_weight_of_nearly_clean_samples(batch):
    wrong = lambda noisy, t, conditions: jnp.zeros_like(noisy)  # noqa: E731
    assert float(loss_of(wrong, batch, weight_cap=1.0)[0]) < float(loss_of(wrong, batch)[0])


def test_clips_have_equal_weight_whatever_the_size_of_their_masks(batch):
    """The mean inside the mask is per clip, so the loss of a batch is the mean of its clips' losses."""
    batch["mask"][0] = False
    batch["mask"][0, :, :8, :8] = True
    batch["mask"][1] = True

    def wrong(noisy, timestep, conditions):
        return 0.1 * jnp.arange(1, 1 + len(noisy), dtype=jnp.float32).reshape(-1, 1, 1, 1, 1) + 0 * noisy

    value, metrics = loss_of(wrong, batch, weight_cap=1.0)
    x0 = encoded(batch, "target")
    inside = latent_mask(jnp.asarray(batch["mask"]), 4, 8, ARCH.latent_mask)
    expected = []
    for i in range(3):
        error = ((x0[i] - 0.1 * (i + 1)) ** 2).mean(-1)
        expected.append(float(error.mean() + 5.0 * error[inside[i]].mean()))
    assert float(value) == pytest.approx(np.mean(expected), rel=1e-5)
    assert float(metrics["bucket_sum"].sum()) == pytest.approx(np.sum(expected), rel=1e-5)
    assert float(metrics["bucket_count"].sum()) == 3


def test_precomputed_moments_replace_the_target():
    """The loss with the target's moments is the loss with the target itself."""
    tiny = VAEArch(block_widths=(8, 8, 8, 8), layers_per_block=1, latent_channels=4, norm_groups=4)
    arch = dataclasses.replace(ARCH, frames=9, height=32, width=32, codec=tiny)
    rng = np.random.default_rng(0)
    shape = (2, 9, 32, 32)
    batch = {name: rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for name in loss_lib.VIDEOS}
    batch["mask"] = np.ones(shape, bool)
    params = codec.init_codec(jax.random.key(1), tiny)
    moments = vae.encode_moments(params, tiny, to_signed(jnp.asarray(batch["target"])))
    draws = loss_lib.draw(jax.random.key(0), 2, arch, timestep_bias=1.0)
    encoded = loss_lib.encode(params, arch, batch, draws.posterior, jnp.float32)
    blank = {**batch, "target": np.zeros_like(batch["target"]), "target_moments": moments}
    for a, b in zip(loss_lib.encode(params, arch, blank, draws.posterior, jnp.float32), encoded, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert float(jnp.abs(encoded[0] - encoded[1]).mean()) > 0.1


def test_the_loss_in_a_linear_code_is_the_pixels_error(batch):
    arch = dataclasses.replace(ARCH, codec=LinearCodecArch(space_factor=8, latent_channels=20))
    params = codec.init_codec(jax.random.key(0), arch.codec)
    params["deviations"] = jnp.linspace(2.0, 0.1, 20)
    x0 = codec.encode(params, arch.codec, to_signed(jnp.asarray(batch["target"])))
    wrong = x0 + 0.1
    fixed = {**FROZEN, "codec": params}
    value, _ = loss_of(lambda *_: wrong, batch, arch, fixed=fixed, mask_weight=0.0, weight_cap=1.0)
    expected = jnp.square(0.1 * params["deviations"]).sum() / arch.codec.block_size
    assert float(value) == pytest.approx(float(expected), rel=1e-4)


def test_the_loss_is_the_mean_over_the_received_tokens(batch):
    x0 = encoded(batch, "target")
    inside = latent_mask(jnp.asarray(batch["mask"]), 4, 8, ARCH.latent_mask)[..., None]
    tokens = int(np.prod(ARCH.token_grid))
    wrong = lambda *_: x0 + 0.5 * inside  # noqa: E731
    whole, _ = loss_of(wrong, batch, mask_weight=0.0, weight_cap=1.0)
    half, metrics = loss_of(wrong, batch, mask_weight=1.0, weight_cap=1.0, kept=(tokens // 2, tokens))
    assert float(metrics["loss/frame"]) == pytest.approx(2 * float(whole), rel=1e-4)  # all of the mask
    assert float(metrics["loss/mask"]) == pytest.approx(0.25, rel=1e-4)
