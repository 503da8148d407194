"""Attention on any platform: chunks of queries over blocks of keys with an online softmax, in memory that is
linear in the number of tokens, also backward.

Over one block of keys, a chunk of queries has scores s, their log-sum l = log sum exp(s) and the output
o = exp(s - l) v. Two blocks combine to (Dao, FlashAttention-2, arXiv:2307.08691)

    (1)  l = log(exp(l1) + exp(l2)),    o = exp(l1 - l) o1 + exp(l2 - l) o2

Let p = exp(s - l) and g the loss's gradient with respect to o. The gradients are sums over chunks and blocks:

    (2)  dv = p^T g,    ds = p (g v^T - sum(g o)),    dq = ds k,    dk = ds^T q

Only o and l are saved from the forward pass.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from gencompositor_jax import sharding
from gencompositor_jax.model.attention import ring

# Queries and keys of one tile. A CPU processes one head after the other; few large tiles (27 MiB of float32
# scores) are faster than tiles that fit a core's cache, since every operation is distributed to the cores.
# Other platforms have a tile of every head in memory (200 MiB for 48).
_CPU_TILE = (1536, 4608)
_TILE = (1024, 1024)

# Score of a padding key: finite, so that a block of padding alone gives no NaN.
_NEVER = -1e38


def attend(
    q: Float[jax.Array, "B S heads d"],
    k: Float[jax.Array, "B K heads d"],
    v: Float[jax.Array, "B K heads d"],
    length: int | None = None,
) -> Float[jax.Array, "B S heads d"]:
    """Attention over the first `length` keys."""
    k, v = k[:, :length], v[:, :length]
    return ring.by_heads(lambda q, k, v: ring.attend(q, k, v, k.shape[1], KERNEL), q, k, v)


def forward(q: jax.Array, k: jax.Array, v: jax.Array, valid: int | jax.Array) -> tuple[jax.Array, jax.Array]:
    """Outputs [N, Q, d] and log-sums [N, Q], float32, of q [N, Q, d] over the first `valid` keys of k, v
    [N, K, d].
    """
    q = q * q.shape[-1] ** -0.5
    chunk, block = _tile(q.shape[1], k.shape[1])

    def one_head(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        blocks = _cut(k, block), _cut(v, block), _bias(len(k), valid, block)

        def one_chunk(q: jax.Array) -> tuple[jax.Array, jax.Array]:
            def add(carry: Any, keys: Any) -> tuple[Any, None]:
                top, total, mixed = carry
                k, v, bias = keys
                scores = _scores(q, k, bias)
                new = jnp.maximum(top, scores.max(axis=-1))
                weights, fade = jnp.exp(scores - new[:, None]), jnp.exp(top - new)
                total = total * fade + weights.sum(axis=-1)
                return (new, total, mixed * fade[:, None] + _dot(weights.astype(v.dtype), v)), None

            start = jnp.full(len(q), -jnp.inf), jnp.zeros(len(q)), jnp.zeros(q.shape)
            (top, total, mixed), _ = jax.lax.scan(add, start, blocks)
            return mixed / total[:, None], top + jnp.log(total)

        out, log_sum = jax.lax.map(one_chunk, _cut(q, chunk))
        return _join(out, len(q)), _join(log_sum, len(q))

    return _each_head(one_head, q, k, v)


def backward(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    valid: int | jax.Array,
    out: jax.Array,
    log_sum: jax.Array,
    gradient: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Contribution of the first `valid` of these keys to the gradients of q, k and v: equation (2), float32.

    out, log_sum: over all keys, including those of other devices. gradient: the loss's with respect to `out`,
    [N, Q, d].
    """
    scale = q.shape[-1] ** -0.5
    q = q * scale
    chunk, block = _tile(q.shape[1], k.shape[1])
    inner = jnp.sum(gradient.astype(jnp.float32) * out.astype(jnp.float32), axis=-1)

    def one_head(
        q: jax.Array, k: jax.Array, v: jax.Array, g: jax.Array, log_sum: jax.Array, inner: jax.Array
    ) -> tuple[jax.Array, ...]:
        chunks = tuple(_cut(x, chunk) for x in (q, g, log_sum, inner))

        def one_block(dq: jax.Array, keys: Any) -> tuple[jax.Array, Any]:
            k, v, bias = keys

            def add(carry: Any, queries: Any) -> tuple[Any, jax.Array]:
                dk, dv = carry
                q, g, log_sum, inner = queries
                p = jnp.exp(_scores(q, k, bias) - log_sum[:, None])
                ds = (p * (_dot(g, v.T) - inner[:, None])).astype(q.dtype)
                return (dk + _dot(ds.T, q), dv + _dot(p.astype(g.dtype).T, g)), _dot(ds, k)

            zeros = jnp.zeros(k.shape)
            (dk, dv), more = jax.lax.scan(add, (zeros, zeros), chunks)
            return dq + more, (dk, dv)

        blocks = _cut(k, block), _cut(v, block), _bias(len(k), valid, block)
        dq, (dk, dv) = jax.lax.scan(one_block, jnp.zeros(chunks[0].shape), blocks)
        return _join(dq, len(q)), _join(dk, len(k)), _join(dv, len(v))

    dq, dk, dv = _each_head(one_head, q, k, v, gradient, log_sum, inner)
    return dq * scale, dk, dv


KERNEL = ring.Kernel(forward, backward)


def _tile(queries: int, keys: int) -> tuple[int, int]:
    """Queries and keys of one tile: the platform's sizes at most, and parts of nearly equal size."""
    most = _CPU_TILE if sharding.platform() == "cpu" else _TILE
    chunk, block = (math.ceil(n / math.ceil(n / m)) for n, m in zip((queries, keys), most, strict=True))
    return chunk, block


def _each_head(one_head: Callable[..., Any], *arrays: jax.Array) -> Any:
    if sharding.platform() == "cpu":
        return jax.lax.map(lambda each: one_head(*each), arrays)
    return jax.vmap(one_head)(*arrays)


def _cut(x: jax.Array, size: int) -> jax.Array:
    """[n, ...] -> [parts, size, ...], padded with zeros."""
    widths = [(0, -len(x) % size)] + [(0, 0)] * (x.ndim - 1)
    return jnp.pad(x, widths).reshape(-1, size, *x.shape[1:])


def _join(x: jax.Array, length: int) -> jax.Array:
    return x.reshape(-1, *x.shape[2:])[:length]


def _bias(keys: int, valid: int | jax.Array, block: int) -> jax.Array | None:
    """Bias of each key's scores, [blocks, block]; None without padding."""
    if isinstance(valid, int) and valid == keys and keys % block == 0:
        return None
    return _cut(jnp.where(jnp.arange(keys + -keys % block) < valid, 0.0, _NEVER), block)


def _scores(q: jax.Array, k: jax.Array, bias: jax.Array | None) -> jax.Array:
    scores = _dot(q, k.T)
    return scores if bias is None else scores + bias


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, preferred_element_type=jnp.float32)
