"""The training loss (paper section 3.4, released script): the whole frame once, the masked region
`mask_weight` times more.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gencompositor_jax import codec, diffusion, masks
from gencompositor_jax.denoiser import Denoiser, LatentConditions

Batch = dict[str, jax.Array]


def to_unit(frames: jax.Array) -> jax.Array:
    """uint8 frames to float32 in [-1, 1]."""
    return frames.astype(jnp.float32) / 127.5 - 1.0


def draw_timesteps(key: jax.Array, count: int, train_steps: int, bias: float) -> jax.Array:
    """int [count]: floor(train_steps (1 - u^bias)), u uniform; bias 1 is uniform, above it more of the noisy
    end is drawn.
    """
    u = jax.random.uniform(key, (count,), minval=1e-6, maxval=1.0)
    drawn = jnp.floor(train_steps * (1.0 - u**bias)).astype(jnp.int32)
    return jnp.minimum(drawn, train_steps - 1)  # 1 - u^bias may round to 1


def loss(
    variables: Any,
    frozen: Any,
    denoiser: Denoiser,
    batch: Batch,
    key: jax.Array,
    *,
    mask_weight: float,
    timestep_bias: float,
    weight_cap: float,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean squared velocity error, plus `mask_weight` times its mean inside the mask.

    variables: the two stacks. frozen: {"codec", "null_text"}. batch: uint8 `target`, `masked_background`,
    `foreground` [B, T, H, W, 3] and bool `mask` [B, T, H, W]. weight_cap: upper bound of the factor that
    turns the prediction's error into velocity error (equation 5 of `diffusion`): x0 prediction would weigh
    nearly clean samples by up to 1 / (1 - alpha_bar). Returns the scalar and metrics.
    """
    arch = denoiser.arch
    for_noise, for_time = jax.random.split(key)

    def encode(frames: jax.Array) -> jax.Array:
        return codec.encode(frozen["codec"], arch.codec, to_unit(frames))

    x0, background, foreground = (
        encode(batch[name]) for name in ("target", "masked_background", "foreground")
    )
    latent = masks.latent_mask(
        batch["mask"], arch.codec.time_factor, arch.codec.space_factor, arch.latent_mask
    )
    mask = latent[..., None].astype(jnp.float32)

    timestep = draw_timesteps(for_time, len(x0), arch.diffusion.train_steps, timestep_bias)
    table = diffusion.alpha_bars(arch.diffusion)
    at = diffusion.signal_at(table, timestep)
    eps = jax.random.normal(for_noise, x0.shape)
    text = jnp.broadcast_to(frozen["null_text"], (len(x0), *frozen["null_text"].shape))
    given = LatentConditions(background, foreground, mask)
    prediction = denoiser(variables, diffusion.add_noise(x0, eps, at), timestep, given, text)

    weights = np.minimum(diffusion.velocity_weight(arch.diffusion.prediction, table), weight_cap)
    error = jnp.square(prediction - diffusion.target(arch.diffusion.prediction, x0, eps, at))
    per_pixel = error.mean(axis=-1, keepdims=True) * jnp.asarray(weights, jnp.float32)[timestep].reshape(
        -1, 1, 1, 1, 1
    )
    whole, inside = per_pixel.mean(), (per_pixel * mask).sum() / jnp.maximum(mask.sum(), 1.0)
    return whole + mask_weight * inside, {"loss/frame": whole, "loss/mask": inside}
