import dataclasses

import jax
import numpy as np
import pytest

from gencompositor_jax import arch as arch_lib
from gencompositor_jax import codec
from gencompositor_jax.arch import VAEArch
from gencompositor_jax.codec import vae
from gencompositor_jax.errors import InputError
from gencompositor_jax.pixels import to_signed
from gencompositor_jax.training import vae_moments

TINY = VAEArch(block_widths=(8, 8, 8, 8), layers_per_block=1, latent_channels=4, norm_groups=4)
ARCH = dataclasses.replace(arch_lib.tiny(), frames=9, height=32, width=32, codec=TINY)


@pytest.fixture(scope="module")
def params():
    return codec.init_codec(jax.random.key(0), TINY)


class WithMoments:
    def __init__(self, moments_of):
        self.moments_of = moments_of


def test_moments_are_those_of_a_training_step(params):
    frames = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)
    found = vae_moments.encoder(params, ARCH)(frames)
    np.testing.assert_allclose(found, vae.encode_moments(params, TINY, to_signed(frames)[None])[0], atol=1e-5)
    assert found.shape == (3, 4, 4, 8)


def test_moments_of_another_vae_are_refused(params):
    other = jax.tree.map(lambda x: x + 1e-3, params)
    vae_moments.check(WithMoments(vae_moments.fingerprint(params)), params)
    vae_moments.check(WithMoments(None), {})
    with pytest.raises(InputError, match="another VAE"):
        vae_moments.check(WithMoments(vae_moments.fingerprint(params)), other)
    with pytest.raises(InputError, match="another VAE"):
        vae_moments.check(WithMoments(vae_moments.fingerprint(params)), {})


def test_a_codec_without_moments_is_refused():
    with pytest.raises(InputError, match="patch codec"):
        vae_moments.vae_of(arch_lib.tiny())
