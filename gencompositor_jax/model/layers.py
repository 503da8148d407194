"""Building blocks of both stacks: pure functions on arrays, and the thin Linen modules that declare their
parameters.

The joint sequence is one array [B, S, D] of [text | video | foreground] tokens (the branch has no
foreground). Text tokens have modulations of their own, chosen token by token.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct
from jax.ad_checkpoint import checkpoint_name

from gencompositor_jax import sharding
from gencompositor_jax.arch import TransformerArch
from gencompositor_jax.model import attention, erope, int8

BLOCK_EPS = 1e-5
QK_EPS = 1e-6
Dtype = Any

# What a stack keeps of its blocks from the forward to the backward pass. "none": all activations. "blocks":
# their inputs and attention's outputs; the rest is computed again. "offload": the same, in the host's memory.
Remat = Literal["none", "blocks", "offload"]
_INPUT = "block input"


def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float) -> jax.Array:
    """Affine layer norm over the last axis, in float32, back in x's dtype."""
    y = x.astype(jnp.float32)
    y = y - y.mean(axis=-1, keepdims=True)
    y = y * jax.lax.rsqrt(jnp.square(y).mean(axis=-1, keepdims=True) + eps)
    return (y * scale + bias).astype(x.dtype)


def modulate(x: jax.Array, shift: jax.Array, scale: jax.Array) -> jax.Array:
    """x (1 + scale) + shift."""
    return x * (1 + scale) + shift


def timestep_embedding(timestep: jax.Array, size: int) -> jax.Array:
    """Sinusoid of integer timesteps [B] -> float32 [B, size]: cosines first, frequencies 10000^(-2k/size)."""
    frequencies = np.exp(
        -np.log(np.float32(10000)) * np.arange(size // 2, dtype=np.float32) / np.float32(size // 2)
    )
    theta = timestep.astype(jnp.float32)[:, None] * frequencies
    return jnp.concatenate([jnp.cos(theta), jnp.sin(theta)], axis=-1)


def to_patches(latents: jax.Array, patch: int) -> jax.Array:
    """[B, t, h, w, C] -> [B, t*h/p*w/p, p*p*C], tokens with t slowest, then row, then column."""
    b, t, h, w, c = latents.shape
    x = latents.reshape(b, t, h // patch, patch, w // patch, patch, c)
    return x.transpose(0, 1, 2, 4, 3, 5, 6).reshape(b, -1, patch * patch * c)


def from_patches(tokens: jax.Array, grid: tuple[int, int, int], patch: int) -> jax.Array:
    """[B, N, C*p*p] (channel slowest: released checkpoint) -> [B, t, h, w, C]."""
    b, (t, rows, columns) = tokens.shape[0], grid
    x = tokens.reshape(b, t, rows, columns, -1, patch, patch)
    return x.transpose(0, 1, 2, 5, 3, 6, 4).reshape(b, t, rows * patch, columns * patch, -1)


class LayerNorm(nn.Module):
    """Parameters of `layer_norm`."""

    eps: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [..., size] -> the same shape and type."""
        size = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, size, jnp.float32)
        return layer_norm(x, scale, self.param("bias", nn.initializers.zeros, size, jnp.float32), self.eps)


class TimeEmbedding(nn.Module):
    """Timesteps [B] -> float32 [B, time_embed_dim]: sinusoid, linear, silu, linear.

    In float32 whatever the stack runs in: it costs nothing, and every block multiplies its error.
    """

    arch: TransformerArch

    @nn.compact
    def __call__(self, timestep: jax.Array) -> jax.Array:
        """timestep int [B] -> [B, time_embed_dim]."""
        x = timestep_embedding(timestep, self.arch.width)
        x = nn.silu(nn.Dense(self.arch.time_embed_dim, dtype=jnp.float32, name="linear_1")(x))
        return nn.Dense(self.arch.time_embed_dim, dtype=jnp.float32, name="linear_2")(x)


class ModulatedNorm(nn.Module):
    """Layer norm whose shift, scale and the branch's gate come from the time embedding, with their own values
    for text tokens.
    """

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, time: jax.Array, is_text: jax.Array) -> tuple[jax.Array, jax.Array]:
        """x [B, S, D], time [B, E], is_text bool [S] -> (modulated x, gate), the gate [B, S, D] or
        broadcastable to it.
        """
        zero = nn.initializers.zeros
        linear = nn.Dense(6 * x.shape[-1], dtype=self.dtype, kernel_init=zero, name="linear")
        parts = jnp.split(linear(nn.silu(time))[:, None, :], 6, axis=-1)
        shift, scale, gate = (
            jnp.where(is_text[:, None], for_text, for_video)
            for for_video, for_text in zip(parts[:3], parts[3:], strict=True)
        )
        return modulate(LayerNorm(BLOCK_EPS, name="norm")(x), shift, scale), gate


class SelfAttention(nn.Module):
    """Full self-attention over the joint sequence, with normalised queries and keys and rotated video and
    foreground tokens.
    """

    arch: TransformerArch
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, cos: jax.Array, sin: jax.Array, length: int) -> jax.Array:
        """x [B, S, D]; cos, sin [S, head_dim / 2], 1 and 0 for text tokens; tokens from `length` on are
        padding.
        """
        heads = (self.arch.num_heads, self.arch.head_dim)
        q, k, v = (
            nn.DenseGeneral(heads, dtype=self.dtype, name=name)(x) for name in ("query", "key", "value")
        )
        q = erope.rotate(LayerNorm(QK_EPS, name="norm_query")(q), cos, sin)
        k = erope.rotate(LayerNorm(QK_EPS, name="norm_key")(k), cos, sin)
        mixed = attention.attend(q, k, v, length)
        return nn.DenseGeneral(self.arch.width, axis=(-2, -1), dtype=self.dtype, name="out")(mixed)


class FeedForward(nn.Module):
    """Linear to mlp_ratio times the width, tanh GELU, linear back."""

    arch: TransformerArch
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [B, S, D] -> [B, S, D]."""
        hidden = nn.Dense(self.arch.mlp_ratio * self.arch.width, dtype=self.dtype, name="up")(x)
        return nn.Dense(self.arch.width, dtype=self.dtype, name="down")(nn.gelu(hidden, approximate=True))


class Block(nn.Module):
    """Gated attention and gated feed-forward, each behind a modulated norm."""

    arch: TransformerArch
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, time: jax.Array, joint: "Joint") -> jax.Array:
        """x [B, S, D], time [B, E] -> [B, S, D]."""
        x = checkpoint_name(x, _INPUT)
        y, gate = ModulatedNorm(self.dtype, name="norm1")(x, time, joint.is_text)
        mixed = SelfAttention(self.arch, self.dtype, name="attention")(y, joint.cos, joint.sin, joint.length)
        x = x + gate * mixed
        y, gate = ModulatedNorm(self.dtype, name="norm2")(x, time, joint.is_text)
        x = x + gate * FeedForward(self.arch, self.dtype, name="feed_forward")(y)
        return sharding.constrain(x, sharding.ROWS, sharding.TOKENS)


class PatchEmbedding(nn.Module):
    """Text and latents -> the joint sequence: one linear map per stream, then the added position table (a
    buffer, never trained).
    """

    arch: TransformerArch
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        text: jax.Array,
        video: jax.Array,
        foreground: jax.Array | None,
        positions: Callable[[], np.ndarray],
        kept: jax.Array | None = None,
    ) -> jax.Array:
        """text [B, L, text_dim], video [B, t, h, w, C], foreground the same with its own C or None -> tokens
        [B, S, D].

        `positions()` gives the initial added table of the tokens after the text; text rows start at zero.
        kept: the foreground's tokens that become part of the sequence, int [F]; None: all of them.
        """
        width, patch = self.arch.width, self.arch.patch
        parts = [
            nn.Dense(width, dtype=self.dtype, name="text")(text.astype(self.dtype)),
            nn.Dense(width, dtype=self.dtype, name="video")(to_patches(video.astype(self.dtype), patch)),
        ]
        if foreground is not None:
            x = to_patches(foreground.astype(self.dtype), patch)
            x = x if kept is None else x[:, kept]
            parts.append(nn.Dense(width, dtype=self.dtype, name="foreground")(x))

        def initial() -> jax.Array:
            return jnp.pad(jnp.asarray(positions()), ((text.shape[1], 0), (0, 0)))

        table = self.variable("buffers", "positions", initial).value
        table = without_dropped(table, parts[0].shape[1] + parts[1].shape[1], kept)
        return jnp.concatenate(parts, axis=1) + table.astype(self.dtype)


