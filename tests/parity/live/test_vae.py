"""The VAE against diffusers' with the same random weights: chunks of frames, and tiles."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gencompositor_jax.arch import VAEArch
from gencompositor_jax.codec import vae, vae_tiling
from gencompositor_jax.conversion.tensor_map import vae_rules
from tests.parity.live.pairs import few, normal, randomise, seeds
from tests.parity.released import assert_near, channels_last, to_variables

pytestmark = [pytest.mark.parity, pytest.mark.slow]
TOLERANCE = 1e-4
# In pixels, 2 per latent: with the released overlap each stride is a whole number of latents.
TILES = [(12, 10), (12, 20), (24, 10)]


@st.composite
def archs(draw: st.DrawFn) -> VAEArch:
    groups = draw(st.sampled_from([2, 4]))
    widths = draw(st.lists(st.integers(1, 3), min_size=2, max_size=4))
    return VAEArch(
        block_widths=tuple(groups * n for n in widths),
        layers_per_block=draw(st.integers(1, 2)),
        latent_channels=draw(st.integers(2, 6)),
        norm_groups=groups,
        time_factor=draw(st.sampled_from([2, 4])),
    )


def pair(arch: VAEArch, rng: np.random.Generator, sample: tuple[int, int] = (480, 720)):
    """(diffusers' VAE, our parameters) with one set of random weights."""
    from diffusers import AutoencoderKLCogVideoX

    depth = len(arch.block_widths)
    theirs = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * depth,
        up_block_types=("CogVideoXUpBlock3D",) * depth,
        block_out_channels=arch.block_widths,
        layers_per_block=arch.layers_per_block,
        latent_channels=arch.latent_channels,
        norm_num_groups=arch.norm_groups,
        norm_eps=arch.norm_eps,
        temporal_compression_ratio=arch.time_factor,
        sample_height=sample[0],
        sample_width=sample[1],
    )
    return theirs, to_variables(vae_rules(arch), randomise(theirs, rng), layers=0)


def compare(theirs, params, arch: VAEArch, video: np.ndarray, latents: np.ndarray) -> None:
    """Compares the moments of `video` [B, 3, T, H, W] and the decoded `latents` [B, C, t, h, w]."""
    import torch

    moments = vae.encode_moments(params, arch, channels_last(video, 1))
    recorded = theirs.encode(torch.from_numpy(video)).latent_dist
    assert_near(np.moveaxis(moments, -1, 1), recorded.parameters.numpy(), TOLERANCE)
    mean, std = vae.posterior(moments)
    assert_near(np.moveaxis(mean, -1, 1), recorded.mean.numpy(), TOLERANCE)
    assert_near(np.moveaxis(std, -1, 1), recorded.std.numpy(), TOLERANCE)
    decoded = vae.decode(params, arch, channels_last(latents, 1))
    assert_near(
        np.moveaxis(decoded, -1, 1), theirs.decode(torch.from_numpy(latents)).sample.numpy(), TOLERANCE
    )


@few(3)
@given(arch=archs(), frames=st.sampled_from([8, 9, 11, 17]), latents=st.sampled_from([2, 3, 5]), seed=seeds)
def test_chunks(arch: VAEArch, frames: int, latents: int, seed: int) -> None:
    rng, side = np.random.default_rng(seed), arch.space_factor
    theirs, params = pair(arch, rng)
    video = np.clip(0.5 * normal(rng, 1, 3, frames, 2 * side, 3 * side), -1, 1)
    compare(theirs, params, arch, video, normal(rng, 1, arch.latent_channels, latents, 2, 3))


@few(2)
@given(tile=st.sampled_from(TILES), rows=st.integers(1, 9), columns=st.integers(1, 8), seed=seeds)
def test_tiles(tile: tuple[int, int], rows: int, columns: int, seed: int) -> None:
    """Of any size, down to one latent in the last tiles."""
    arch = VAEArch(
        block_widths=(4, 8), layers_per_block=1, latent_channels=3, norm_groups=2, time_factor=2, tile=tile
    )
    rng, side = np.random.default_rng(seed), arch.space_factor
    theirs, params = pair(arch, rng, sample=(2 * tile[0], 2 * tile[1]))
    theirs.enable_tiling()
    rows, columns = rows + tile[0] // side, columns + tile[1] // side
    assert vae_tiling.needs_tiles(vae_tiling.tile_plans(arch)[0], side * rows, side * columns)
    video = np.clip(0.5 * normal(rng, 1, 3, 9, side * rows, side * columns), -1, 1)
    compare(theirs, params, arch, video, normal(rng, 1, arch.latent_channels, 3, rows, columns))
