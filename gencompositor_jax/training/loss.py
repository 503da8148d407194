"""The training loss (paper section 3.4, released script): the whole frame once, the masked region
`mask_weight` times more.

Everything random is drawn for the whole batch before any of it is used, so that the same seed gives the same
numbers on any mesh, and whether or not the batch goes through in parts.
"""

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

Batch = dict[str, jax.Array]
VIDEOS = ("target", "masked_background", "foreground")
BUCKETS = 10  # equal ranges of timesteps that the loss is told for


class Draws(NamedTuple):
    """What is random in a step, one row per clip."""

    timestep: jax.Array  # int [B]
    eps: jax.Array  # the noise that is added to the latents [B, t, h, w, C]
    posterior: jax.Array  # for samples of the codec's posterior, as VIDEOS [B, 3, t, h, w, C]


def draw_timesteps(key: jax.Array, count: int, train_steps: int, bias: float) -> jax.Array:
    """int [count]: floor(train_steps (1 - u^bias)), u uniform; bias 1 is uniform, above it more of the noisy
    end is drawn.
    """
    u = jax.random.uniform(key, (count,), minval=1e-6, maxval=1.0)
    drawn = jnp.floor(train_steps * (1.0 - u**bias)).astype(jnp.int32)
    return jnp.minimum(drawn, train_steps - 1)  # 1 - u^bias may round to 1


def draw(key: jax.Array, count: int, arch: ModelArch, timestep_bias: float) -> Draws:
    """All draws of a batch of `count` clips."""
    for_noise, for_time, for_codec = jax.random.split(key, 3)
    timestep = draw_timesteps(for_time, count, arch.diffusion.train_steps, timestep_bias)
    eps = jax.random.normal(for_noise, (count, *arch.latent_shape))
    # The patch codec has no posterior.
    shape = arch.latent_shape if isinstance(arch.codec, VAEArch) else (0, 0, 0, 0)
    return Draws(timestep, eps, jax.random.normal(for_codec, (count, len(VIDEOS), *shape)))


def encode(params: Any, arch: ModelArch, batch: Batch, posterior: jax.Array, dtype: Any) -> list[jax.Array]:
    """Latents of VIDEOS, float32 [B, t, h, w, C] each: samples of the posterior, as the release trains on.

    One after another, to save memory; each is cut over rows of pixels where the mesh has room beside the
    batch. Where the batch brings `target_moments` [B, t, h, w, 2C], the target isn't encoded again.
    """
    if "target_moments" in batch:
        assert isinstance(arch.codec, VAEArch)
        mean, std = vae.posterior(batch["target_moments"].astype(jnp.float32))
        known = [arch.codec.scaling_factor * (mean + std * posterior[:, 0])]
    else:
        known = []

    def one(given: tuple[jax.Array, jax.Array]) -> jax.Array:
        frames, noise = given
        video = sharding.constrain(to_signed(frames), sharding.ROWS, None, sharding.TOKENS)
        own = noise if isinstance(arch.codec, VAEArch) else None
        return codec.encode(params, arch.codec, video, own, dtype=dtype).astype(jnp.float32)

    frames = jnp.stack([batch[name] for name in VIDEOS[len(known) :]])
    latents = jax.lax.map(one, (frames, jnp.moveaxis(posterior, 1, 0)[len(known) :]))
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
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Per clip, mean squared velocity error, plus `mask_weight` times its mean inside the mask; their mean
    over the batch.

    variables: the two stacks. fixed: {"codec", "null_text"}. batch: uint8 VIDEOS [B, T, H, W, 3] and bool
    `mask` [B, T, H, W]. weight_cap: upper bound of the factor that turns the prediction's error into velocity
    error (equation 5 of `diffusion`): x0 prediction would weigh nearly clean samples by up to
    1 / (1 - alpha_bar). Returns the scalar and metrics: both terms' means, and `bucket_sum`, `bucket_count`
    [BUCKETS], the clips' losses summed by timestep.
    """
    arch = denoiser.arch
    x0, background, foreground = encode(fixed["codec"], arch, batch, draws.posterior, denoiser.dtype)
    factors = arch.codec.time_factor, arch.codec.space_factor
    mask = latent_mask(batch["mask"], *factors, arch.latent_mask)[..., None].astype(jnp.float32)

    kind, table = arch.diffusion.prediction, schedule.alpha_bars(arch.diffusion)
    at = schedule.signal_at(table, draws.timestep)
    text = jnp.broadcast_to(fixed["null_text"], (len(x0), *fixed["null_text"].shape))
    given = LatentConditions(background, foreground, mask)
    prediction = denoiser(variables, schedule.add_noise(x0, draws.eps, at), draws.timestep, given, text)

    weights = np.minimum(schedule.velocity_weight(kind, table), weight_cap)
    error = jnp.square(prediction - schedule.target(kind, x0, draws.eps, at)).mean(axis=-1, keepdims=True)
    each = tuple(range(1, error.ndim))
    weight = jnp.asarray(weights, jnp.float32)[draws.timestep]
    whole = weight * error.mean(each)
    inside = weight * (error * mask).sum(each) / jnp.maximum(mask.sum(each), 1.0)
    per_clip = whole + mask_weight * inside
    bucket = jax.nn.one_hot(draws.timestep * BUCKETS // arch.diffusion.train_steps, BUCKETS)
    metrics = {
        "loss/frame": whole.mean(),
        "loss/mask": inside.mean(),
        "bucket_sum": per_clip @ bucket,
        "bucket_count": bucket.sum(0),
    }
    return per_clip.mean(), metrics
