"""The lossless codec of tiny models: a latent pixel is a block of pixels over a few frames."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from gencompositor_jax.arch import PatchCodecArch


def encode(arch: PatchCodecArch, video: Float[jax.Array, "B T H W 3"]) -> Float[jax.Array, "B t h w C"]:
    """A latent pixel holds time_factor frames of a block of space_factor x space_factor pixels.

    Its channels are ordered (frame, row, column, colour). The first latent frame repeats the first frame.
    """
    n, s = arch.time_factor, arch.space_factor
    first = jnp.repeat(video[:, :1], n - 1, axis=1)
    video = jnp.concatenate([first, video], axis=1)
    b, frames, height, width, _ = video.shape
    blocks = video.reshape(b, frames // n, n, height // s, s, width // s, s, 3)
    return blocks.transpose(0, 1, 3, 5, 2, 4, 6, 7).reshape(
        b, frames // n, height // s, width // s, n * s * s * 3
    )


def decode(arch: PatchCodecArch, latents: Float[jax.Array, "B t h w C"]) -> Float[jax.Array, "B T H W 3"]:
    """Inverse of `encode`; the first frame is the mean of its copies."""
    n, s = arch.time_factor, arch.space_factor
    b, t, h, w, _ = latents.shape
    blocks = latents.reshape(b, t, h, w, n, s, s, 3).transpose(0, 1, 4, 2, 5, 3, 6, 7)
    video = blocks.reshape(b, t * n, h * s, w * s, 3)
    copies = video[:, :n]
    # One copy plus the mean deviation from it is exact when the copies are equal, unlike their mean.
    first = copies[:, :1] + jnp.mean(copies - copies[:, :1], axis=1, keepdims=True)
    return jnp.concatenate([first, video[:, n:]], axis=1)
