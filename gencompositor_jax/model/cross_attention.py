"""Cross-attention from the video's to the foreground's tokens: the ablation of fusion attention (paper,
section 4.3), which adds the foreground as a condition instead of mixing it into the joint sequence.

In every block, between self-attention over [text | video] and the feed-forward network, each head computes

    (1)  o_i = sum_j softmax_j(R(theta_i) q_i . R(theta_j) k_j / sqrt(d)) v_j,     x_i <- x_i + W o_i

i runs over video tokens, j over foreground tokens, whose keys and values are projections of their embeddings:
the same in all blocks, since nothing updates foreground tokens. W is zero at first.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Float

from gencompositor_jax import sharding
from gencompositor_jax.arch import TransformerArch
from gencompositor_jax.model import attention, erope
from gencompositor_jax.model.joint_sequence import JointSequence
from gencompositor_jax.model.layers import BLOCK_EPS, QK_EPS, Dtype, LayerNorm


@struct.dataclass
class Foreground:
    """Embedded foreground tokens and their rotary tables, padded alike."""

    tokens: jax.Array  # [B, F, D]
    cos: jax.Array  # [F, d / 2] or [B, F, d / 2]
    sin: jax.Array
    length: int = struct.field(pytree_node=False)  # tokens before the padding


def foreground(tokens: Float[jax.Array, "B F D"], tables: erope.Tables) -> Foreground:
    """Foreground tokens, padded to a length that the mesh in force divides evenly."""
    length = tokens.shape[1]
    more = (0, sharding.padded_length(length) - length), (0, 0)
    tokens = sharding.constrain(jnp.pad(tokens, ((0, 0), *more)), sharding.ROWS, sharding.TOKENS)
    cos, sin = (jnp.pad(table, (*((0, 0),) * (table.ndim - 2), *more)) for table in tables)
    return Foreground(tokens, cos, sin, length)


def cross_attend(
    q: Float[jax.Array, "B S heads d"],
    k: Float[jax.Array, "B F heads d"],
    v: Float[jax.Array, "B F heads d"],
    joint: JointSequence,
    other: Foreground,
) -> Float[jax.Array, "B S heads d"]:
    """o of equation (1) for all tokens of the joint sequence."""
    rotated = erope.rotate(q, joint.cos, joint.sin), erope.rotate(k, other.cos, other.sin)
    return attention.attend(*rotated, v, other.length)


class CrossAttention(nn.Module):
    """Parameters of equation (1): the norms, projections of queries, keys, values and outputs."""

    arch: TransformerArch
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[jax.Array, "B S D"], joint: JointSequence, other: Foreground
    ) -> Float[jax.Array, "B S D"]:
        """What is added to the tokens: W o_i for video tokens, 0 for text tokens."""
        heads = (self.arch.num_heads, self.arch.head_dim)

        def project(x: jax.Array, name: str) -> jax.Array:
            return nn.DenseGeneral(heads, dtype=self.dtype, name=name)(x)

        tokens = LayerNorm(BLOCK_EPS, name="norm_foreground")(other.tokens)
        q = LayerNorm(QK_EPS, name="norm_query")(project(LayerNorm(BLOCK_EPS, name="norm")(x), "query"))
        k = LayerNorm(QK_EPS, name="norm_key")(project(tokens, "key"))
        mixed = cross_attend(q, k, project(tokens, "value"), joint, other)
        out = nn.DenseGeneral(
            self.arch.width, axis=(-2, -1), dtype=self.dtype, kernel_init=nn.initializers.zeros, name="out"
        )(mixed)
        return jnp.where(joint.is_text[:, None], 0, out)
