"""Video to latents and back: the patch codec is lossless, both codecs refuse other shapes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gencompositor_jax import arch as archs
from gencompositor_jax import codec
from gencompositor_jax.codec import vae
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
    video = (
        np.random.default_rng(seed)
        .uniform(-1, 1, (2, n * k + 1, rows * s, columns * s, 3))
        .astype(np.float32)
    )

    @jax.jit
    def there_and_back(video: jax.Array) -> jax.Array:
        latents = codec.encode({}, arch, video)
        assert latents.shape == (2, k + 1, rows, columns, arch.latent_channels)
        return codec.decode({}, arch, latents)

    np.testing.assert_array_equal(np.asarray(there_and_back(video)), video)


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
    """Sampled latents have four different copies of the first frame; decoding averages them."""
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


# --- the VAE through the same functions ----------------------------------------

VAE = archs.VAEArch(block_widths=(4, 4, 4), layers_per_block=1, latent_channels=2, norm_groups=2)


def test_vae_latents_are_scaled_samples_of_the_posterior() -> None:
    params = codec.init_codec(jax.random.key(0), VAE)
    video = jax.random.uniform(jax.random.key(1), (1, 9, 8, 8, 3), minval=-1, maxval=1)
    mean, std = vae.posterior(vae.encode_moments(params, VAE, video))
    encode = functools.partial(codec.encode, params, VAE, video)
    np.testing.assert_allclose(encode(), 0.7 * mean, atol=1e-6)
    noise = jax.random.normal(jax.random.key(2), mean.shape)
    np.testing.assert_allclose(encode(noise), 0.7 * (mean + std * noise), atol=1e-6)
    np.testing.assert_array_equal(encode(jax.random.key(2)), encode(noise))
    with pytest.raises(InputError, match="noise of shape"):
        encode(noise[:, :1])


def test_decoding_undoes_the_scaling() -> None:
    """Decoding divides by the scaling factor."""
    params = codec.init_codec(jax.random.key(0), VAE)
    z = jax.random.normal(jax.random.key(1), (1, 3, 2, 2, 2))
    np.testing.assert_allclose(codec.decode(params, VAE, 0.7 * z), vae.decode(params, VAE, z), atol=1e-5)


@pytest.mark.parametrize("frames", [1, 9, 13, 17, 21, 25])
def test_vae_decodes_as_many_frames_as_it_encoded(frames: int) -> None:
    params = jax.eval_shape(functools.partial(codec.init_codec, arch=VAE), jax.random.key(0))
    video = jax.ShapeDtypeStruct((1, frames, 8, 8, 3), jnp.float32)
    latents = jax.eval_shape(lambda p, v: codec.encode(p, VAE, v), params, video)
    assert latents.shape == (1, (frames - 1) // 4 + 1, 2, 2, 2)
    assert jax.eval_shape(lambda p, z: codec.decode(p, VAE, z), params, latents).shape == video.shape


@pytest.mark.parametrize(
    ("frames", "says"), [(5, "pass 9 or more"), (7, "pass 9 or more"), (10, "such as 9 or 13"), (0, "pass 9")]
)
def test_vae_frame_counts_that_do_not_fit_are_refused(frames: int, says: str) -> None:
    with pytest.raises(InputError, match=says):
        codec.encode({}, VAE, jnp.zeros((1, frames, 8, 8, 3)))
