"""The VAE's moments of videos, computed once instead of at every step: what they are made with, and by which
codec.
"""

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
    """SHA-256 of a codec's encoder, its names and numbers: moments belong to one and to no other."""
    digest = hashlib.sha256()
    for name, leaf in sorted(partition.flatten(codec_params["encoder"]).items()):
        digest.update(name.encode())
        digest.update(np.asarray(leaf, np.float32).tobytes())
    return digest.hexdigest()


def encoder(
    codec_params: Any, arch: ModelArch, dtype: Any = jnp.float32
) -> Callable[[np.ndarray], np.ndarray]:
    """uint8 video [T, H, W, 3] -> moments [t, h, w, 2C], as a step of training would make them.

    Raises InputError for a model whose codec has none.
    """
    codec_arch = vae_of(arch)

    @functools.partial(jax.jit, static_argnames="like")
    def one(params: Any, frames: jax.Array, like: VAEArch) -> jax.Array:
        return vae.encode_moments(params, like, to_signed(frames)[None], dtype)[0]

    return lambda frames: np.asarray(one(codec_params, frames, codec_arch))


def vae_of(arch: ModelArch) -> VAEArch:
    """The codec that has moments. Raises InputError where it is another one."""
    if not isinstance(arch.codec, VAEArch):
        raise InputError(
            f"moments: the {arch.codec.kind} codec of this model has none; it costs nothing anyway"
        )
    return arch.codec


def check(source: Any, codec_params: Any) -> None:
    """Raises InputError where a source's moments were made with another codec than the run's."""
    made_with = getattr(source, "moments_of", None)
    if made_with is not None and ("encoder" not in codec_params or made_with != fingerprint(codec_params)):
        raise InputError(
            "data.path: its moments were made with another VAE than this run's; make them again with "
            "gencompositor data moments --checkpoint the model that config.init names"
        )
