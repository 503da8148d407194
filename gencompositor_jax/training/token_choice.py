"""The tokens that the network receives in training: those that teach most.

Most of a frame is far from the mask, and most of the foreground is white. A step without those tokens costs a
fraction, and the network, which may receive any number of tokens, is sampled with all of them.
"""

import math

import jax
import jax.numpy as jnp
import ml_collections
from jaxtyping import Bool, Float, Int, UInt8

from gencompositor_jax.arch import ModelArch
from gencompositor_jax.masks.latent import latent_mask, token_mask
from gencompositor_jax.model.joint_sequence import Subset
from gencompositor_jax.model.layers import from_patches

REACH = 4  # tokens around the mask, or around the element, that are preferred to those further away


def choose(
    arch: ModelArch,
    kept: tuple[int, int],
    mask: Float[jax.Array, "B t h w"],
    foreground: UInt8[jax.Array, "B T H W 3"],
    ties: Float[jax.Array, "B 2 N"],
) -> Subset | None:
    """The subset for a batch; None where it is all tokens.

    The video's tokens are ranked by their distance from the mask, up to REACH, the foreground's by that from
    the pixels that aren't white; at equal distances they are drawn.

    Args:
        arch: of the model.
        kept: numbers of the video's and of the foreground's tokens, see `counts`.
        mask: the latent mask.
        foreground: the pixels, 255 where they are white.
        ties: uniform in [0, 1).
    """
    if min(kept) == math.prod(arch.token_grid):
        return None
    frames, pixels = arch.cell
    masked = token_mask(mask, arch.backbone.patch).reshape(-1, *arch.token_grid)
    shown = latent_mask((foreground < 255).any(-1), frames, pixels, "union")
    return Subset(_nearest(masked, kept[0], ties[:, 0]), _nearest(shown, kept[1], ties[:, 1]))


def counts(arch: ModelArch, tokens: ml_collections.ConfigDict) -> tuple[int, int]:
    """The numbers of tokens of the two streams that `config.tokens` keeps."""
    video, foreground = (math.ceil(f * math.prod(arch.token_grid)) for f in (tokens.video, tokens.foreground))
    return video, foreground


def received(arch: ModelArch, video: Int[jax.Array, "B V"]) -> Float[jax.Array, "B t h w 1"]:
    """1 for latent pixels of the video tokens with these indices, 0 for the others."""
    tokens = jnp.zeros((len(video), math.prod(arch.token_grid), arch.backbone.patch**2))
    tokens = tokens.at[jnp.arange(len(video))[:, None], video].set(1.0)
    return from_patches(tokens, arch.token_grid, arch.backbone.patch)


def _nearest(
    region: Bool[jax.Array, "B t rows columns"], count: int, ties: Float[jax.Array, "B N"]
) -> Int[jax.Array, "B {count}"]:
    """Ascending indices of the `count` tokens that are nearest to a region, within their frame."""
    rank, near = jnp.zeros(region.shape), region.astype(jnp.float32)
    for _ in range(REACH + 1):
        rank += near
        near = jax.lax.reduce_window(near, 0.0, jax.lax.max, (1, 1, 3, 3), (1, 1, 1, 1), "SAME")
    return jnp.sort(jax.lax.top_k(rank.reshape(ties.shape) + ties, count)[1], axis=1)
