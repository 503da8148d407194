"""The training loss: the error of the whole frame (paper, equation 2), plus `mask_weight` times the error
inside the mask (release).

All random numbers of a batch are drawn before any is used, so the same seed gives the same loss on any mesh,
and with microbatches.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gencompositor_jax import codec, sharding
from gencompositor_jax.arch import ModelArch, VAEArch
from gencompositor_jax.codec import vae
from gencompositor_jax.diffusion import schedule
from gencompositor_jax.masks.latent import latent_mask
from gencompositor_jax.model.denoiser import Denoiser, LatentConditions
from gencompositor_jax.pixels import to_signed
from gencompositor_jax.training import distillation, token_choice

Batch = dict[str, jax.Array]
VIDEOS = ("target", "masked_background", "foreground")
BUCKETS = 10  # equal ranges of timesteps, for each of which the loss is reported


class Draws(NamedTuple):
    """The random numbers of a step, one row per clip."""

    timestep: jax.Array  # int [B]
    eps: jax.Array  # noise that is added to the latents [B, t, h, w, C]
    posterior: jax.Array  # noise for samples of the codec's posterior, for VIDEOS [B, 3, t, h, w, C]
    ties: jax.Array  # for `token_choice.choose` [B, 2, N]


def draw_timesteps(key: jax.Array, count: int, train_steps: int, bias: float) -> jax.Array:
    """int [count]: floor(train_steps (1 - u^bias)) with u uniform. bias 1 is uniform; above 1, noisy
    timesteps are drawn more often.
    """
    u = jax.random.uniform(key, (count,), minval=1e-6, maxval=1.0)
    drawn = jnp.floor(train_steps * (1.0 - u**bias)).astype(jnp.int32)
    return jnp.minimum(drawn, train_steps - 1)  # 1 - u^bias may round to 1


def draw(key: jax.Array, count: int, arch: ModelArch, timestep_bias: float) -> Draws:
    """The random numbers of a batch of `count` clips."""
    noise_key, timestep_key, posterior_key = jax.random.split(key, 3)
    timestep = draw_timesteps(timestep_key, count, arch.diffusion.train_steps, timestep_bias)
    eps = jax.random.normal(noise_key, (count, *arch.latent_shape))
    # Only the VAE has a posterior.
    shape = arch.latent_shape if isinstance(arch.codec, VAEArch) else (0, 0, 0, 0)
    posterior = jax.random.normal(posterior_key, (count, len(VIDEOS), *shape))
    ties = jax.random.uniform(jax.random.fold_in(key, 0), (count, 2, math.prod(arch.token_grid)))
    return Draws(timestep, eps, posterior, ties)


def encode(params: Any, arch: ModelArch, batch: Batch, posterior: jax.Array, dtype: Any) -> list[jax.Array]:
    """Latents of VIDEOS, float32 [B, t, h, w, C] each: samples of the posterior, as the release trains on.

    Encoded one after another, to save memory, and sharded over rows of pixels by the axes of the mesh that do
    not shard the batch. With `target_moments` [B, t, h, w, 2C] in the batch the target is not encoded.
    """
    if "target_moments" in batch:
        assert isinstance(arch.codec, VAEArch)
        mean, std = vae.posterior(batch["target_moments"].astype(jnp.float32))
        known = [arch.codec.scaling_factor * (mean + std * posterior[:, 0])]
    else:
        known = []

    def encode_one(video: tuple[jax.Array, jax.Array]) -> jax.Array:
        frames, noise = video
        pixels = sharding.constrain(to_signed(frames), sharding.ROWS, None, sharding.TOKENS)
        sample_noise = noise if isinstance(arch.codec, VAEArch) else None
        return codec.encode(params, arch.codec, pixels, sample_noise, dtype=dtype).astype(jnp.float32)

    frames = jnp.stack([batch[name] for name in VIDEOS[len(known) :]])
    latents = jax.lax.map(encode_one, (frames, jnp.moveaxis(posterior, 1, 0)[len(known) :]))
    return known + [sharding.constrain(x, sharding.ROWS) for x in latents]


def loss(
    variables: Any,
    fixed: Any,
    denoiser: Denoiser,
    batch: Batch,
    draws: Draws,
    *,
    mask_weight: float,
    weight_cap: float,
    kept: tuple[int, int] | None = None,
    teaching: distillation.Teaching | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Per clip, the mean squared velocity error plus `mask_weight` times its mean inside the mask, averaged
    over the batch. With the linear codec channels are weighted so that it is the error of the pixels.

    Args:
        variables: of the two stacks.
        fixed: {"codec", "null_text"}.
        denoiser: the network.
        batch: uint8 VIDEOS [B, T, H, W, 3], bool `mask` [B, T, H, W], and int `offsets` [B, t, 2] for the
            layout `trajectory`.
        draws: the random numbers, see `draw`.
        mask_weight: see above.
        weight_cap: upper bound of the factor from the prediction's error to the velocity error (equation 5 of
            `schedule`); with x0 prediction that of nearly clean samples grows as 1 / (1 - alpha_bar).
        kept: numbers of the video's and of the foreground's tokens that the network receives (see
            `token_choice`), whose means the loss then is; None for all.
        teaching: the estimate of a distilled sampler takes the place of x0, at timesteps of its intervals.

    Returns:
        The scalar loss, and metrics: the means of both terms, and `bucket_sum`, `bucket_count` [BUCKETS], the
        sum of the clips' losses and their number per range of timesteps.
    """
    arch = denoiser.arch
    x0, background, foreground = encode(fixed["codec"], arch, batch, draws.posterior, denoiser.dtype)
    factors = arch.codec.time_factor, arch.codec.space_factor
    mask = latent_mask(batch["mask"], *factors, arch.latent_mask)[..., None].astype(jnp.float32)

    kind, table = arch.diffusion.prediction, schedule.alpha_bars(arch.diffusion)
    timestep, row = draws.timestep, None
    if teaching is not None:
        row = distillation.row_of(timestep, teaching.table, arch.diffusion.train_steps)
        timestep = jnp.asarray(teaching.table.timestep)[row]
    at = schedule.signal_at(table, timestep)
    text = jnp.broadcast_to(fixed["null_text"], (len(x0), *fixed["null_text"].shape))
    conditions = LatentConditions(background, foreground, mask, batch.get("offsets"))
    noisy = schedule.add_noise(x0, draws.eps, at)
    subset = None
    if kept is not None:
        subset = token_choice.choose(arch, kept, mask[..., 0], batch["foreground"], draws.ties)

    def network(variables: Any, latents: jax.Array, timestep: jax.Array) -> jax.Array:
        return denoiser(variables, latents, timestep, conditions, text, subset=subset)

    prediction, eps = network(variables, noisy, timestep), draws.eps
    if teaching is not None and row is not None:
        x0 = distillation.estimate(teaching, network, noisy, row)
        eps = distillation.implied_noise(noisy, x0, at)

    weights = np.minimum(schedule.velocity_weight(kind, table), weight_cap)
    error = jnp.square(prediction - schedule.target(kind, x0, eps, at))
    if (of_channels := codec.error_weights(fixed["codec"], arch.codec)) is not None:
        error = error * of_channels
    error = error.mean(axis=-1, keepdims=True)
    clip_axes = tuple(range(1, error.ndim))
    weight = jnp.asarray(weights, jnp.float32)[timestep]
    if subset is None:
        whole = weight * error.mean(clip_axes)
    else:
        received = token_choice.received(arch, subset.video)
        error, mask = error * received, mask * received
        whole = weight * error.sum(clip_axes) / received.sum(clip_axes)
    inside = weight * (error * mask).sum(clip_axes) / jnp.maximum(mask.sum(clip_axes), 1.0)
    per_clip = whole + mask_weight * inside
    bucket = jax.nn.one_hot(timestep * BUCKETS // arch.diffusion.train_steps, BUCKETS)
    metrics = {
        "loss/frame": whole.mean(),
        "loss/mask": inside.mean(),
        "bucket_sum": per_clip @ bucket,
        "bucket_count": bucket.sum(0),
    }
    return per_clip.mean(), metrics
