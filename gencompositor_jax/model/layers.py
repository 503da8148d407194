"""Layers of both transformers: pure functions on arrays, and Flax modules that only declare their parameters.

Text tokens have modulations of their own, selected token by token.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Bool, Float, Int

from gencompositor_jax.arch import TransformerArch
from gencompositor_jax.model.joint_sequence import Subset, select_foreground, select_tokens

BLOCK_EPS = 1e-5
QK_EPS = 1e-6
Dtype = Any


def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float) -> jax.Array:
    """Affine layer norm over the last axis, computed in float32, in x's dtype."""
    y = x.astype(jnp.float32)
    y = y - y.mean(axis=-1, keepdims=True)
    y = y * jax.lax.rsqrt(jnp.square(y).mean(axis=-1, keepdims=True) + eps)
    return (y * scale + bias).astype(x.dtype)


def modulate(x: jax.Array, shift: jax.Array, scale: jax.Array) -> jax.Array:
    """x (1 + scale) + shift."""
    return x * (1 + scale) + shift


def timestep_embedding(timestep: Int[jax.Array, " B"], size: int) -> Float[jax.Array, "B {size}"]:
    """Float32 sinusoid of the timesteps: cosines, then sines, of frequencies 10000^(-2k/size)."""
    frequencies = np.exp(
        -np.log(np.float32(10000)) * np.arange(size // 2, dtype=np.float32) / np.float32(size // 2)
    )
    theta = timestep.astype(jnp.float32)[:, None] * frequencies
    return jnp.concatenate([jnp.cos(theta), jnp.sin(theta)], axis=-1)


def to_patches(
    latents: Float[jax.Array, "B t h w C"], patch: int
) -> Float[jax.Array, "B N {patch}*{patch}*C"]:
    """Patches of patch x patch latents as tokens: t slowest, then row, then column. N = t h w / patch^2."""
    b, t, h, w, c = latents.shape
    x = latents.reshape(b, t, h // patch, patch, w // patch, patch, c)
    return x.transpose(0, 1, 2, 4, 3, 5, 6).reshape(b, -1, patch * patch * c)


def from_patches(
    tokens: Float[jax.Array, "B N K"], grid: tuple[int, int, int], patch: int
) -> Float[jax.Array, "B t h w C"]:
    """Latents of a (t, rows, columns) grid of tokens. K = C patch^2, the channel slowest
    (released checkpoint).
    """
    b, (t, rows, columns) = tokens.shape[0], grid
    x = tokens.reshape(b, t, rows, columns, -1, patch, patch)
    return x.transpose(0, 1, 2, 5, 3, 6, 4).reshape(b, t, rows * patch, columns * patch, -1)


class LayerNorm(nn.Module):
    """Parameters of `layer_norm`."""

    eps: float

    @nn.compact
    def __call__(self, x: Float[jax.Array, "*batch size"]) -> Float[jax.Array, "*batch size"]:
        """Normalises the last axis; the dtype stays."""
        size = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, size, jnp.float32)
        return layer_norm(x, scale, self.param("bias", nn.initializers.zeros, size, jnp.float32), self.eps)


class TimeEmbedding(nn.Module):
    """Embeds timesteps: sinusoid, linear, silu, linear.

    Runs in float32 whatever the dtype of the network: it is cheap, and every block amplifies its error.
    """

    arch: TransformerArch

    @nn.compact
    def __call__(self, timestep: Int[jax.Array, " B"]) -> Float[jax.Array, "B E"]:
        """Returns float32; E is `time_embed_dim`."""
        x = timestep_embedding(timestep, self.arch.width)
        x = nn.silu(nn.Dense(self.arch.time_embed_dim, dtype=jnp.float32, name="linear_1")(x))
        return nn.Dense(self.arch.time_embed_dim, dtype=jnp.float32, name="linear_2")(x)


class ModulatedNorm(nn.Module):
    """Layer norm with shift, scale and gate from the time embedding, one set of each for text tokens and one
    for all others.
    """

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[jax.Array, "B S D"], time: Float[jax.Array, "B E"], is_text: Bool[jax.Array, " S"]
    ) -> tuple[Float[jax.Array, "B S D"], Float[jax.Array, "B S D"]]:
        """Returns the modulated tokens and the gate."""
        zero = nn.initializers.zeros
        linear = nn.Dense(6 * x.shape[-1], dtype=self.dtype, kernel_init=zero, name="linear")
        parts = jnp.split(linear(nn.silu(time))[:, None, :], 6, axis=-1)
        shift, scale, gate = (
            jnp.where(is_text[:, None], for_text, for_video)
            for for_video, for_text in zip(parts[:3], parts[3:], strict=True)
        )
        return modulate(LayerNorm(BLOCK_EPS, name="norm")(x), shift, scale), gate


class FeedForward(nn.Module):
    """Linear to `mlp_ratio` times the width, tanh GELU, linear back."""

    arch: TransformerArch
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[jax.Array, "B S D"]) -> Float[jax.Array, "B S D"]:
        """Transforms each token by itself."""
        hidden = nn.Dense(self.arch.mlp_ratio * self.arch.width, dtype=self.dtype, name="up")(x)
        return nn.Dense(self.arch.width, dtype=self.dtype, name="down")(nn.gelu(hidden, approximate=True))


class PatchEmbedding(nn.Module):
    """Embeds text and latents as tokens: one linear map per stream, plus a table of positions, a buffer that
    is never trained.
    """

    arch: TransformerArch
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        text: Float[jax.Array, "B L text_dim"],
        video: Float[jax.Array, "B t h w video_channels"],
        foreground: Float[jax.Array, "B t h w C"] | None,
        positions: Callable[[], np.ndarray],
        kept: Int[jax.Array, " F"] | None = None,
        subset: Subset | None = None,
    ) -> Float[jax.Array, "B length D"]:
        """Tokens [text | video | foreground], not padded.

        positions: called at initialisation for the table of video and foreground tokens; text tokens have
        zeros. kept: the foreground tokens that become part of the sequence; None for all of them. subset: the
        tokens of both streams that do, instead of `kept`.
        """
        width, patch = self.arch.width, self.arch.patch
        x = to_patches(video.astype(self.dtype), patch)
        video_tokens = x.shape[1]
        x = x if subset is None else select_tokens(x, 0, subset.video)
        parts = [
            nn.Dense(width, dtype=self.dtype, name="text")(text.astype(self.dtype)),
            nn.Dense(width, dtype=self.dtype, name="video")(x),
        ]
        if foreground is not None:
            x = to_patches(foreground.astype(self.dtype), patch)
            x = x if kept is None else x[:, kept]
            if subset is not None and subset.foreground is not None:
                x = select_tokens(x, 0, subset.foreground)
            parts.append(nn.Dense(width, dtype=self.dtype, name="foreground")(x))

        def initial() -> jax.Array:
            return jnp.pad(jnp.asarray(positions()), ((text.shape[1], 0), (0, 0)))

        table = self.variable("buffers", "positions", initial).value
        table = select_foreground(table, text.shape[1] + video_tokens, kept)
        if subset is not None:
            table = select_tokens(table, text.shape[1], subset.joint(video_tokens))
        return jnp.concatenate(parts, axis=1) + table.astype(self.dtype)
