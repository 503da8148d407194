"""FusionDiT, the backbone: the paper's foreground generation mainstream (section 4.3), a diffusion
transformer of fusion blocks over [text | video | foreground] tokens.

Two ablations receive the foreground otherwise (`arch.Fusion`): by cross-attention from [text | video] tokens,
or as channels of the video's tokens, which then have plain rotary positions as those of the background
branch.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Bool, Float, Int

from gencompositor_jax import sharding
from gencompositor_jax.arch import ModelArch
from gencompositor_jax.model import cross_attention, erope
from gencompositor_jax.model.fusion_block import FusionBlock, Remat, stacked_blocks
from gencompositor_jax.model.injection import inject, on_joint_sequence, residual_of_block
from gencompositor_jax.model.joint_sequence import (
    Subset,
    joint_sequence,
    select_foreground,
    select_tokens,
)
from gencompositor_jax.model.layers import (
    BLOCK_EPS,
    Dtype,
    LayerNorm,
    PatchEmbedding,
    TimeEmbedding,
    from_patches,
    modulate,
)


class FusionDiT(nn.Module):
    """Predicts the video's noise, velocity or x0 from noisy, masked-background and foreground latents."""

    arch: ModelArch
    dtype: Dtype = jnp.float32
    remat: Remat = "none"
    quantised: bool = False  # the blocks' kernels are `int8.Int8`

    @nn.compact
    def __call__(
        self,
        noisy: Float[jax.Array, "B t h w C"],
        background: Float[jax.Array, "B t h w C"],
        foreground: Float[jax.Array, "B t h w C"],
        text: Float[jax.Array, "B L text_dim"],
        timestep: Int[jax.Array, " B"],
        residuals: Float[jax.Array, "n B N D"] | None,
        mask: Bool[jax.Array, "B N"] | None,
        kept: Int[jax.Array, " F"] | None = None,
        offsets: Int[jax.Array, "B t 2"] | None = None,
        subset: Subset | None = None,
    ) -> Float[jax.Array, "B t h w C"]:
        """One evaluation of the network; the prediction is float32.

        residuals: the background branch's, for the N video tokens. mask: their token mask, True where no
        residual is injected. Both are None without injection. kept: ascending indices of the foreground
        tokens that the network receives (an approximation, see `diffusion.approximations`); None for all of
        them. offsets: of the foreground's tokens, for the layout `trajectory`; None for 0. subset: of the
        tokens, instead of `kept`; residuals and mask are then those of its video tokens, and the prediction
        of all others is 0.
        """
        arch, grid = self.arch.backbone, video_grid(noisy, self.arch)
        text_tokens, video_tokens = text.shape[1], math.prod(grid)
        video = jnp.concatenate([noisy, background], axis=-1)
        other: jax.Array | None = foreground
        if self.arch.fusion == "channels":
            video, other = jnp.concatenate([video, foreground], axis=-1), None
            kept, subset = None, None if subset is None else subset._replace(foreground=None)
        predicted = video_tokens if subset is None else subset.video.shape[1]
        tables = rotary_tables(self.arch, grid, offsets)
        tables = erope.Tables(*(select_foreground(table, video_tokens, kept) for table in tables))
        if subset is not None:
            chosen = subset.joint(video_tokens)
            tables = erope.Tables(*(select_tokens(table, 0, chosen) for table in tables))

        def positions() -> np.ndarray:
            return erope.added_positions(
                position_indices(self.arch, grid), arch.width, self.arch.position_scale
            )

        embed = PatchEmbedding(arch, self.dtype, name="patch_embed")
        x, attended = embed(text, video, other, positions, kept, subset), None
        if self.arch.fusion == "cross_attention":
            mine, others = (
                erope.Tables(*(table[..., part, :] for table in tables))
                for part in (slice(None, predicted), slice(predicted, None))
            )
            attended = cross_attention.foreground(x[:, text_tokens + predicted :], others)
            x, tables = x[:, : text_tokens + predicted], mine
        joint = joint_sequence(tables, text_tokens)
        x = sharding.constrain(joint.pad(x), sharding.ROWS, sharding.TOKENS)
        time = TimeEmbedding(arch, name="time_embed")(timestep)
        injected, of_block = None, np.zeros(arch.num_layers, np.int32)
        if residuals is not None and mask is not None:
            injected = on_joint_sequence(residuals.astype(self.dtype), mask, text_tokens, x.shape[1])
            of_block = residual_of_block(arch.num_layers, len(residuals))

        def step(block: FusionBlock, x: jax.Array, k: jax.Array) -> tuple[jax.Array, None]:
            x = block(x, time, joint, attended)
            return (x if injected is None else inject(x, injected[0][k], injected[1])), None

        blocks = stacked_blocks(arch, self.dtype, self.remat, self.quantised)(arch, self.dtype, name="blocks")
        x, _ = nn.scan(
            step, variable_axes={"params": 0}, split_rngs={"params": True}, length=arch.num_layers
        )(blocks, x, jnp.asarray(of_block))
        x = LayerNorm(BLOCK_EPS, name="norm_final")(x)[:, text_tokens : text_tokens + predicted]
        shift, scale = jnp.split(
            nn.Dense(2 * arch.width, dtype=self.dtype, name="modulation_out")(nn.silu(time)), 2, axis=-1
        )
        x = modulate(LayerNorm(BLOCK_EPS, name="norm_out")(x), shift[:, None], scale[:, None])
        channels = noisy.shape[-1] * arch.patch**2
        out = nn.Dense(channels, dtype=self.dtype, kernel_init=nn.initializers.zeros, name="out")(x)
        out = out.astype(jnp.float32)
        if subset is not None:
            everywhere = jnp.zeros((len(out), video_tokens, channels))
            out = everywhere.at[jnp.arange(len(out))[:, None], subset.video].set(out)
        return from_patches(out, grid, arch.patch)


def position_indices(arch: ModelArch, grid: erope.Grid) -> Int[np.ndarray, "tokens 3"]:
    """(t, row, column) of the tokens in the table of added positions: of the video, then of the foreground,
    unless it has no tokens.
    """
    if arch.fusion == "channels":
        return erope.grid_indices(grid)
    return np.concatenate(erope.stream_indices(arch.layout, grid)[:2])


def rotary_tables(
    arch: ModelArch, grid: erope.Grid, offsets: Int[jax.Array, "B t 2"] | None = None
) -> erope.Tables:
    """Rotary tables of the tokens of `position_indices`; offsets: of the layout `trajectory`."""
    if arch.fusion == "channels":
        return erope.plain_tables(grid, arch.base_grid, arch.backbone.head_dim)
    return erope.fusion_tables(arch.layout, grid, arch.base_grid, arch.backbone.head_dim, offsets)


def video_grid(latents: Float[jax.Array, "B t h w C"], arch: ModelArch) -> erope.Grid:
    """(frames, rows, columns) of the tokens of these latents."""
    _, t, h, w, _ = latents.shape
    return t, h // arch.backbone.patch, w // arch.backbone.patch
