"""The joint sequence: [text | video | foreground | padding] tokens in one array [B, S, D].

The background branch uses the same layout without foreground tokens.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Int

from gencompositor_jax import sharding
from gencompositor_jax.model import erope


class Subset(NamedTuple):
    """The tokens of each clip that a transformer receives: indices into those of one stream."""

    video: Int[jax.Array, "B V"]
    foreground: Int[jax.Array, "B F"] | None  # None in the branch, which has no foreground

    def joint(self, video_tokens: int) -> Int[jax.Array, "B K"]:
        """Indices into the tokens of both streams, of which the first `video_tokens` are the video's."""
        if self.foreground is None:
            return self.video
        return jnp.concatenate([self.video, video_tokens + self.foreground], axis=1)


@struct.dataclass
class JointSequence:
    """Layout of the joint sequence: everything about it but its tokens."""

    is_text: jax.Array  # bool [S]
    cos: jax.Array  # [S, d / 2] or [B, S, d / 2], 1 for text and padding, which are not rotated
    sin: jax.Array  # likewise, 0 for text and padding
    length: int = struct.field(pytree_node=False)  # tokens before the padding

    def pad(self, x: jax.Array) -> jax.Array:
        """Tokens [B, length, D] padded with zeros to [B, S, D]."""
        return jnp.pad(x, ((0, 0), (0, len(self.is_text) - x.shape[1]), (0, 0)))


def joint_sequence(tables: erope.Tables, text_tokens: int) -> JointSequence:
    """Layout of text tokens followed by the tokens that `tables` rotate.

    The sequence is padded to a length that the mesh in force divides evenly: 35,326 tokens to 35,328 on up to
    512 devices, a power of two.
    """
    *batch, tokens, _ = tables.cos.shape
    length = text_tokens + tokens
    size = sharding.padded_length(length)
    pad = (*((0, 0) for _ in batch), (text_tokens, size - length), (0, 0))
    return JointSequence(
        is_text=jnp.arange(size) < text_tokens,
        cos=jnp.pad(tables.cos, pad, constant_values=1.0),
        sin=jnp.pad(tables.sin, pad),
        length=length,
    )


def select_foreground(table: Any, first: int, kept: jax.Array | None) -> Any:
    """Rows of a per-token table [..., tokens, size] whose foreground tokens, from index `first` on, are
    reduced to `kept`, int [F]. None keeps all of them.
    """
    if kept is None:
        return table
    table = jnp.asarray(table)
    return jnp.concatenate([table[..., :first, :], table[..., first:, :][..., kept, :]], axis=-2)


def select_tokens(table: Any, first: int, indices: Int[jax.Array, "B K"]) -> jax.Array:
    """Rows of a table [tokens, size] or [B, tokens, size]: all before `first`, then, per clip, the rows
    `first` + `indices`. Returns [B, first + K, size].
    """
    table = jnp.broadcast_to(jnp.asarray(table), (len(indices), *table.shape[-2:]))
    chosen = jnp.take_along_axis(table[:, first:], indices[..., None], axis=1)
    return jnp.concatenate([table[:, :first], chosen], axis=1)