def without_dropped(table: Any, first: int, kept: jax.Array | None) -> Any:
    """A table of the tokens [S, ...] without those of the foreground, which begin at `first`, that are not
    among `kept` (int [F]; None: all of them).
    """
    if kept is None:
        return table
    return jnp.concatenate([table[:first], jnp.asarray(table)[first:][kept]])


@struct.dataclass
class Joint:
    """What is known of the joint sequence [text | video | foreground | padding] besides its tokens."""

    is_text: jax.Array  # bool [S]
    cos: jax.Array  # [S, head_dim / 2], 1 where a token is not rotated
    sin: jax.Array  # [S, head_dim / 2]
    length: int = struct.field(pytree_node=False)  # tokens before the padding

    def pad(self, x: jax.Array, axis: int = 1) -> jax.Array:
        """x with its token axis filled up with zeros to S."""
        widths = [(0, 0)] * x.ndim
        widths[axis] = (0, len(self.is_text) - x.shape[axis])
        return jnp.pad(x, widths)


def joint_sequence(tables: erope.Tables, text_tokens: int) -> Joint:
    """The joint sequence of text tokens and of those that `tables` rotate.

    It is padded to what the mesh in force can cut (35,326 tokens to 35,328 on up to 512 parts that are a
    power of two).
    """
    length = text_tokens + len(tables.cos)
    size = sharding.padded_length(length)
    pad = ((text_tokens, size - length), (0, 0))
    cos = jnp.pad(tables.cos, pad, constant_values=1.0)
    return Joint(is_text=jnp.arange(size) < text_tokens, cos=cos, sin=jnp.pad(tables.sin, pad), length=length)


def stacked_blocks(arch: TransformerArch, dtype: Dtype, remat: Remat, quantised: bool = False) -> Any:
    """The block class that a stack scans over.

    quantised: the kernels are `int8.Int8`, and become arrays inside the scan, one layer's at a time; there is
    no backward pass then.
    """
    if quantised:
        return nn.map_variables(Block, "params", functools.partial(int8.restored, dtype=dtype))
    if remat == "none":
        return Block
    return nn.remat(Block, policy=attention.keep if remat == "blocks" else _offload, prevent_cse=False)


def _offload(primitive: Any, *given: Any, **params: Any) -> Any:
    """A policy for jax.checkpoint: what has a name goes to the host's memory, and comes back from there.
    cuDNN's outputs, which can't be named, stay.
    """
    named = jax.checkpoint_policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[],
        names_which_can_be_offloaded=[attention.NAME, _INPUT],
        offload_src="device",
        offload_dst="pinned_host",
    )
    if params.get("name") in (attention.NAME, _INPUT):
        return named(primitive, *given, **params)
    return attention.keep(primitive, *given, **params)
