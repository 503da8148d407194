"""Video to latents and back, the same interface for every codec.

    params = init_codec(key, arch)            # arch: the `codec` field of a ModelArch
    latents = encode(params, arch, video)     # video in [-1, 1]; latents are scaled
    video = decode(params, arch, latents)

All codecs encode time_factor k + 1 frames as k + 1 latent frames: the first frame has a latent frame to
itself. The patch codec only rearranges pixels, so that a tiny model learns compositing and nothing else. The
linear codec keeps the principal components of such blocks.
All functions run under jit with `arch` and `dtype` static. Letters in shapes: see `gencompositor_jax.model`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Float, PRNGKeyArray

from gencompositor_jax.arch import LinearCodecArch, PatchCodecArch, VAEArch
from gencompositor_jax.codec import linear, patch, vae
from gencompositor_jax.errors import InputError

CodecArch = PatchCodecArch | LinearCodecArch | VAEArch
Params = dict[str, Any]


def init_codec(key: jax.Array, arch: CodecArch) -> Params:
    """Fresh float32 parameters: a nested dict, empty for the patch codec."""
    match arch:
        case PatchCodecArch():
            return {}
        case LinearCodecArch():
            return linear.init(arch)._asdict()
        case VAEArch():
            return vae.init(key, arch)


def encode(
    params: Params,
    arch: CodecArch,
    video: Float[jax.Array, "B T H W 3"],
    key_or_noise: PRNGKeyArray | Float[jax.Array, "B t h w C"] | None = None,
    *,
    dtype: DTypeLike = jnp.float32,
) -> Float[jax.Array, "B t h w C"]:
    """Video to scaled latents.

    Args:
        params: from `init_codec` or a checkpoint.
        arch: the codec's architecture.
        video: in [-1, 1]. T = time_factor k + 1; H and W are multiples of space_factor. The VAE encodes 1
            frame, or more than frames_per_chunk.
        key_or_noise: a random key, or standard normal noise, to sample the VAE's posterior as the release
            does; None for its mode. The other codecs have no posterior and ignore it.
        dtype: of the VAE's convolutions.

    Returns:
        t = k + 1, h = H / space_factor, w = W / space_factor, C = latent_channels. The latents are float32,
        the patch codec's have the video's dtype.

    Raises:
        InputError: T, H or W do not fit, also under jit.
    """
    check_video_shape(arch, video.shape)
    if isinstance(arch, PatchCodecArch):
        return patch.encode(arch, video)
    if isinstance(arch, LinearCodecArch):
        return linear.encode(linear.Basis(**params), arch, video)
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
    params: Params, arch: CodecArch, latents: Float[jax.Array, "B t h w C"], *, dtype: DTypeLike = jnp.float32
) -> Float[jax.Array, "B T H W 3"]:
    """Scaled latents to video, not clipped: T = time_factor (t - 1) + 1.

    The video is float32, the patch codec's has the dtype of its latents; `dtype` is that of the VAE's
    convolutions. Raises InputError for latents of another shape.
    """
    if latents.ndim != 5 or latents.shape[-1] != arch.latent_channels:
        raise InputError(f"latents of shape {latents.shape}: expected [B, t, h, w, {arch.latent_channels}]")
    if isinstance(arch, PatchCodecArch):
        return patch.decode(arch, latents)
    if isinstance(arch, LinearCodecArch):
        return linear.decode(linear.Basis(**params), arch, latents)
    video = vae.decode(params, arch, latents / arch.scaling_factor, dtype)
    # An even number of latent frames decodes to time_factor times as many frames: the first latent frame
    # gives time_factor frames instead of one.
    frames = arch.time_factor * (latents.shape[1] - 1) + 1
    return video[:, video.shape[1] - frames :]


def error_weights(params: Params, arch: CodecArch) -> Float[jax.Array, " C"] | None:
    """Factors per channel that make the mean squared error of the latents that of the pixels, for a linear
    code of them; None where there is nothing to weight (the patch codec) or no such factors (the VAE).
    """
    return linear.error_weights(linear.Basis(**params), arch) if isinstance(arch, LinearCodecArch) else None


def padded_frames(arch: CodecArch, frames: int) -> int:
    """The least number of frames, at least `frames`, that the codec can encode."""
    if isinstance(arch, VAEArch) and frames > 1:
        frames = max(frames, arch.frames_per_chunk)
    return -(-(frames - 1) // arch.time_factor) * arch.time_factor + 1


def check_video_shape(arch: CodecArch, shape: tuple[int, ...]) -> None:
    """Raises InputError unless `shape` is a video [B, T, H, W, 3] that the codec can encode.

    It is cheap: call it before heavy work.
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
