"""The background preservation branch (paper, section 4.2): a short transformer on the masked background and
the mask, both aligned with the video, whose outputs `injection` adds to the backbone.

The release also passes it the noisy latents; the paper's figure has the masked background and the mask alone.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Float, Int

from gencompositor_jax import sharding
from gencompositor_jax.arch import ModelArch
from gencompositor_jax.model import erope
from gencompositor_jax.model.fusion_block import FusionBlock, Remat, stacked_blocks
from gencompositor_jax.model.fusion_dit import video_grid
from gencompositor_jax.model.joint_sequence import Subset, joint_sequence, select_tokens
from gencompositor_jax.model.layers import BLOCK_EPS, Dtype, LayerNorm, PatchEmbedding, TimeEmbedding


class BackgroundBranch(nn.Module):
    """Computes one residual per block of its own for the backbone's video tokens."""

    arch: ModelArch
    dtype: Dtype = jnp.float32
    remat: Remat = "none"
    quantised: bool = False  # the blocks' kernels are `int8.Int8`

    @nn.compact
    def __call__(
        self,
        noisy: Float[jax.Array, "B t h w C"],
        background: Float[jax.Array, "B t h w C"],
        mask: Float[jax.Array, "B t h w 1"],
        text: Float[jax.Array, "B L text_dim"],
        timestep: Int[jax.Array, " B"],
        subset: Subset | None = None,
    ) -> Float[jax.Array, "n B N D"]:
        """Returns n residuals, zero for fresh parameters (zero-initialised output maps).

        mask: the latent mask in {0, 1}, 1 where the network generates. subset: the N video tokens that the
        network receives; None for all of them.
        """
        arch, grid = self.arch.branch, video_grid(noisy, self.arch)
        text_tokens = text.shape[1]
        tables = erope.plain_tables(grid, self.arch.base_grid, arch.head_dim)
        if subset is not None:
            tables = erope.Tables(*(select_tokens(table, 0, subset.video) for table in tables))
        joint = joint_sequence(tables, text_tokens)
        video = slice(text_tokens, joint.length)

        def positions() -> np.ndarray:
            return erope.added_positions(erope.grid_indices(grid), arch.width, self.arch.position_scale)

        embed = PatchEmbedding(arch, self.dtype, name="patch_embed")
        inputs = jnp.concatenate([noisy, background, mask], axis=-1)
        x = joint.pad(embed(text, inputs, None, positions, subset=subset))
        x = sharding.constrain(x, sharding.ROWS, sharding.TOKENS)
        time = TimeEmbedding(arch, name="time_embed")(timestep)

        def step(block: FusionBlock, x: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
            x = block(x, time, joint)
            return x, x[:, video]

        blocks = stacked_blocks(arch, self.dtype, self.remat, self.quantised)(arch, self.dtype, name="blocks")
        _, samples = nn.scan(
            step, variable_axes={"params": 0}, split_rngs={"params": True}, length=arch.num_layers
        )(blocks, x, None)
        if self.arch.branch_heads:
            _UnusedHeads(self.arch, name="unused")()
        return _ResidualMaps(arch.num_layers, self.dtype, name="residual")(samples)


class _ResidualMaps(nn.Module):
    """One zero-initialised linear map per block, stacked like the blocks."""

    layers: int
    dtype: Dtype

    @nn.compact
    def __call__(self, samples: Float[jax.Array, "n B N D"]) -> Float[jax.Array, "n B N D"]:
        width, zeros = samples.shape[-1], nn.initializers.zeros
        kernel = self.param("kernel", zeros, (self.layers, width, width), jnp.float32).astype(self.dtype)
        bias = self.param("bias", zeros, (self.layers, width), jnp.float32).astype(self.dtype)
        return jnp.einsum("lbnd,lde->lbne", samples, kernel) + bias[:, None, None, :]


class _UnusedHeads(nn.Module):
    """Parameters of the released branch that its forward pass never reads, kept so that a conversion to JAX
    and back loses nothing.
    """

    arch: ModelArch

    @nn.compact
    def __call__(self) -> None:
        stack, channels = self.arch.branch, self.arch.codec.latent_channels
        width = jnp.zeros((1, stack.width))
        nn.Dense(stack.width, name="embed")(jnp.zeros((1, 2 * channels)))
        nn.Dense(2 * stack.width, name="modulation_out")(jnp.zeros((1, stack.time_embed_dim)))
        nn.Dense(channels * stack.patch**2, name="out")(width)
        for name in ("norm_final", "norm_out"):
            LayerNorm(BLOCK_EPS, name=name)(width)
