"""FusionDiT: the backbone, a diffusion transformer with full self-attention over text, video and foreground
tokens (paper section 3.2).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from gencompositor_jax import sharding
from gencompositor_jax.arch import ModelArch
from gencompositor_jax.model import erope
from gencompositor_jax.model.layers import (
    BLOCK_EPS,
    Block,
    Dtype,
    LayerNorm,
    PatchEmbedding,
    Remat,
    TimeEmbedding,
    from_patches,
    joint_sequence,
    modulate,
    stacked_blocks,
    without_dropped,
)


class FusionDiT(nn.Module):
    """Noisy video, masked background and foreground latents -> the prediction for the video's latents."""

    arch: ModelArch
    dtype: Dtype = jnp.float32
    remat: Remat = "none"
    quantised: bool = False  # the blocks' kernels are `int8.Int8`

    @nn.compact
    def __call__(
        self,
        noisy: jax.Array,
        background: jax.Array,
        foreground: jax.Array,
        text: jax.Array,
        timestep: jax.Array,
        residuals: jax.Array,
        inject: jax.Array,
        kept: jax.Array | None = None,
    ) -> jax.Array:
        """One denoising step.

        noisy, background, foreground: latents [B, t, h, w, C]. text: [B, L, text_dim]. timestep: int [B].
        residuals: the branch's samples [n, B, N, D] for the N video tokens. inject: bool [B, N], True where a
        video token has no masked latent pixel: masked token injection adds sample i // ceil(layers / n) after
        block i there and nowhere else. kept: int [F], the foreground tokens to be attended to (an
        approximation, see `fast`); None: all of them.
        Returns float32 [B, t, h, w, C].
        """
        arch, grid = self.arch.backbone, video_grid(noisy, self.arch)
        text_tokens, video_tokens = text.shape[1], math.prod(grid)
        tables = erope.fusion_tables(self.arch.layout, grid, self.arch.base_grid, arch.head_dim)
        tables = erope.Tables(*(without_dropped(table, video_tokens, kept) for table in tables))
        joint = joint_sequence(tables, text_tokens)

        def positions() -> np.ndarray:
            video, other, _ = erope.stream_indices(self.arch.layout, grid)
            return erope.added_positions(np.concatenate([video, other]), arch.width, self.arch.position_scale)

        embed = PatchEmbedding(arch, self.dtype, name="patch_embed")
        x = joint.pad(embed(text, jnp.concatenate([noisy, background], axis=-1), foreground, positions, kept))
        x = sharding.constrain(x, sharding.ROWS, sharding.TOKENS)
        time = TimeEmbedding(arch, name="time_embed")(timestep)
        video = slice(text_tokens, text_tokens + video_tokens)
        # As long as the joint sequence, so that each device has what it adds to its own tokens.
        residuals = jnp.where(inject[None, :, :, None], residuals, 0).astype(self.dtype)
        residuals = joint.pad(jnp.pad(residuals, ((0, 0), (0, 0), (text_tokens, 0), (0, 0))), axis=2)
        residuals = sharding.constrain(residuals, None, sharding.ROWS, sharding.TOKENS)
        sample_of_layer = jnp.arange(arch.num_layers) // math.ceil(arch.num_layers / len(residuals))

        def step(block: Block, x: jax.Array, sample: jax.Array) -> tuple[jax.Array, None]:
            return block(x, time, joint) + residuals[sample], None

        blocks = stacked_blocks(arch, self.dtype, self.remat, self.quantised)(arch, self.dtype, name="blocks")
        x, _ = nn.scan(
            step, variable_axes={"params": 0}, split_rngs={"params": True}, length=arch.num_layers
        )(blocks, x, sample_of_layer)
        x = LayerNorm(BLOCK_EPS, name="norm_final")(x)[:, video]
        shift, scale = jnp.split(
            nn.Dense(2 * arch.width, dtype=self.dtype, name="modulation_out")(nn.silu(time)), 2, axis=-1
        )
        x = modulate(LayerNorm(BLOCK_EPS, name="norm_out")(x), shift[:, None], scale[:, None])
        channels = noisy.shape[-1] * arch.patch**2
        out = nn.Dense(channels, dtype=self.dtype, kernel_init=nn.initializers.zeros, name="out")(x)
        return from_patches(out.astype(jnp.float32), grid, arch.patch)


def video_grid(latents: jax.Array, arch: ModelArch) -> erope.Grid:
    """(t, rows, columns) of the tokens of latents [B, t, h, w, C]."""
    _, t, h, w, _ = latents.shape
    return t, h // arch.backbone.patch, w // arch.backbone.patch
