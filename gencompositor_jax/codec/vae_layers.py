"""Layers of the causal 3-D VAE: pure functions, and Flax modules that only declare their parameters.

A video is processed in chunks of frames, so each causal convolution passes its last input frames on to the
next chunk: a module takes a cache and returns the next one, a dict by submodule name, `{}` before the first
chunk. Group norm uses the statistics of one chunk. Resampling in time keeps the first frame of an odd number
of frames by itself.

All rules are those of the released checkpoint's VAE (CogVideoX-5B-I2V).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Float

from gencompositor_jax import sharding

Cache = dict[str, Any]
_KERNEL = 3  # size of every convolution over neighbours, in time and in space


# --- functions ----------------------------------------


def group_norm(
    x: Float[jax.Array, "B T H W C"],
    scale: Float[jax.Array, " C"],
    bias: Float[jax.Array, " C"],
    groups: int,
    eps: float,
) -> Float[jax.Array, "B T H W C"]:
    """Normalises over (T, H, W, C / groups), then applies scale and bias; all in float32."""
    b, t, h, w, c = x.shape
    grouped = x.astype(jnp.float32).reshape(b, t, h, w, groups, c // groups)

    def mean(values: jax.Array) -> jax.Array:
        # Rows first: a CPU sums sequentially, and one sum of millions of equal values loses its digits.
        rows = jnp.mean(values, (3, 5), keepdims=True)
        return jnp.mean(rows, (1, 2), keepdims=True)

    centred = grouped - mean(grouped)
    # Two passes: E[x²] - E[x]² has no correct digit left where the variance is of the order of eps.
    normed = centred * lax.rsqrt(mean(jnp.square(centred)) + eps)
    return normed.reshape(x.shape) * scale.astype(jnp.float32) + bias.astype(jnp.float32)


def causal_conv(
    x: Float[jax.Array, "B T H W C"],
    kernel: Float[jax.Array, "kt kh kw C D"],
    bias: Float[jax.Array, " D"],
    past: Float[jax.Array, "B kt-1 H W C"] | None,
) -> tuple[Float[jax.Array, "B T H W D"], Float[jax.Array, "B kt-1 H W C"]]:
    """3-D convolution that is causal in time, for odd kh and kw; frames are padded with zeros.

    past: the last kt - 1 input frames before `x`. None at the start of the video, whose first frame is then
    repeated. Returns the output and the next chunk's `past`.
    """
    reach = kernel.shape[0] - 1
    if past is None:
        past = jnp.repeat(x[:, :1], reach, axis=1)
    x = jnp.concatenate([past, x], axis=1)
    # A slice that XLA makes after the convolution would keep all of x alive until the next chunk.
    x, last = lax.optimization_barrier((x, x[:, x.shape[1] - reach :]))
    # XLA:GPU's 3-D convolutions in bfloat16 can be 30 times slower than necessary (openxla/xla#34273).
    convolve = convolve_frames if sharding.platform() == "gpu" else convolve_video
    return convolve(x, kernel) + bias, last


def convolve_video(
    x: Float[jax.Array, "B T H W C"], kernel: Float[jax.Array, "kt kh kw C D"]
) -> Float[jax.Array, "B T-kt+1 H W D"]:
    """3-D convolution; frames are padded with zeros."""
    rows, columns = kernel.shape[1] // 2, kernel.shape[2] // 2
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, 1, 1),
        padding=((0, 0), (rows, rows), (columns, columns)),
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
        precision=_precision(x.dtype),
    )


def convolve_frames(
    x: Float[jax.Array, "B T H W C"], kernel: Float[jax.Array, "kt kh kw C D"]
) -> Float[jax.Array, "B T-kt+1 H W D"]:
    """`convolve_video` as one 2-D convolution: a frame's past frames become channels."""
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
    x: Float[jax.Array, "B T H W C"],
    kernel: Float[jax.Array, "kh kw C D"],
    bias: Float[jax.Array, " D"],
    stride: int,
    padding: tuple[int, int],
) -> Float[jax.Array, "B T h w D"]:
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


def pixel_linear(
    x: Float[jax.Array, "B T H W C"], kernel: Float[jax.Array, "1 1 1 C D"], bias: Float[jax.Array, " D"]
) -> Float[jax.Array, "B T H W D"]:
    """Linear map of each pixel's channels."""
    return jnp.dot(x, kernel[0, 0, 0], precision=_precision(x.dtype)) + bias


