"""The interface between video and latents, the same for every codec.

    params  = init_codec(key, arch)                     # arch: the `codec` field of a ModelArch
    latents = encode(params, arch, video)               # [B, T, H, W, 3] in [-1, 1] -> [B, t, H/s, W/s, C],
    already scaled video   = decode(params, arch, latents)

Both codecs take time_factor * k + 1 frames and give k + 1 latent frames: the first frame stands alone. The
patch codec only moves pixels around, so that a tiny model learns compositing and nothing else. Everything
here may be called under jit, with `arch` and `dtype` static.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from gencompositor_jax.arch import PatchCodecArch, VAEArch
from gencompositor_jax.codec import patch, vae
from gencompositor_jax.errors import InputError

CodecArch = PatchCodecArch | VAEArch
Params = dict[str, Any]


def init_codec(key: jax.Array, arch: CodecArch) -> Params:
    """Fresh float32 parameters of a codec: a nested dict, empty for the patch codec."""
    return {} if isinstance(arch, PatchCodecArch) else vae.init(key, arch)


def encode(
    params: Params,
    arch: CodecArch,
    video: jax.Array,
    key_or_noise: jax.Array | None = None,
    *,
    dtype: DTypeLike = jnp.float32,
) -> jax.Array:
    """Video to scaled latents.

    Args:
        params: of `init_codec` or a checkpoint.
        arch: the codec's facts; static under jit.
        video: [B, T, H, W, 3] in [-1, 1], T = time_factor * k + 1, H and W multiples of space_factor. The VAE
            takes 1 frame, or more than frames_per_chunk.
        key_or_noise: how the VAE's posterior is read: a random key or standard normal noise of the latents'
            shape for a sample (the release samples), None for its mode. The patch codec has no posterior and
            ignores it.
        dtype: of the VAE's convolutions.

    Returns:
        [B, k + 1, H / space_factor, W / space_factor, latent_channels]: float32 of the VAE, in the video's
        dtype of the patch codec.

    Raises:
        InputError: T, H or W do not fit; also under jit, since shapes are static.
    """
    check_video_shape(arch, video.shape)
    if isinstance(arch, PatchCodecArch):
        return patch.encode(arch, video)
    mean, std = vae.posterior(vae.encode_moments(params, arch, video, dtype))
    if key_or_noise is None:
        return arch.scaling_factor * mean
    if jnp.issubdtype(key_or_noise.dtype, jnp.floating):
        if key_or_noise.shape != mean.shape:
            raise InputError(f"noise of shape {key_or_noise.shape}: the latents have shape {mean.shape}")
        noise = key_or_noise
    else:
        noise = jax.random.normal(key_or_noise, mean.shape, mean.dtype)
    return arch.scaling_factor * (mean + std * noise)


def decode(
    params: Params, arch: CodecArch, latents: jax.Array, *, dtype: DTypeLike = jnp.float32
) -> jax.Array:
    """Scaled latents [B, t, h, w, C] to video [B, time_factor * (t - 1) + 1, h * space_factor, w *
    space_factor, 3]; nothing is clipped.

    The VAE's result is float32; `dtype` is that of its convolutions.
    """
    if latents.ndim != 5 or latents.shape[-1] != arch.latent_channels:
        raise InputError(f"latents of shape {latents.shape}: expected [B, t, h, w, {arch.latent_channels}]")
    if isinstance(arch, PatchCodecArch):
        return patch.decode(arch, latents)
    video = vae.decode(params, arch, latents / arch.scaling_factor, dtype)
    # An even number of latent frames decodes to time_factor times as many, the surplus at the front, where
    # one frame was several times.
    frames = arch.time_factor * (latents.shape[1] - 1) + 1
    return video[:, video.shape[1] - frames :]


def check_video_shape(arch: CodecArch, shape: tuple[int, ...]) -> None:
    """Raises InputError unless `shape` is a video [B, T, H, W, 3] that the codec can encode; cheap, so call
    it before heavy work.
    """
    if len(shape) != 5 or shape[-1] != 3:
        raise InputError(f"video of shape {shape}: expected [B, T, H, W, 3]")
    _, frames, height, width, _ = shape
    n, s = arch.time_factor, arch.space_factor
    if isinstance(arch, VAEArch):
        vae.check_frames(arch, frames)
    if frames < 1 or (frames - 1) % n:
        below = max(1, (frames - 1) // n * n + 1)
        raise InputError(f"video of {frames} frames: pass {n}k+1 frames, such as {below} or {below + n}")
    if height < 1 or width < 1 or height % s or width % s:
        raise InputError(
            f"video of {height} x {width} pixels (height x width): both must be multiples of {s}"
        )
