"""The linear codec: a projection on principal components, with white latents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencompositor_jax import codec
from gencompositor_jax.arch import LinearCodecArch
from gencompositor_jax.codec import linear
from gencompositor_jax.errors import InputError

ARCH = LinearCodecArch(space_factor=4, time_factor=2, latent_channels=12)


@pytest.fixture(scope="module")
def videos() -> np.ndarray:
    """Smooth and slow ones, float32 [B, T, H, W, 3] in [-1, 1]."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((6, 9, 24, 32, 3)).astype(np.float32)
    return np.tanh(noise.cumsum(1).cumsum(2).cumsum(3) / 20)


@pytest.fixture(scope="module")
def basis(videos: np.ndarray) -> linear.Basis:
    return linear.principal_components(ARCH, videos)


def encode(basis: linear.Basis, video: np.ndarray) -> jax.Array:
    return codec.encode(basis._asdict(), ARCH, jnp.asarray(video))


def decode(basis: linear.Basis, latents: jax.Array) -> jax.Array:
    return codec.decode(basis._asdict(), ARCH, latents)


def test_latents_of_the_clips_are_white(basis, videos):
    latents = np.asarray(encode(basis, videos))
    assert latents.shape == (6, 5, 6, 8, 12)
    np.testing.assert_allclose(latents.mean((0, 1, 2, 3)), 0, atol=2e-3)
    np.testing.assert_allclose(np.cov(latents.reshape(-1, 12).T), np.eye(12), atol=5e-3)
    assert (np.diff(basis.deviations) <= 0).all()


def test_decoding_is_the_projection(basis, videos):
    """Decoded latents encode to themselves, and no other point of the basis is nearer to the video."""
    np.testing.assert_allclose(basis.components @ basis.components.T, np.eye(12), atol=1e-5)
    later = slice(2, None)  # the first latent frame decodes to copies, whose mean is one frame
    latents = encode(basis, videos)
    once = decode(basis, latents)
    np.testing.assert_allclose(encode(basis, once)[:, 1:], latents[:, 1:], atol=1e-3)
    moved = decode(basis, latents + 0.1 * jax.random.normal(jax.random.key(0), latents.shape))
    error, more = (np.square(x - videos)[:, later].mean() for x in (once, moved))
    assert error < more
    assert error < 0.1 * videos.var()


def test_all_components_lose_nothing(videos):
    full = LinearCodecArch(space_factor=4, time_factor=2, latent_channels=96)
    params = codec.init_codec(jax.random.key(0), full)
    latents = codec.encode(params, full, jnp.asarray(videos))
    np.testing.assert_allclose(codec.decode(params, full, latents), videos, atol=1e-5)


def test_the_first_frame_has_a_latent_frame_to_itself(basis, videos):
    changed = videos.copy()
    changed[:, 1:] = 0.5
    np.testing.assert_array_equal(encode(basis, changed)[:, 0], encode(basis, videos)[:, 0])
    np.testing.assert_allclose(encode(basis, videos[:, :1]), encode(basis, videos)[:, :1], atol=1e-4)
    assert decode(basis, encode(basis, videos[:, :1])).shape == videos[:, :1].shape


def test_the_basis_without_data_is_orthonormal_and_keeps_plain_colours():
    params = linear.init(ARCH)
    np.testing.assert_allclose(params.components @ params.components.T, np.eye(12), atol=1e-6)
    plain = jnp.broadcast_to(jnp.array([0.25, -0.5, 0.75]), (1, 3, 8, 8, 3))
    np.testing.assert_allclose(decode(params, encode(params, plain)), plain, atol=1e-5)


def test_the_basis_is_the_same_every_time(basis, videos):
    for a, b in zip(linear.principal_components(ARCH, videos), basis, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == np.float32
    largest = np.take_along_axis(basis.components, np.abs(basis.components).argmax(1)[:, None], 1)
    assert (largest > 0).all()


def test_what_never_varies_is_not_amplified():
    basis = linear.principal_components(ARCH, np.zeros((1, 3, 8, 8, 3), np.float32))
    assert basis.deviations.min() == np.float32(linear.MIN_DEVIATION)
    assert np.isfinite(encode(basis, np.full((1, 3, 8, 8, 3), 0.1, np.float32))).all()


def test_weighted_errors_of_latents_are_the_pixels_errors(basis, videos):
    latents = encode(basis, videos)
    wrong = latents + jax.random.normal(jax.random.key(1), latents.shape)
    weights = codec.error_weights(basis._asdict(), ARCH)
    assert weights is not None
    weighted = (jnp.square(wrong - latents) * weights)[:, 1:].mean()
    pixels = jnp.square(decode(basis, wrong) - decode(basis, latents))[:, 1:].mean()
    np.testing.assert_allclose(weighted, pixels, rtol=1e-3)


def test_the_codec_runs_in_float32_whatever_its_parameters_are(basis, videos):
    half = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), basis._asdict())
    latents = codec.encode(half, ARCH, jnp.asarray(videos), dtype=jnp.bfloat16)
    assert latents.dtype == codec.decode(half, ARCH, latents).dtype == jnp.float32


def test_other_shapes_are_refused(basis):
    with pytest.raises(InputError, match="such as 1 or 3"):
        encode(basis, np.zeros((1, 2, 8, 8, 3), np.float32))
    with pytest.raises(InputError, match=r"\[B, t, h, w, 12\]"):
        decode(basis, jnp.zeros((1, 1, 2, 2, 96)))