def halve_time(x: jax.Array) -> jax.Array:
    """Averages pairs of frames. The first of an odd number of frames is kept as it is."""
    alone = x.shape[1] % 2
    pairs = (x[:, alone::2] + x[:, alone + 1 :: 2]) / 2
    return jnp.concatenate([x[:, :1], pairs], axis=1) if alone else pairs


def repeat_frames(x: jax.Array, frames: int) -> jax.Array:
    """Repeats frames evenly, to `frames` in total. If that is odd, the first frame is not repeated."""
    if frames == x.shape[1]:
        return x
    if frames % 2 == 0:
        return jnp.repeat(x, frames // x.shape[1], axis=1)
    rest = jnp.repeat(x[:, 1:], (frames - 1) // (x.shape[1] - 1), axis=1)
    return jnp.concatenate([x[:, :1], rest], axis=1)


def repeat_pixels(x: jax.Array, factor: int) -> jax.Array:
    """Repeats each pixel as a block of factor x factor pixels."""
    return jnp.repeat(jnp.repeat(x, factor, axis=2), factor, axis=3)


def _precision(dtype: DTypeLike) -> lax.Precision:
    """Full precision for float32, whose factors accelerators round to bfloat16 or tf32 by default."""
    return lax.Precision.HIGHEST if dtype == jnp.float32 else lax.Precision.DEFAULT


# --- modules ----------------------------------------


class CausalConv(nn.Module):
    """Parameters of `causal_conv`, kernel 3 x 3 x 3."""

    features: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, past: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """Returns the output [B, T, H, W, features] and the next chunk's `past`."""
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
        """Returns [B, T, H / stride, W / stride, features]."""
        kernel, bias = _kernel_and_bias(self, (_KERNEL,) * 2, x.shape[-1], self.features, self.dtype)
        return frame_conv(x, kernel, bias, self.stride, self.padding)


class PixelLinear(nn.Module):
    """Parameters of `pixel_linear`."""

    features: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns [B, T, H, W, features]."""
        return pixel_linear(x, *_kernel_and_bias(self, (1, 1, 1), x.shape[-1], self.features, self.dtype))


class GroupNorm(nn.Module):
    """Parameters of `group_norm`; the result is float32."""

    groups: int
    eps: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns float32 of x's shape."""
        scale = self.param("scale", nn.initializers.ones_init(), (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros_init(), (x.shape[-1],))
        return group_norm(x, scale, bias, self.groups, self.eps)


class ConditionedNorm(nn.Module):
    """The decoder's norm: group_norm(x) * gain(z) + shift(z), with the latent chunk z repeated to x's frames
    and pixels.

    `gain` and `shift` act on single pixels, so they are applied before z is repeated: the same result for
    1/64 of the work.
    """

    groups: int
    eps: float
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, z: jax.Array) -> jax.Array:
        """Returns float32 of x's shape; z is [B, t, h, w, latent_channels]."""
        normed = GroupNorm(self.groups, self.eps, name="norm")(x)

        def modulation(name: str) -> jax.Array:
            low = PixelLinear(x.shape[-1], self.dtype, name=name)(z)
            return repeat_pixels(repeat_frames(low, x.shape[1]), x.shape[2] // z.shape[2])

        gain, shift = modulation("gain"), modulation("shift")
        if sharding.platform() == "tpu":
            # XLA:TPU materialises the repeated arrays: with the barrier in this dtype, not in float32.
            gain, shift = lax.optimization_barrier((gain, shift))
        return normed * gain.astype(jnp.float32) + shift.astype(jnp.float32)


class ResBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))). The norms are conditioned on a latent chunk z, if given."""

    features: int
    groups: int
    eps: float
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, z: jax.Array | None, cache: Cache) -> tuple[jax.Array, Cache]:
        """Returns the output [B, T, H, W, features] and the cache for the next chunk."""
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
    """silu of the norm called `name`, computed in float32; call it inside a compact module."""
    y = (
        GroupNorm(groups, eps, name=name)(x)
        if z is None
        else ConditionedNorm(groups, eps, dtype, name=name)(x, z)
    )
    return nn.silu(y).astype(dtype)


def _kernel_and_bias(
    module: nn.Module, window: tuple[int, ...], inputs: int, outputs: int, dtype: DTypeLike
) -> tuple[jax.Array, jax.Array]:
    # Zeros only define the shape: `vae.init` draws all kernels at once.
    kernel = module.param("kernel", nn.initializers.zeros_init(), (*window, inputs, outputs))
    bias = module.param("bias", nn.initializers.zeros_init(), (outputs,))
    return kernel.astype(dtype), bias.astype(dtype)
