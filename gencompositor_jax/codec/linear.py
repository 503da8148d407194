"""The linear codec of small models: white latents of few channels, from principal components of pixel blocks.

The blocks x are those of the patch codec, K = 3 time_factor space_factor^2 numbers each. With their mean m,
the C directions P in which they vary most, and the standard deviations s along these,

    (1)  z = P (x - m) / s,        x = m + P^T (s z)

Every channel of z has variance 1, so the noise schedule has the same signal-to-noise ratio in all of them. An
error e of z is an error P^T (s e) of the pixels, whose mean square is sum_c s_c^2 e_c^2 / K.
"""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gencompositor_jax.arch import LinearCodecArch, PatchCodecArch
from gencompositor_jax.codec import patch

MIN_DEVIATION = 1e-3  # of a component, in pixels of [-1, 1]: below, its latents would be amplified noise


class Basis(NamedTuple):
    """The parameters of the codec, float32 whatever the dtype of the network."""

    mean: Float[jax.Array | np.ndarray, " K"]
    components: Float[jax.Array | np.ndarray, "C K"]  # orthonormal rows
    deviations: Float[jax.Array | np.ndarray, " C"]


def init(arch: LinearCodecArch) -> Basis:
    """A basis that needs no data: cosines over frame, row, column and colour, by ascending frequency."""
    sizes = (arch.time_factor, arch.space_factor, arch.space_factor, 3)
    frequencies = np.stack(np.meshgrid(*(np.arange(n) for n in sizes), indexing="ij"), axis=-1).reshape(-1, 4)
    order = np.argsort((frequencies / np.array(sizes)).sum(axis=-1), kind="stable")[: arch.latent_channels]
    components = np.ones((arch.latent_channels, 1))
    for axis, n in enumerate(sizes):
        k = frequencies[order, axis, None]
        cosines = np.cos(np.pi * k * (np.arange(n) + 0.5) / n) * np.sqrt(np.where(k == 0, 1, 2) / n)
        components = (components[:, :, None] * cosines[:, None, :]).reshape(len(components), -1)
    return Basis(
        mean=jnp.zeros(arch.block_size, jnp.float32),
        components=jnp.asarray(components, jnp.float32),
        deviations=jnp.ones(arch.latent_channels, jnp.float32),
    )


def principal_components(arch: LinearCodecArch, videos: Iterable[Float[np.ndarray, "T H W 3"]]) -> Basis:
    """The basis of some videos in [-1, 1]: NumPy, float32.

    Computed in float64 from the blocks' mean and covariance. A component's sign makes its largest number
    positive, so that the basis doesn't depend on the solver.
    """
    size = arch.block_size
    count, total, products = 0, np.zeros(size), np.zeros((size, size))
    blocks_of = PatchCodecArch(arch.space_factor, arch.time_factor)
    for video in videos:
        blocks = np.asarray(patch.encode(blocks_of, jnp.asarray(video)[None]), np.float64).reshape(-1, size)
        count, total, products = count + len(blocks), total + blocks.sum(0), products + blocks.T @ blocks
    mean = total / count
    values, vectors = np.linalg.eigh(products / count - np.outer(mean, mean))
    components = vectors.T[::-1][: arch.latent_channels]
    largest = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)
    deviations = np.sqrt(np.maximum(values[::-1][: arch.latent_channels], 0.0))
    return Basis(
        mean=mean.astype(np.float32),
        components=(components * np.sign(largest)).astype(np.float32),
        deviations=np.maximum(deviations, MIN_DEVIATION).astype(np.float32),
    )


def encode(
    basis: Basis, arch: LinearCodecArch, video: Float[jax.Array, "B T H W 3"]
) -> Float[jax.Array, "B t h w C"]:
    """Equation (1). The first latent frame encodes time_factor copies of the first frame."""
    mean, components, deviations = _float32(basis)
    blocks = patch.encode(PatchCodecArch(arch.space_factor, arch.time_factor), video.astype(jnp.float32))
    return (blocks - mean) @ components.T / deviations


def decode(
    basis: Basis, arch: LinearCodecArch, latents: Float[jax.Array, "B t h w C"]
) -> Float[jax.Array, "B T H W 3"]:
    """Equation (1); the first frame is the mean of its time_factor decoded copies."""
    mean, components, deviations = _float32(basis)
    blocks = mean + (latents.astype(jnp.float32) * deviations) @ components
    return patch.decode(PatchCodecArch(arch.space_factor, arch.time_factor), blocks)


def error_weights(basis: Basis, arch: LinearCodecArch) -> Float[jax.Array, " C"]:
    """Factors of the latents' squared errors with which their mean is the pixels' mean squared error."""
    _, _, deviations = _float32(basis)
    return jnp.square(deviations) * (arch.latent_channels / arch.block_size)


def _float32(basis: Basis) -> tuple[jax.Array, jax.Array, jax.Array]:
    mean, components, deviations = (jnp.asarray(array, jnp.float32) for array in basis)
    return mean, components, deviations
