"""Layers of the causal 3-D VAE: pure functions, and the thin modules that declare their parameters.

Arrays are [B, T, H, W, C]. A video is processed in chunks of frames, so each causal convolution hands on the
last frames it has seen: a module takes its cache and returns the next one, a dict by submodule name, `{}`
before the first chunk. Statistics of group norm are those of one chunk, and time resampling depends on
whether the chunk's length is odd (the first frame stands alone) or even.

Source of the rules: behaviour of the released checkpoint's VAE (CogVideoX-5B-I2V).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from gencompositor_jax import sharding

Cache = dict[str, Any]
_KERNEL = 3  # every convolution that sees neighbours, in time as in space


# --- functions ----------------------------------------


def group_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, groups: int, eps: float) -> jax.Array:
    """Normalises [B, T, H, W, C] over (T, H, W, C / groups), then scale and bias [C]. Computed and returned
    in float32.
    """
    b, t, h, w, c = x.shape
    grouped = x.astype(jnp.float32).reshape(b, t, h, w, groups, c // groups)

    def mean(values: jax.Array) -> jax.Array:
        # Rows first: a CPU adds one by one, and a flat picture's millions in one sum leave few digits.
        rows = jnp.mean(values, (3, 5), keepdims=True)
        return jnp.mean(rows, (1, 2), keepdims=True)

    centred = grouped - mean(grouped)
    # Two passes: E[x²] - E[x]² would lose everything where the variance is of the size of eps.
    normed = centred * lax.rsqrt(mean(jnp.square(centred)) + eps)
    return normed.reshape(x.shape) * scale.astype(jnp.float32) + bias.astype(jnp.float32)


def causal_conv(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, past: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """3-D convolution that sees no future frame.

    Args:
        x: [B, T, H, W, C].
        kernel: [kt, kh, kw, C, D], odd kh and kw; zeros surround the frame.
        bias: [D].
        past: the last kt - 1 input frames before `x`, or None at the start of the video: then its first frame
            is repeated.

    Returns:
        [B, T, H, W, D] and the `past` of the next chunk.
    """
    reach = kernel.shape[0] - 1
    if past is None:
        past = jnp.repeat(x[:, :1], reach, axis=1)
    x = jnp.concatenate([past, x], axis=1)
    # Taken before the convolution: else XLA may keep all of x until the next chunk asks for these frames.
    x, last = lax.optimization_barrier((x, x[:, x.shape[1] - reach :]))
    # XLA:GPU's 3-D convolutions in bfloat16 can take 30 times as long as they need (openxla/xla#34273).
    convolve = convolve_frames if sharding.platform() == "gpu" else convolve_video
    return convolve(x, kernel) + bias, last


def convolve_video(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """[B, T, H, W, C] with [kt, kh, kw, C, D] -> [B, T - kt + 1, H, W, D]; zeros surround the frame."""
    rows, columns = kernel.shape[1] // 2, kernel.shape[2] // 2
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, 1, 1),
        padding=((0, 0), (rows, rows), (columns, columns)),
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
        precision=_precision(x.dtype),
    )


def convolve_frames(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`convolve_video` as one 2-D convolution: what a frame sees of its past are channels of its own."""
    kt, kh, kw, c, d = kernel.shape
    b, frames, h, w = x.shape[0], x.shape[1] - kt + 1, *x.shape[2:4]
    seen = jnp.concatenate([x[:, i : i + frames] for i in range(kt)], axis=-1)
    y = lax.conv_general_dilated(
        seen.reshape(b * frames, h, w, kt * c),
        kernel.transpose(1, 2, 0, 3, 4).reshape(kh, kw, kt * c, d),
        window_strides=(1, 1),
        padding=((kh // 2, kh // 2), (kw // 2, kw // 2)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=_precision(x.dtype),
    )
    return y.reshape(b, frames, h, w, d)


def frame_conv(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, stride: int, padding: tuple[int, int]
) -> jax.Array:
    """2-D convolution of each frame; `padding` is (before, after), the same for rows and columns."""
    b, t, h, w, c = x.shape
    y = lax.conv_general_dilated(
        x.reshape(b * t, h, w, c),
        kernel,
        window_strides=(stride, stride),
        padding=(padding, padding),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=_precision(x.dtype),
    )
    return (y + bias).reshape(b, t, *y.shape[1:])


def pixel_linear(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Linear map of each pixel's channels: a convolution with kernel [1, 1, 1, C, D]."""
    return jnp.dot(x, kernel[0, 0, 0], precision=_precision(x.dtype)) + bias


def halve_time(x: jax.Array) -> jax.Array:
    """Averages pairs of frames; of an odd number the first frame stays as it is."""
    alone = x.shape[1] % 2
    pairs = (x[:, alone::2] + x[:, alone + 1 :: 2]) / 2
    return jnp.concatenate([x[:, :1], pairs], axis=1) if alone else pairs


def repeat_frames(x: jax.Array, frames: int) -> jax.Array:
    """Repeats frames evenly up to `frames`; where that is odd, the first frame stays single and the others
    are repeated.
    """
    if frames == x.shape[1]:
        return x
    if frames % 2 == 0:
        return jnp.repeat(x, frames // x.shape[1], axis=1)
    rest = jnp.repeat(x[:, 1:], (frames - 1) // (x.shape[1] - 1), axis=1)
    return jnp.concatenate([x[:, :1], rest], axis=1)


def repeat_pixels(x: jax.Array, factor: int) -> jax.Array:
    """Each pixel becomes a block of factor² pixels."""
    return jnp.repeat(jnp.repeat(x, factor, axis=2), factor, axis=3)


def _precision(dtype: DTypeLike) -> lax.Precision:
    """float32 means float32 (accelerators would round its products to bfloat16 or tf32 by default)."""
    return lax.Precision.HIGHEST if dtype == jnp.float32 else lax.Precision.DEFAULT


# --- modules ----------------------------------------


class CausalConv(nn.Module):
    """Parameters of `causal_conv`, kernel 3 x 3 x 3."""

    features: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, past: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """Output [B, T, H, W, features], and the frames to remember for the next chunk."""
        kernel, bias = _kernel_and_bias(self, (_KERNEL,) * 3, x.shape[-1], self.features, self.dtype)
        return causal_conv(x, kernel, bias, past)


class FrameConv(nn.Module):
    """Parameters of `frame_conv`, kernel 3 x 3."""

    features: int
    stride: int
    padding: tuple[int, int]
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Output [B, T, H / stride, W / stride, features]."""
        kernel, bias = _kernel_and_bias(self, (_KERNEL,) * 2, x.shape[-1], self.features, self.dtype)
        return frame_conv(x, kernel, bias, self.stride, self.padding)


class PixelLinear(nn.Module):
    """Parameters of `pixel_linear`."""

    features: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Output [B, T, H, W, features]."""
        return pixel_linear(x, *_kernel_and_bias(self, (1, 1, 1), x.shape[-1], self.features, self.dtype))


class GroupNorm(nn.Module):
    """Parameters of `group_norm`; the result is float32."""

    groups: int
    eps: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Float32 of the same shape."""
        scale = self.param("scale", nn.initializers.ones_init(), (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros_init(), (x.shape[-1],))
        return group_norm(x, scale, bias, self.groups, self.eps)


class ConditionedNorm(nn.Module):
    """The decoder's norm: group_norm(x) * gain(z) + shift(z), z the latent chunk, brought to x's frames and
    pixels by repetition.

    `gain` and `shift` act on single pixels, so they are applied to z before it is repeated: the same numbers
    for 1/64 of the work.
    """

    groups: int
    eps: float
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, z: jax.Array) -> jax.Array:
        """Float32 of x's shape; z is [B, t, h, w, latent_channels]."""
        normed = GroupNorm(self.groups, self.eps, name="norm")(x)

        def modulation(name: str) -> jax.Array:
            low = PixelLinear(x.shape[-1], self.dtype, name=name)(z)
            return repeat_pixels(repeat_frames(low, x.shape[1]), x.shape[2] // z.shape[2])

        gain, shift = modulation("gain"), modulation("shift")
        if sharding.platform() == "tpu":
            # XLA:TPU writes out what is repeated: let it be in this type, not after the cast to float32.
            gain, shift = lax.optimization_barrier((gain, shift))
        return normed * gain.astype(jnp.float32) + shift.astype(jnp.float32)


class ResBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))); norms are conditioned where a latent `z` is given (in the
    decoder).
    """

    features: int
    groups: int
    eps: float
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, z: jax.Array | None, cache: Cache) -> tuple[jax.Array, Cache]:
        """Output [B, T, H, W, features], and the cache for the next chunk."""
        new: Cache = {}
        y = norm_silu(x, z, self.groups, self.eps, self.dtype, "norm1")
        y, new["conv1"] = CausalConv(self.features, self.dtype, name="conv1")(y, cache.get("conv1"))
        y = norm_silu(y, z, self.groups, self.eps, self.dtype, "norm2")
        y, new["conv2"] = CausalConv(self.features, self.dtype, name="conv2")(y, cache.get("conv2"))
        if x.shape[-1] != self.features:
            x = PixelLinear(self.features, self.dtype, name="shortcut")(x)
        return x + y, new


def norm_silu(
    x: jax.Array, z: jax.Array | None, groups: int, eps: float, dtype: DTypeLike, name: str
) -> jax.Array:
    """silu of the norm called `name`, float32 up to the last cast; to be called inside a compact module."""
    y = (
        GroupNorm(groups, eps, name=name)(x)
        if z is None
        else ConditionedNorm(groups, eps, dtype, name=name)(x, z)
    )
    return nn.silu(y).astype(dtype)


def _kernel_and_bias(
    module: nn.Module, window: tuple[int, ...], inputs: int, outputs: int, dtype: DTypeLike
) -> tuple[jax.Array, jax.Array]:
    # Zeros only give the shape: `vae.init` draws all kernels at once.
    kernel = module.param("kernel", nn.initializers.zeros_init(), (*window, inputs, outputs))
    bias = module.param("bias", nn.initializers.zeros_init(), (outputs,))
    return kernel.astype(dtype), bias.astype(dtype)
