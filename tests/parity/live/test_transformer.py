"""Blocks, and a whole transformer, against diffusers' CogVideoX transformer with the same random weights."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gencompositor_jax.arch import ModelArch, TransformerArch, VAEArch
from gencompositor_jax.conversion.tensor_map import backbone_rules, branch_rules
from gencompositor_jax.model import erope
from gencompositor_jax.model.background_branch import BackgroundBranch
from gencompositor_jax.model.fusion_block import FusionBlock
from gencompositor_jax.model.joint_sequence import joint_sequence
from tests.parity.live.pairs import few, normal, randomise, seeds, stacks
from tests.parity.released import assert_near, layer_of, to_variables

pytestmark = [pytest.mark.parity, pytest.mark.slow]
TOLERANCE = 5e-5
STACK_TOLERANCE = 3e-4  # the sinusoid of the timestep differs in its last bits
BASE = (30, 45)
grids = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5))


@few(4)
@given(arch=stacks(), grid=grids, seed=seeds)
def test_block(arch: TransformerArch, grid: erope.Grid, seed: int) -> None:
    import torch
    from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXBlock

    rng = np.random.default_rng(seed)
    theirs = CogVideoXBlock(
        arch.width, arch.num_heads, arch.head_dim, arch.time_embed_dim, attention_bias=True
    )
    state = {f"transformer_blocks.0.{name}": x for name, x in randomise(theirs, rng).items()}
    rules = [rule for rule in backbone_rules(ModelArch(backbone=arch)) if rule.stacked]
    params = layer_of(to_variables(rules, state, layers=1)["params"]["blocks"], 0)

    batch, words, tokens = 2, arch.text_tokens, math.prod(grid)
    text, video = normal(rng, batch, words, arch.width), normal(rng, batch, tokens, arch.width)
    time = normal(rng, batch, arch.time_embed_dim)
    tables = erope.plain_tables(grid, BASE, arch.head_dim)
    cos_sin = tuple(torch.from_numpy(np.repeat(table, 2, axis=1)) for table in tables)
    their_video, their_text = theirs(
        torch.from_numpy(video), torch.from_numpy(text), torch.from_numpy(time), image_rotary_emb=cos_sin
    )
    ours = jax.jit(FusionBlock(arch).apply)(
        {"params": params},
        jnp.concatenate([text, video], axis=1),
        time,
        joint_sequence(tables, words),
    )
    assert_near(ours[:, words:], their_video.numpy(), TOLERANCE)
    assert_near(ours[:, :words], their_text.numpy(), TOLERANCE)


@few(3)
@given(
    arch=st.integers(1, 3).flatmap(stacks),
    grid=grids,
    cells=st.integers(1, 9),
    channels=st.integers(1, 5),
    timesteps=st.lists(st.integers(0, 999), min_size=2, max_size=2),
    seed=seeds,
)
def test_stack(
    arch: TransformerArch, grid: erope.Grid, cells: int, channels: int, timesteps: list[int], seed: int
) -> None:
    """Embeddings, positions and blocks of a whole model: the branch is CogVideoX without its head."""
    import torch
    from diffusers import CogVideoXTransformer3DModel
    from diffusers.models.embeddings import get_3d_rotary_pos_embed
    from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid

    rng = np.random.default_rng(seed)
    # Of the grid's aspect ratio: for others, this version of diffusers spreads positions differently from the
    # release.
    base = cells * grid[1], cells * grid[2]
    frames, height, width = grid[0], grid[1] * arch.patch, grid[2] * arch.patch
    theirs = CogVideoXTransformer3DModel(
        num_attention_heads=arch.num_heads,
        attention_head_dim=arch.head_dim,
        in_channels=2 * channels + 1,
        out_channels=channels,
        time_embed_dim=arch.time_embed_dim,
        text_embed_dim=arch.text_dim,
        num_layers=arch.num_layers,
        sample_height=height,
        sample_width=width,
        sample_frames=4 * (frames - 1) + 1,
        patch_size=arch.patch,
        max_text_seq_length=arch.text_tokens,
        use_rotary_positional_embeddings=True,
        use_learned_positional_embeddings=True,
    )
    model = ModelArch(
        backbone=arch,
        branch=arch,
        branch_heads=False,
        codec=VAEArch(latent_channels=channels),
        base_grid=base,
    )
    fresh = erope.added_positions(erope.grid_indices(grid), arch.width, model.position_scale)
    assert_near(fresh, theirs.patch_embed.pos_embedding[0, arch.text_tokens :].numpy(), 2e-6)

    state = {
        name: x
        for name, x in randomise(theirs, rng).items()
        if not name.startswith(("norm_final", "norm_out", "proj_out"))
    }
    for i in range(arch.num_layers):  # identity maps: residuals are the outputs of the blocks
        state[f"branch_blocks.{i}.weight"] = np.eye(arch.width, dtype=np.float32)
        state[f"branch_blocks.{i}.bias"] = np.zeros(arch.width, np.float32)
    variables = to_variables(branch_rules(model), state, arch.num_layers)

    batch = len(timesteps)
    latents = normal(rng, batch, frames, height, width, 2 * channels + 1)
    text = normal(rng, batch, arch.text_tokens, arch.text_dim)
    crop = get_resize_crop_region_for_grid(grid[1:], base[1], base[0])
    cos_sin = get_3d_rotary_pos_embed(arch.head_dim, crop, grid[1:], frames)
    for ours, table in zip(erope.plain_tables(grid, base, arch.head_dim), cos_sin, strict=True):
        assert_near(np.repeat(ours, 2, axis=1), table.float().numpy(), 2e-6)
    seen = []
    for block in theirs.transformer_blocks:
        block.register_forward_hook(lambda module, given, result: seen.append(result[0].numpy()))
    theirs(
        torch.from_numpy(np.moveaxis(latents, -1, 2).copy()),
        torch.from_numpy(text),
        torch.tensor(timesteps),
        image_rotary_emb=cos_sin,
    )
    samples = jax.jit(BackgroundBranch(model).apply)(
        variables,
        latents[..., :channels],
        latents[..., channels:-1],
        latents[..., -1:],
        text,
        jnp.array(timesteps, jnp.int32),
    )
    assert_near(samples, np.stack(seen), STACK_TOLERANCE)
