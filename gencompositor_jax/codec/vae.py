"""The causal 3-D variational autoencoder: 4 times fewer latent frames than frames, 8 times fewer rows and
columns (released checkpoint, CogVideoX-5B-I2V).

A video is processed in chunks (released: 8 frames or 2 latent frames; the first chunk includes the
remainder), and the convolutions' caches are carried from chunk to chunk. Memory is that of one chunk,
whatever the video's length. Chunks, like tiles, change the result: group norm normalises one at a time.

Parameters: {"encoder": ..., "decoder": ...}. Moments and videos are float32; `dtype` is that of convolutions,
norms are float32. Latents here are unscaled: `codec` applies the scaling factor.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Float

from gencompositor_jax import sharding
from gencompositor_jax.arch import VAEArch
from gencompositor_jax.codec.vae_layers import (
    Cache,
    CausalConv,
    FrameConv,
    ResBlock,
    halve_time,
    norm_silu,
    repeat_frames,
    repeat_pixels,
)
from gencompositor_jax.codec.vae_tiling import (
    TilePlan,
    in_tiles,
    in_tiles_with_state,
    needs_tiles,
    tile_plans,
)
from gencompositor_jax.errors import InputError

Params = dict[str, Any]


class Encoder(nn.Module):
    """One chunk of video to the moments of its latents."""

    arch: VAEArch
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[jax.Array, "B T H W 3"], cache: Cache
    ) -> tuple[Float[jax.Array, "B t h w 2*{self.arch.latent_channels}"], Cache]:
        """Returns the moments and the cache for the next chunk; the first chunk's cache is `{}`."""
        a, new = self.arch, Cache()
        x, new["conv_in"] = CausalConv(a.block_widths[0], self.dtype, name="conv_in")(
            x.astype(self.dtype), cache.get("conv_in")
        )
        for i, width in enumerate(a.block_widths):
            down = _DownBlock(
                a, width, i < _time_steps(a), i < len(a.block_widths) - 1, self.dtype, name=f"down_{i}"
            )
            x, new[f"down_{i}"] = down(x, cache.get(f"down_{i}", {}))
        x, new["mid"] = _MidBlock(a, self.dtype, name="mid")(x, None, cache.get("mid", {}))
        x = norm_silu(x, None, a.norm_groups, a.norm_eps, self.dtype, "norm_out")
        x, new["conv_out"] = CausalConv(2 * a.latent_channels, self.dtype, name="conv_out")(
            x, cache.get("conv_out")
        )
        return x.astype(jnp.float32), new


class Decoder(nn.Module):
    """One chunk of latents to video."""

    arch: VAEArch
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, z: Float[jax.Array, "B t h w C"], cache: Cache
    ) -> tuple[Float[jax.Array, "B T H W 3"], Cache]:
        """Returns the video and the cache for the next chunk; the first chunk's cache is `{}`."""
        a, new = self.arch, Cache()
        z = z.astype(self.dtype)
        widths = a.block_widths[::-1]
        x, new["conv_in"] = CausalConv(widths[0], self.dtype, name="conv_in")(z, cache.get("conv_in"))
        x, new["mid"] = _MidBlock(a, self.dtype, name="mid")(x, z, cache.get("mid", {}))
        for i, width in enumerate(widths):
            up = _UpBlock(a, width, i < _time_steps(a), i < len(widths) - 1, self.dtype, name=f"up_{i}")
            x, new[f"up_{i}"] = up(x, z, cache.get(f"up_{i}", {}))
        x = norm_silu(x, z, a.norm_groups, a.norm_eps, self.dtype, "norm_out")
        x, new["conv_out"] = CausalConv(3, self.dtype, name="conv_out")(x, cache.get("conv_out"))
        return x.astype(jnp.float32), new


@functools.partial(jax.jit, static_argnames="arch")
def init(key: jax.Array, arch: VAEArch) -> Params:
    """Fresh float32 parameters: kernels normal with variance 1 / fan-in, scales 1, biases 0.

    Under `jax.eval_shape`, their shapes.
    """
    side = arch.space_factor
    frame, latent = jnp.zeros((1, 1, side, side, 3)), jnp.zeros((1, 1, 1, 1, arch.latent_channels))
    fresh = {
        "encoder": Encoder(arch).init(key, frame, {})["params"],
        "decoder": Decoder(arch).init(key, latent, {})["params"],
    }
    leaves, tree = jax.tree.flatten(fresh)
    is_kernel = [leaf.ndim > 1 for leaf in leaves]
    ends = np.cumsum([leaf.size * kernel for leaf, kernel in zip(leaves, is_kernel, strict=True)])
    # One draw for all kernels: with a random generator for each, the program compiles for minutes.
    draws = lax.optimization_barrier(jax.random.normal(key, (int(ends[-1]),)))
    return jax.tree.unflatten(
        tree,
        [
            draws[end - leaf.size : end].reshape(leaf.shape) / math.sqrt(leaf.size / leaf.shape[-1])
            if kernel
            else leaf
            for leaf, kernel, end in zip(leaves, is_kernel, ends, strict=True)
        ],
    )


