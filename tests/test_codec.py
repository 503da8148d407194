"""Video <-> latents: the patch codec loses nothing, and both codecs refuse what does not fit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gencompositor_jax import arch as archs
from gencompositor_jax import codec
from gencompositor_jax.errors import InputError


@settings(max_examples=12, deadline=None)
@given(
    n=st.integers(1, 5),
    s=st.integers(1, 4),
    k=st.integers(0, 2),
    rows=st.integers(1, 3),
    columns=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
def test_patch_codec_is_lossless(n: int, s: int, k: int, rows: int, columns: int, seed: int) -> None:
    arch = archs.PatchCodecArch(space_factor=s, time_factor=n)
    video = np.random.default_rng(seed).uniform(-1, 1, (2, n * k + 1, rows * s, columns * s, 3)).astype(np.float32)
    latents = codec.encode({}, arch, jnp.asarray(video))
    assert latents.shape == (2, k + 1, rows, columns, arch.latent_channels)
    np.testing.assert_array_equal(np.asarray(codec.decode({}, arch, latents)), video)


def test_patch_codec_is_lossless_under_jit_in_both_precisions() -> None:
    arch = archs.PatchCodecArch()
    for dtype in (jnp.float32, jnp.bfloat16):
        video = jax.random.uniform(jax.random.key(3), (1, 9, 8, 12, 3), dtype, -1, 1)
        there = jax.jit(functools.partial(codec.encode, {}, arch))
        back = jax.jit(functools.partial(codec.decode, {}, arch))
        latents = there(video)
        assert latents.dtype == dtype
        np.testing.assert_array_equal(np.asarray(back(latents)), np.asarray(video))


def test_patch_latent_holds_its_own_block_and_frames() -> None:
    arch = archs.PatchCodecArch(space_factor=2, time_factor=4)
    video = jnp.zeros((1, 9, 4, 6, 3)).at[0, 5:, 2:, 4:].set(1.0)  # the last block of the last latent frame
    latents = codec.encode({}, arch, video)
    expected = np.zeros(latents.shape, np.float32)
    expected[0, 2, 1, 2] = 1.0
    np.testing.assert_array_equal(np.asarray(latents), expected)


def test_patch_first_frame_is_the_mean_of_its_copies() -> None:
    """A sampler's latents hold four different copies of the first frame: all four count."""
    arch = archs.PatchCodecArch(space_factor=1, time_factor=4)
    latents = jnp.asarray([0.0, 0.25, 0.5, 1.25])[:, None].repeat(3, 1).reshape(1, 1, 1, 1, 12)
    np.testing.assert_allclose(np.asarray(codec.decode({}, arch, latents)), np.full((1, 1, 1, 1, 3), 0.5))


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((1, 8, 8, 8, 3), "such as 5 or 9"),
        ((1, 2, 8, 8, 3), "such as 1 or 5"),
        ((1, 0, 8, 8, 3), "such as 1 or 5"),
        ((1, 9, 10, 8, 3), "multiples of 4"),
        ((1, 9, 8, 8, 4), r"\[B, T, H, W, 3\]"),
        ((9, 8, 8, 3), r"\[B, T, H, W, 3\]"),
    ],
)
def test_video_that_does_not_fit_is_refused(shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(InputError, match=says):
        codec.encode({}, archs.PatchCodecArch(), jnp.zeros(shape))


def test_latents_of_another_codec_are_refused() -> None:
    with pytest.raises(InputError, match="192"):
        codec.decode({}, archs.PatchCodecArch(), jnp.zeros((1, 3, 4, 4, 16)))
