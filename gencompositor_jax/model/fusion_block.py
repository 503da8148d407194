"""The DiT fusion block (paper, section 4.3): full self-attention over the joint sequence, then a feed-forward
network, both gated by the timestep.

Fusion attention mixes foreground and video tokens by concatenation, where cross-attention would add the
foreground as a condition. With text, video and foreground tokens in one sequence of queries q, keys k and
values v, each head computes

    (1)  q_i <- R(theta_i) q_i,   k_j <- R(theta_j) k_j
    (2)  o_i  = sum_j softmax_j(q_i . k_j / sqrt(d)) v_j

theta are the angles of ERoPE (`erope`), 0 for text tokens; i and j run over all tokens. Queries and keys are
layer-normalised before the rotation (released checkpoint). The background branch uses the same block on a
sequence without foreground tokens, and so does a backbone with another `arch.Fusion`.
"""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Float

from gencompositor_jax import sharding
from gencompositor_jax.arch import TransformerArch
from gencompositor_jax.model import attention, erope, int8
from gencompositor_jax.model.cross_attention import CrossAttention, Foreground
from gencompositor_jax.model.joint_sequence import JointSequence
from gencompositor_jax.model.layers import QK_EPS, Dtype, FeedForward, LayerNorm, ModulatedNorm

# What the backward pass reuses of each block. "none": all activations. "blocks": the block's input and
# attention's outputs; the rest is computed again. "offload": the same, kept in the host's memory.
Remat = Literal["none", "blocks", "offload"]
_INPUT = "block input"


def fusion_attention(
    q: Float[jax.Array, "B S heads d"],
    k: Float[jax.Array, "B S heads d"],
    v: Float[jax.Array, "B S heads d"],
    cos: Float[jax.Array, "*#batch S d//2"],
    sin: Float[jax.Array, "*#batch S d//2"],
    length: int,
) -> Float[jax.Array, "B S heads d"]:
    """Equations (1) and (2) for the joint sequence [text | video | foreground | padding].

    cos, sin: of the angles, one column per rotated pair. length: tokens before the padding, which receives no
    attention.
    """
    return attention.attend(erope.rotate(q, cos, sin), erope.rotate(k, cos, sin), v, length)


class FusionAttention(nn.Module):
    """Parameters of `fusion_attention`: projections of queries, keys, values and outputs, and the norms of
    queries and keys.
    """

    arch: TransformerArch
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[jax.Array, "B S D"], joint: JointSequence) -> Float[jax.Array, "B S D"]:
        """Attends over the joint sequence."""
        heads = (self.arch.num_heads, self.arch.head_dim)
        q, k, v = (
            nn.DenseGeneral(heads, dtype=self.dtype, name=name)(x) for name in ("query", "key", "value")
        )
        q, k = LayerNorm(QK_EPS, name="norm_query")(q), LayerNorm(QK_EPS, name="norm_key")(k)
        mixed = fusion_attention(q, k, v, joint.cos, joint.sin, joint.length)
        return nn.DenseGeneral(self.arch.width, axis=(-2, -1), dtype=self.dtype, name="out")(mixed)


class FusionBlock(nn.Module):
    """Gated fusion attention and gated feed-forward network, each after a modulated norm."""

    arch: TransformerArch
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[jax.Array, "B S D"],
        time: Float[jax.Array, "B E"],
        joint: JointSequence,
        foreground: Foreground | None = None,
    ) -> Float[jax.Array, "B S D"]:
        """Updates the tokens.

        time: the embedded timestep. foreground: the tokens that cross-attention attends to, if there is any.
        """
        x = checkpoint_name(x, _INPUT)
        y, gate = ModulatedNorm(self.dtype, name="norm1")(x, time, joint.is_text)
        x = x + gate * FusionAttention(self.arch, self.dtype, name="attention")(y, joint)
        if foreground is not None:
            x = x + CrossAttention(self.arch, self.dtype, name="cross_attention")(x, joint, foreground)
        y, gate = ModulatedNorm(self.dtype, name="norm2")(x, time, joint.is_text)
        x = x + gate * FeedForward(self.arch, self.dtype, name="feed_forward")(y)
        return sharding.constrain(x, sharding.ROWS, sharding.TOKENS)


def stacked_blocks(arch: TransformerArch, dtype: Dtype, remat: Remat, quantised: bool = False) -> Any:
    """The block class to scan over.

    quantised: the kernels are `int8.Int8`. They are dequantised inside the scan, one layer at a time; there
    is no backward pass.
    """
    if quantised:
        return nn.map_variables(FusionBlock, "params", functools.partial(int8.restored, dtype=dtype))
    if remat == "none":
        return FusionBlock
    return nn.remat(FusionBlock, policy=attention.keep if remat == "blocks" else _offload, prevent_cse=False)


def _offload(primitive: Any, *given: Any, **params: Any) -> Any:
    """Policy for jax.checkpoint that keeps named values in the host's memory until the backward pass.

    cuDNN's outputs, which can't be named, stay on the device.
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