@functools.partial(jax.jit, static_argnames=("arch", "dtype"))
def encode_moments(
    params: Params, arch: VAEArch, video: Float[jax.Array, "B T H W 3"], dtype: DTypeLike = jnp.float32
) -> Float[jax.Array, "B t h w 2*{arch.latent_channels}"]:
    """Video in [-1, 1] to the posterior's mean and log-variance, concatenated along the channels.

    Raises InputError for 2 to frames_per_chunk - 1 frames: the released rule has no chunk for them.
    """
    check_frames(arch, video.shape[1])

    def run(piece: jax.Array) -> jax.Array:
        return _in_chunks(
            functools.partial(_apply, Encoder(arch, dtype), params["encoder"]), piece, arch.frames_per_chunk
        )

    if arch.tile is not None:
        plan = tile_plans(arch)[0]
        if needs_tiles(plan, *video.shape[2:4]):
            return in_tiles(run, video, plan)
    return run(video)


@functools.partial(jax.jit, static_argnames=("arch", "dtype"))
def decode(
    params: Params,
    arch: VAEArch,
    z: Float[jax.Array, "B t h w {arch.latent_channels}"],
    dtype: DTypeLike = jnp.float32,
) -> Float[jax.Array, "B T H W 3"]:
    """Unscaled latents to video, not clipped.

    T = time_factor (t - 1) + 1 for odd t. An even t gives time_factor t frames (release): the first latent
    frame then decodes to time_factor frames like the others.
    """
    if arch.latents_per_chunk % 2:
        raise InputError(
            f"codec.latents_per_chunk={arch.latents_per_chunk}: pass an even number, "
            "since an odd chunk starts with a single frame"
        )

    def run(piece: jax.Array) -> jax.Array:
        return _in_chunks(
            functools.partial(_apply, Decoder(arch, dtype), params["decoder"]), piece, arch.latents_per_chunk
        )

    if arch.tile is not None:
        plan = tile_plans(arch)[1]
        if needs_tiles(plan, *z.shape[2:4]):
            return in_tiles(run, z, plan)
    return run(z)


@functools.partial(jax.jit, static_argnames=("arch", "dtype"))
def encode_chunk(
    params: Params,
    arch: VAEArch,
    video: Float[jax.Array, "B T H W 3"],
    state: Any,
    dtype: DTypeLike = jnp.float32,
) -> tuple[Float[jax.Array, "B t h w 2*{arch.latent_channels}"], Any]:
    """`encode_moments` of one chunk, and the state of the next one; None before the first."""
    run = functools.partial(_apply, Encoder(arch, dtype), params["encoder"])
    return _one_chunk(run, video, state, None if arch.tile is None else tile_plans(arch)[0])


@functools.partial(jax.jit, static_argnames=("arch", "dtype"))
def decode_chunk(
    params: Params,
    arch: VAEArch,
    z: Float[jax.Array, "B t h w {arch.latent_channels}"],
    state: Any,
    dtype: DTypeLike = jnp.float32,
) -> tuple[Float[jax.Array, "B T H W 3"], Any]:
    """`decode` of one chunk, and the state of the next one; None before the first."""
    run = functools.partial(_apply, Decoder(arch, dtype), params["decoder"])
    return _one_chunk(run, z, state, None if arch.tile is None else tile_plans(arch)[1])


def posterior(
    moments: Float[jax.Array, "*batch moments"],
) -> tuple[Float[jax.Array, "*batch C"], Float[jax.Array, "*batch C"]]:
    """Mean and standard deviation from the moments; the log-variance is clamped to [-30, 20]."""
    mean, logvar = jnp.split(moments, 2, axis=-1)
    return mean, jnp.exp(jnp.clip(logvar, -30.0, 20.0) / 2)


