"""The interface between video and latents, the same for every codec.

    params  = init_codec(key, arch)                     # arch: the `codec` field of a ModelArch
    latents = encode(params, arch, video)               # [B, T, H, W, 3] in [-1, 1] -> [B, t, H/s, W/s, C], already scaled
    video   = decode(params, arch, latents)

Both codecs take time_factor * k + 1 frames and give k + 1 latent frames: the first frame stands alone. The patch codec only moves pixels
around, so that a tiny model learns compositing and nothing else.
"""

from typing import Any

import jax
import jax.numpy as jnp

from gencompositor_jax.arch import PatchCodecArch, VAEArch
from gencompositor_jax.errors import InputError

CodecArch = PatchCodecArch | VAEArch
Params = dict[str, Any]


def init_codec(key: jax.Array, arch: CodecArch) -> Params:
    """Fresh parameters of a codec: a nested dict, empty for the patch codec."""
    if isinstance(arch, PatchCodecArch):
        return {}
    raise NotImplementedError


def encode(params: Params, arch: CodecArch, video: jax.Array) -> jax.Array:
    """Video to latents.

    Args:
        params: of `init_codec` or a checkpoint.
        arch: the codec's facts; static under jit.
        video: [B, T, H, W, 3] in [-1, 1], T = time_factor * k + 1, H and W multiples of space_factor.

    Returns:
        [B, k + 1, H / space_factor, W / space_factor, latent_channels], in the video's dtype.

    Raises:
        InputError: T, H or W do not fit; also under jit, since shapes are static.
    """
    check_video_shape(arch, video.shape)
    if isinstance(arch, PatchCodecArch):
        return _patch_encode(arch, video)
    raise NotImplementedError


def decode(params: Params, arch: CodecArch, latents: jax.Array) -> jax.Array:
    """Latents [B, t, h, w, C] to video [B, time_factor * (t - 1) + 1, h * space_factor, w * space_factor, 3]; nothing is clipped."""
    if latents.ndim != 5 or latents.shape[-1] != arch.latent_channels:
        raise InputError(f"latents of shape {latents.shape}: expected [B, t, h, w, {arch.latent_channels}]")
    if isinstance(arch, PatchCodecArch):
        return _patch_decode(arch, latents)
    raise NotImplementedError


def check_video_shape(arch: CodecArch, shape: tuple[int, ...]) -> None:
    """Raises InputError unless `shape` is [B, time_factor * k + 1, H, W, 3] with H and W multiples of space_factor."""
    if len(shape) != 5 or shape[-1] != 3:
        raise InputError(f"video of shape {shape}: expected [B, T, H, W, 3]")
    _, frames, height, width, _ = shape
    n, s = arch.time_factor, arch.space_factor
    if frames < 1 or (frames - 1) % n:
        below = max(1, (frames - 1) // n * n + 1)
        raise InputError(f"video of {frames} frames: pass {n}k+1 frames, such as {below} or {below + n}")
    if height < 1 or width < 1 or height % s or width % s:
        raise InputError(f"video of {height} x {width} pixels (height x width): both must be multiples of {s}")


def _patch_encode(arch: PatchCodecArch, video: jax.Array) -> jax.Array:
    """A latent pixel holds time_factor frames of a space_factor² block, channels ordered (frame, row, column, colour)."""
    n, s = arch.time_factor, arch.space_factor
    first = jnp.repeat(video[:, :1], n - 1, axis=1)  # the first frame alone fills the first latent frame
    video = jnp.concatenate([first, video], axis=1)
    b, frames, height, width, _ = video.shape
    blocks = video.reshape(b, frames // n, n, height // s, s, width // s, s, 3)
    return blocks.transpose(0, 1, 3, 5, 2, 4, 6, 7).reshape(b, frames // n, height // s, width // s, n * s * s * 3)


def _patch_decode(arch: PatchCodecArch, latents: jax.Array) -> jax.Array:
    n, s = arch.time_factor, arch.space_factor
    b, t, h, w, _ = latents.shape
    blocks = latents.reshape(b, t, h, w, n, s, s, 3).transpose(0, 1, 4, 2, 5, 3, 6, 7)
    video = blocks.reshape(b, t * n, h * s, w * s, 3)
    copies = video[:, :n]
    # The mean of the first frame's copies, written as one of them plus the mean deviation: exact when they are equal, for any n.
    first = copies[:, :1] + jnp.mean(copies - copies[:, :1], axis=1, keepdims=True)
    return jnp.concatenate([first, video[:, n:]], axis=1)
