"""Video to latents and back in chunks, with the state of one chunk carried to the next: memory of one chunk,
whatever the video's length.

    state = None
    for size in chunk_sizes(frames, frames_per_chunk(arch)):
        latents, state = encode_chunk(params, arch, next_frames(size), state)

The first chunk includes the remainder, as in the release. The chunks' results are those of `codec.encode` and
`codec.decode`, which process the VAE's chunks in one program.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Float

from gencompositor_jax import codec
from gencompositor_jax.arch import VAEArch
from gencompositor_jax.codec import CodecArch, Params, vae

State = Any  # of a codec between two chunks; None before the first

_PLAIN = 2  # latent frames per chunk of the codecs that carry nothing


def frames_per_chunk(arch: CodecArch) -> int:
    """Frames in a chunk that is encoded."""
    return arch.frames_per_chunk if isinstance(arch, VAEArch) else _PLAIN * arch.time_factor


def latents_per_chunk(arch: CodecArch) -> int:
    """Latent frames in a chunk that is decoded."""
    return arch.latents_per_chunk if isinstance(arch, VAEArch) else _PLAIN


def chunk_sizes(total: int, size: int) -> list[int]:
    """Sizes of the chunks of `total` frames or latent frames: the first one includes the remainder."""
    count = max(1, total // size)
    return [total - (count - 1) * size, *[size] * (count - 1)]


def encode_chunk(
    params: Params,
    arch: CodecArch,
    video: Float[jax.Array, "B T H W 3"],
    state: State,
    noise: Float[jax.Array, "B t h w C"] | None = None,
    *,
    dtype: DTypeLike = jnp.float32,
) -> tuple[Float[jax.Array, "B t h w C"], State]:
    """A chunk of video to scaled latents, and the next chunk's state; see `codec.encode`.

    The first chunk has time_factor (t - 1) + 1 frames, the others time_factor t.
    """
    if not isinstance(arch, VAEArch):
        if state is None:
            return codec.encode(params, arch, video), ()
        # A first frame has a latent frame to itself, which is dropped.
        return codec.encode(params, arch, jnp.concatenate([video[:, :1], video], axis=1))[:, 1:], ()
    moments, state = vae.encode_chunk(params, arch, video, state, dtype)
    mean, std = vae.posterior(moments)
    return arch.scaling_factor * (mean if noise is None else mean + std * noise), state


def decode_chunk(
    params: Params,
    arch: CodecArch,
    latents: Float[jax.Array, "B t h w C"],
    state: State,
    *,
    dtype: DTypeLike = jnp.float32,
) -> tuple[Float[jax.Array, "B T H W 3"], State]:
    """A chunk of scaled latents to video, not clipped, and the next chunk's state; see `codec.decode`.

    The first chunk gives time_factor (t - 1) + 1 frames, the others time_factor t.
    """
    first, frames = state is None, arch.time_factor * latents.shape[1]
    if isinstance(arch, VAEArch):
        video, state = vae.decode_chunk(params, arch, latents / arch.scaling_factor, state, dtype)
    elif first:
        video, state = codec.decode(params, arch, latents), ()
    else:
        video = codec.decode(params, arch, jnp.concatenate([latents[:, :1], latents], axis=1))
    # What the first latent frame gives beyond its one frame is dropped.
    return video[:, video.shape[1] - frames + (arch.time_factor - 1 if first else 0) :], state