def check_frames(arch: VAEArch, frames: int) -> None:
    """Raises InputError if the encoder can't split this number of frames into chunks."""
    size = arch.frames_per_chunk
    if size % arch.time_factor or size < 1:
        raise InputError(f"codec.frames_per_chunk={size}: pass a multiple of {arch.time_factor}")
    if frames < 1 or 1 < frames < size:
        raise InputError(
            f"video of {frames} frames: the VAE encodes 1 frame or at least {size + 1}; "
            f"pass {size + 1} or more"
        )


class _MidBlock(nn.Module):
    """Two residual blocks."""

    arch: VAEArch
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, z: jax.Array | None, cache: Cache) -> tuple[jax.Array, Cache]:
        return _res_blocks(self.arch, x.shape[-1], 2, self.dtype, x, z, cache)


class _DownBlock(nn.Module):
    """Residual blocks, then half the frames (if `time`) and half the rows and columns (if `space`)."""

    arch: VAEArch
    width: int
    time: bool
    space: bool
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        x, new = _res_blocks(self.arch, self.width, self.arch.layers_per_block, self.dtype, x, None, cache)
        if self.space:
            x = halve_time(x) if self.time else x
            # Padded to the right and below only.
            x = FrameConv(self.width, 2, (0, 1), self.dtype, name="downsample")(x)
        return x, new


class _UpBlock(nn.Module):
    """Residual blocks, then twice the rows and columns (if `space`) and twice the frames (if `time`)."""

    arch: VAEArch
    width: int
    time: bool
    space: bool
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, z: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        x, new = _res_blocks(self.arch, self.width, self.arch.layers_per_block + 1, self.dtype, x, z, cache)
        if self.space:
            if self.time and x.shape[1] > 1:
                x = repeat_frames(x, 2 * x.shape[1] - x.shape[1] % 2)
            x = _over_rows(repeat_pixels(x, 2))
            x = _over_rows(FrameConv(self.width, 1, (1, 1), self.dtype, name="upsample")(x))
        return x, new


def _res_blocks(
    arch: VAEArch, width: int, count: int, dtype: DTypeLike, x: jax.Array, z: jax.Array | None, cache: Cache
) -> tuple[jax.Array, Cache]:
    """`count` residual blocks of one width, named res_0, res_1, ...; call it inside a compact module."""
    new = Cache()
    for j in range(count):
        block = ResBlock(width, arch.norm_groups, arch.norm_eps, dtype, name=f"res_{j}")
        x, new[f"res_{j}"] = block(x, z, cache.get(f"res_{j}", {}))
    return x, new


def _time_steps(arch: VAEArch) -> int:
    """Number of leading blocks that halve (or double) the frames."""
    return arch.time_factor.bit_length() - 1


def _apply(module: nn.Module, params: Params, chunk: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
    return module.apply({"params": params}, _over_rows(chunk), cache)  # type: ignore[return-value]


def _over_rows(x: jax.Array) -> jax.Array:
    """Shards the rows of pixels on a mesh that divides them: 60 latent rows over 4 devices, over 8 from the
    second level of the decoder on, where there are 120.
    """
    return sharding.constrain(x, sharding.ROWS, None, sharding.TOKENS)


def _one_chunk(
    apply: Callable[[jax.Array, Cache], tuple[jax.Array, Cache]],
    x: jax.Array,
    state: Any,
    plan: TilePlan | None,
) -> tuple[jax.Array, Any]:
    """A chunk, in tiles if need be. The state is the convolutions' caches, with tiles those of each tile."""
    if plan is not None and needs_tiles(plan, *x.shape[2:4]):
        return in_tiles_with_state(apply, x, plan, state)
    return apply(x, {} if state is None else state)


def _in_chunks(
    apply: Callable[[jax.Array, Cache], tuple[jax.Array, Cache]], x: jax.Array, size: int
) -> jax.Array:
    """Runs `apply` over chunks of `size` frames. The first chunk includes the remainder; the others share one
    compiled loop body.
    """
    frames = x.shape[1]
    count = max(1, frames // size)
    first = frames - (count - 1) * size
    head, cache = apply(x[:, :first], {})
    if count == 1:
        return head
    rest = x[:, first:].reshape(x.shape[0], count - 1, size, *x.shape[2:])

    def step(cache: Cache, chunk: jax.Array) -> tuple[Cache, jax.Array]:
        out, cache = apply(chunk, cache)
        return cache, out

    _, outs = lax.scan(step, cache, jnp.moveaxis(rest, 1, 0))
    tail = jnp.moveaxis(outs, 0, 1)
    return jnp.concatenate([head, tail.reshape(tail.shape[0], -1, *tail.shape[3:])], axis=1)
