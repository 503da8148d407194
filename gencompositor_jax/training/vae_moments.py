"""Moments (mean and log variance) of the VAE's posterior, computed once instead of at every step."""

import functools
import hashlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gencompositor_jax.arch import ModelArch, VAEArch
from gencompositor_jax.codec import vae
from gencompositor_jax.errors import InputError
from gencompositor_jax.pixels import to_signed
from gencompositor_jax.training import partition


def fingerprint(codec_params: Any) -> str:
    """SHA-256 of an encoder's parameters, names and values, which its moments are stored with."""
    digest = hashlib.sha256()
    for name, leaf in sorted(partition.flatten(codec_params["encoder"]).items()):
        digest.update(name.encode())
        digest.update(np.asarray(leaf, np.float32).tobytes())
    return digest.hexdigest()


def encoder(
    codec_params: Any, arch: ModelArch, dtype: Any = jnp.float32
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from a video, uint8 [T, H, W, 3], to its moments [t, h, w, 2C], as a training step computes
    them. Raises InputError if the model's codec is no VAE.
    """
    codec_arch = vae_of(arch)

    @functools.partial(jax.jit, static_argnames="vae_arch")
    def encode(params: Any, frames: jax.Array, vae_arch: VAEArch) -> jax.Array:
        return vae.encode_moments(params, vae_arch, to_signed(frames)[None], dtype)[0]

    return lambda frames: np.asarray(encode(codec_params, frames, codec_arch))


def vae_of(arch: ModelArch) -> VAEArch:
    """The architecture's VAE. Raises InputError if its codec is another one."""
    if not isinstance(arch.codec, VAEArch):
        raise InputError(
            f"moments: the {arch.codec.kind} codec of this model has none; encoding with it costs nothing"
        )
    return arch.codec


def check(source: Any, codec_params: Any) -> None:
    """Raise InputError if a data source holds moments of another VAE than the run's."""
    stored = getattr(source, "moments_of", None)
    if stored is not None and ("encoder" not in codec_params or stored != fingerprint(codec_params)):
        raise InputError(
            "data.path: its moments are of another VAE than this run's; compute them again with "
            "gencompositor data moments --checkpoint, given the model of config.init"
        )
