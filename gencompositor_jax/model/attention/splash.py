"""Splash attention on TPUs: JAX's Pallas kernel, with a full mask and with segments for padding.

Tokens are padded to whole blocks: 35,326, the released number, to 23 blocks of 1,536. Padding keys have a
segment id that no query has. Tokens are the minor dimension of the kernel's inputs: with heads of size 64
there, half of each row of 128 lanes would be padding (v6e, 48 heads, 35,328 tokens, XLA's temporaries: 416
MiB instead of 1,657 forward, 2,074 instead of 4,137 backward).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from gencompositor_jax.model.attention import ring

_LANES = 128
# Tokens of a block, up to the largest that XLA fits into a core's 16 MiB of VMEM: all keys are read once per
# block of queries. Blocks of float32 inputs have at most half the largest size.
_BLOCKS = (512, 640, 768, 896, 1024, 1152, 1280, 1536)


def attend(
    q: Float[jax.Array, "B S heads d"],
    k: Float[jax.Array, "B K heads d"],
    v: Float[jax.Array, "B K heads d"],
    length: int | None = None,
    interpret: bool = False,
) -> Float[jax.Array, "B S heads d"]:
    """Attention over the first `length` keys.

    interpret: for tests, run the kernel in Pallas's interpreter on any platform.
    """
    valid = k.shape[1] if length is None else length

    def by_heads(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        kernel, arrays, segments = _prepare(q, k, v, valid, interpret)
        return kernel(*arrays, segments)[:, : q.shape[1]]

    return ring.by_heads(by_heads, q, k, v)


def forward(
    q: jax.Array, k: jax.Array, v: jax.Array, valid: int | jax.Array, interpret: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Outputs [N, S, d] and float32 log-sums [N, S] of q [N, S, d] over the first `valid` keys of k, v
    [N, S, d].
    """
    kernel, arrays, segments = _prepare(q, k, v, valid, interpret, save_residuals=True)
    out, (log_sum,) = kernel(*arrays, segments)
    return out[:, : q.shape[1]], log_sum[:, : q.shape[1]]


def backward(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    valid: int | jax.Array,
    out: jax.Array,
    log_sum: jax.Array,
    gradient: jax.Array,
    interpret: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Contribution of the first `valid` of these keys to the gradients of q, k and v.

    out, log_sum: over all keys, including those of other devices. The kernel's own backward rule accepts
    them; it is private to JAX and called nowhere else.
    """
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash

    kernel, arrays, segments = _prepare(q, k, v, valid, interpret)
    options, blocks = kernel.kwargs, kernel.kwargs["block_sizes"]
    out, gradient, log_sum = (_fill(x, blocks.block_q) for x in (out, gradient, log_sum))
    kept = *arrays, segments, None, out, log_sum, kernel.dq_mask_info, kernel.dkv_mask_info
    _, _, _, dq, dk, dv, *_ = splash._splash_attention_bwd(
        False, options["mask_value"], False, blocks, None, None, None, interpret, kept, gradient
    )
    dq, dk, dv = (x[:, : like.shape[1]] for x, like in ((dq, q), (dk, k), (dv, v)))
    return dq * q.shape[-1] ** -0.5, dk, dv


KERNEL = ring.Kernel(forward, backward)


def _prepare(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    valid: int | jax.Array,
    interpret: bool,
    save_residuals: bool = False,
) -> tuple[Any, tuple[jax.Array, ...], Any]:
    """The kernel for these arrays, the arrays scaled (queries) and padded, and their segments."""
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash

    tokens = q.shape[1]
    block = block_size(tokens, max(_BLOCKS) if q.dtype.itemsize <= 2 else max(_BLOCKS) // 2)
    arrays = tuple(_fill(x, block) for x in (q * q.shape[-1] ** -0.5, k, v))
    kernel = _kernel(block, save_residuals, interpret)
    queries, keys = arrays[0].shape[1], arrays[1].shape[1]
    if isinstance(valid, int) and valid == keys:
        return kernel, arrays, None
    padding = (jnp.arange(keys) >= valid).astype(jnp.int32)
    return kernel, arrays, splash.SegmentIds(jnp.zeros(queries, jnp.int32), padding)


def block_size(tokens: int, most: int = max(_BLOCKS)) -> int:
    """The block size up to `most` with the least padding; the largest of those."""
    if tokens <= min(_BLOCKS):
        return -(-tokens // _LANES) * _LANES
    return min((b for b in _BLOCKS if b <= most), key=lambda b: (-(-tokens // b) * b, -b))


def _kernel(block: int, save_residuals: bool, interpret: bool) -> Any:
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
    from jax.experimental.pallas.ops.tpu.splash_attention.splash_attention_mask_info import MaskInfo

    tile = max(n for n in range(_LANES, 1024, _LANES) if block % n == 0)
    along_lanes = splash.QKVLayout.SEQ_MINOR
    sizes = splash.BlockSizes(
        block_q=block,
        block_kv=block,
        block_kv_compute=tile,
        block_q_dkv=block,
        block_kv_dkv=block,
        block_kv_dkv_compute=tile,
        block_q_dq=tile,
        block_kv_dq=block,
        q_layout=along_lanes,
        k_layout=along_lanes,
        v_layout=along_lanes,
    )
    # A full mask needs no tables of blocks.
    full = MaskInfo(None, None, None, None, None)
    return splash.SplashAttentionKernel(
        full,
        full,
        full,
        block_sizes=sizes,
        is_mqa=False,
        save_residuals=save_residuals,
        mask_value=splash.DEFAULT_MASK_VALUE,
        attn_logits_soft_cap=None,
        residual_checkpoint_name=ring.NAME,
        mask_function=None,
        interpret=interpret,
    )


def _fill(x: jax.Array, block: int) -> jax.Array:
    """x [N, S, ...] with S padded with zeros to whole blocks."""
    return jnp.pad(x, [(0, 0), (0, -x.shape[1] % block)] + [(0, 0)] * (x.ndim - 2))
