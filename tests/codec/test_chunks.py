import dataclasses

import jax
import numpy as np
import pytest

from gencompositor_jax import codec
from gencompositor_jax.arch import LinearCodecArch, PatchCodecArch, VAEArch
from gencompositor_jax.codec import chunks

SMALL = VAEArch(block_widths=(4, 8, 8), layers_per_block=1, latent_channels=2, norm_groups=2)
TILED = dataclasses.replace(SMALL, tile=(8, 8), tile_overlap=(0.5, 0.5))


@pytest.mark.parametrize(
    "arch",
    [
        pytest.param(SMALL, marks=pytest.mark.slow),
        pytest.param(TILED, marks=pytest.mark.slow),
        LinearCodecArch(latent_channels=24),
        PatchCodecArch(4),
    ],
    ids=lambda arch: arch.kind,
)
def test_chunk_by_chunk_is_the_whole(arch):
    """An even number of latent frames, whose first chunk has the remainder."""
    params = codec.init_codec(jax.random.key(0), arch)
    video = jax.random.uniform(jax.random.key(2), (1, 29, 16, 24, 3), minval=-1)
    latents = codec.encode(params, arch, video)
    assert chunks.chunk_sizes(29, chunks.frames_per_chunk(arch)) == [13, 8, 8]
    np.testing.assert_allclose(in_chunks(params, arch, video, encode=True), latents, atol=1e-5)
    decoded = codec.decode(params, arch, latents)
    np.testing.assert_allclose(in_chunks(params, arch, latents, encode=False), decoded, atol=1e-5)


def in_chunks(params, arch, whole, encode: bool) -> np.ndarray:
    size = chunks.frames_per_chunk(arch) if encode else chunks.latents_per_chunk(arch)
    state, found, first = None, [], 0
    for n in chunks.chunk_sizes(whole.shape[1], size):
        step = chunks.encode_chunk if encode else chunks.decode_chunk
        part, state = step(params, arch, whole[:, first : first + n], state)
        found.append(part)
        first += n
    return np.concatenate(found, axis=1)
