"""One door to attention: softmax(q k^T / sqrt(d)) v over the joint sequence, with a backend per platform
behind it.

Under a mesh every device attends for its own heads, over the whole sequence: tokens that are cut over the
mesh are exchanged for heads on the way in and back on the way out.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from gencompositor_jax.sharding import ROWS, TOKENS, axis_size

Backend = Literal["auto", "naive", "chunked", "cudnn"]

_CACHED_SCORES = (
    1 << 19
)  # float32 scores of one chunk: 2 MiB, what a CPU core keeps in its second-level cache


def attend(
    q: jax.Array, k: jax.Array, v: jax.Array, length: int | None = None, backend: Backend = "auto"
) -> jax.Array:
    """Full attention of q, k, v [B, S, heads, head_dim] -> [B, S, heads, head_dim], scores and softmax in
    float32.

    length: only the first so many tokens are attended to; those behind are padding. auto: cuDNN's flash
    attention for half-precision inputs on a GPU, query chunks everywhere else.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return _attend_here(q, k[:, :length], v[:, :length], backend)
    queries, keys = _layout(mesh, q.shape)

    def one_device(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return _attend_here(q, k[:, :length], v[:, :length], backend)

    specs = queries, keys, keys
    return jax.shard_map(one_device, in_specs=specs, out_specs=queries, check_vma=False)(q, k, v)


def _layout(mesh: jax.sharding.AbstractMesh, shape: tuple[int, ...]) -> tuple[PartitionSpec, PartitionSpec]:
    """How queries, and keys with values, lie while attention runs.

    Where `context` and `tensor` together divide the heads, each device has some heads of all tokens. Else
    `context` cuts the queries, and every device of it sees all keys of its heads.
    """
    batch, tokens, heads, _ = shape
    rows = ROWS if batch % axis_size(mesh, ROWS) == 0 else None
    if heads % axis_size(mesh, TOKENS) == 0:
        whole = PartitionSpec(rows, None, TOKENS)
        return whole, whole
    own = "tensor" if heads % axis_size(mesh, "tensor") == 0 else None
    cut = "context" if tokens % axis_size(mesh, "context") == 0 else None
    return PartitionSpec(rows, cut, own), PartitionSpec(rows, None, own)


def _attend_here(q: jax.Array, k: jax.Array, v: jax.Array, backend: Backend) -> jax.Array:
    """q [B, Q, heads, head_dim], k and v [B, K, heads, head_dim], all on this device."""
    if backend == "auto":
        half = q.dtype in (jnp.bfloat16, jnp.float16)
        backend = "cudnn" if half and jax.default_backend() == "gpu" else "chunked"
    match backend:
        case "naive":
            return naive(q, k, v)
        case "chunked":
            return chunked(q, k, v)
        case "cudnn":
            return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")
    raise ValueError(f"unknown attention backend {backend!r}")


def naive(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """The definition, with all scores in memory at once: the oracle for tests."""
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, axis=-1).astype(v.dtype), v)


def chunked(q: jax.Array, k: jax.Array, v: jax.Array, chunk: int | None = None) -> jax.Array:
    """The same for one chunk of queries at a time: memory grows linearly with the tokens, backward too
    (scores are computed again there).

    `chunk` defaults to as many queries as keep their scores in a core's cache. On a CPU the heads follow one
    another for the same reason; elsewhere they run side by side.
    """
    batch, length, heads, dim = q.shape
    chunk = min(length, chunk or max(1, _CACHED_SCORES // k.shape[1]))
    q, k, v = (x.swapaxes(1, 2).reshape(batch * heads, -1, dim) for x in (q, k, v))

    def one_chunk(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        scores = jnp.einsum("qd,kd->qk", q, k, preferred_element_type=jnp.float32) * dim**-0.5
        weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
        mixed = jnp.einsum("qk,kd->qd", weights.astype(v.dtype), v, preferred_element_type=jnp.float32)
        return (mixed / weights.sum(axis=-1, keepdims=True)).astype(v.dtype)

    def one_head(qkv: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        q, k, v = qkv
        if chunk == length:
            return one_chunk(q, k, v)
        queries = jnp.pad(q, ((0, -length % chunk), (0, 0))).reshape(-1, chunk, dim)
        return jax.lax.map(jax.checkpoint(lambda c: one_chunk(c, k, v)), queries).reshape(-1, dim)[:length]

    out = (
        jax.lax.map(one_head, (q, k, v)) if jax.default_backend() == "cpu" else jax.vmap(one_head)((q, k, v))
    )
    return out.reshape(batch, heads, length, dim).swapaxes(1, 2)
