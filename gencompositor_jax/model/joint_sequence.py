"""The joint sequence: [text | video | foreground | padding] tokens in one array [B, S, D].

The background branch uses the same layout without foreground tokens.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from gencompositor_jax import sharding
from gencompositor_jax.model import erope


@struct.dataclass
class JointSequence:
    """Layout of the joint sequence: everything about it but its tokens."""

    is_text: jax.Array  # bool [S]
    cos: jax.Array  # [S, d / 2], 1 for text and padding, which are not rotated
    sin: jax.Array  # [S, d / 2], 0 for text and padding
    length: int = struct.field(pytree_node=False)  # tokens before the padding

    def pad(self, x: jax.Array) -> jax.Array:
        """Tokens [B, length, D] padded with zeros to [B, S, D]."""
        return jnp.pad(x, ((0, 0), (0, len(self.is_text) - x.shape[1]), (0, 0)))


def joint_sequence(tables: erope.Tables, text_tokens: int) -> JointSequence:
    """Layout of text tokens followed by the tokens that `tables` rotate.

    The sequence is padded to a length that the mesh in force divides evenly: 35,326 tokens to 35,328 on up to
    512 devices, a power of two.
    """
    length = text_tokens + len(tables.cos)
    size = sharding.padded_length(length)
    pad = ((text_tokens, size - length), (0, 0))
    return JointSequence(
        is_text=jnp.arange(size) < text_tokens,
        cos=jnp.pad(tables.cos, pad, constant_values=1.0),
        sin=jnp.pad(tables.sin, pad),
        length=length,
    )


def select_foreground(table: Any, first: int, kept: jax.Array | None) -> Any:
    """Rows of a per-token table [tokens, ...] whose foreground tokens, from index `first` on, are reduced to
    `kept`, int [F]. None keeps all of them.
    """
    if kept is None:
        return table
    return jnp.concatenate([table[:first], jnp.asarray(table)[first:][kept]])
