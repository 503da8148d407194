"""Attention on any platform: chunks of queries over blocks of keys, with a softmax that goes on from block to
block, so that memory grows linearly with the tokens, backward too.

Over the keys of one block, a chunk of queries has scores s, their log-sum l = log sum exp(s) and the mean
o = exp(s - l) v. Two blocks together have (Dao, FlashAttention-2, arXiv:2307.08691)

    l = log(exp(l1) + exp(l2)),    o = exp(l1 - l) o1 + exp(l2 - l) o2,                              (1)

and with p = exp(s - l) once more, the gradients of a loss whose gradient by o is g are

    dv = p^T g,    ds = p (g v^T - sum(g o)),    dq = ds k,    dk = ds^T q,                          (2)

each a sum over chunks and blocks. Nothing but o and l is kept from the forward pass.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gencompositor_jax import sharding
from gencompositor_jax.model.attention import ring

# Queries and keys of one tile. On a CPU heads follow one another, and few large tiles (27 MiB of float32
# scores) are faster than many that stay in a core's cache: each operation is shared among the cores anew.
# Elsewhere all heads have a tile each in memory at once (200 MiB for 48).
_CPU_TILE = (1536, 4608)
_TILE = (1024, 1024)

_NEVER = -1e38  # a padding key's score: finite, so that a block of nothing but padding makes no NaN


def attend(q: jax.Array, k: jax.Array, v: jax.Array, length: int | None = None) -> jax.Array:
    """q, k, v [B, S, heads, d] -> [B, S, heads, d]; keys from `length` on count for nothing."""
    k, v = k[:, :length], v[:, :length]
    return ring.by_heads(lambda q, k, v: ring.attend(q, k, v, k.shape[1], KERNEL), q, k, v)


def forward(q: jax.Array, k: jax.Array, v: jax.Array, valid: int | jax.Array) -> tuple[jax.Array, jax.Array]:
    """Means and log-sums of q [N, Q, d] over the first `valid` keys of k, v [N, K, d].

    Returns float32 [N, Q, d] and [N, Q].
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
    """What the first `valid` of these keys add to the gradients by q, k and v (2), float32 as they are.

    out, log_sum: of the queries over all of their keys, these and others; gradient: by `out`, [N, Q, d].
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

            nothing = jnp.zeros(k.shape)
            (dk, dv), more = jax.lax.scan(add, (nothing, nothing), chunks)
            return dq + more, (dk, dv)

        blocks = _cut(k, block), _cut(v, block), _bias(len(k), valid, block)
        dq, (dk, dv) = jax.lax.scan(one_block, jnp.zeros(chunks[0].shape), blocks)
        return _join(dq, len(q)), _join(dk, len(k)), _join(dv, len(v))

    dq, dk, dv = _each_head(one_head, q, k, v, gradient, log_sum, inner)
    return dq * scale, dk, dv


KERNEL = ring.Kernel(forward, backward)


def _tile(queries: int, keys: int) -> tuple[int, int]:
    """Queries and keys of one tile, in parts as equal as can be."""
    most = _CPU_TILE if sharding.platform() == "cpu" else _TILE
    chunk, block = (math.ceil(n / math.ceil(n / m)) for n, m in zip((queries, keys), most, strict=True))
    return chunk, block


def _each_head(one_head: Callable[..., Any], *arrays: jax.Array) -> Any:
    if sharding.platform() == "cpu":
        return jax.lax.map(lambda each: one_head(*each), arrays)
    return jax.vmap(one_head)(*arrays)


def _cut(x: jax.Array, size: int) -> jax.Array:
    """[n, ...] -> [parts, size, ...], filled up with zeros."""
    widths = [(0, -len(x) % size)] + [(0, 0)] * (x.ndim - 1)
    return jnp.pad(x, widths).reshape(-1, size, *x.shape[1:])


def _join(x: jax.Array, length: int) -> jax.Array:
    return x.reshape(-1, *x.shape[2:])[:length]


def _bias(keys: int, valid: int | jax.Array, block: int) -> jax.Array | None:
    """What is added to each key's scores, [blocks, block]; None where all keys count."""
    if isinstance(valid, int) and valid == keys and keys % block == 0:
        return None
    return _cut(jnp.where(jnp.arange(keys + -keys % block) < valid, 0.0, _NEVER), block)


def _scores(q: jax.Array, k: jax.Array, bias: jax.Array | None) -> jax.Array:
    scores = _dot(q, k.T)
    return scores if bias is None else scores + bias


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, preferred_element_type=jnp.float32)
