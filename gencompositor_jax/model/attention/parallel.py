"""Attention on a mesh. Tokens come and go cut over `context`, and heads over `tensor`; in between

    Ulysses   each device has some heads of all tokens: tokens are exchanged for heads on the way in, and back
              on the way out (Jacobs et al., DeepSpeed Ulysses, arXiv:2309.14509). The released 48 heads can
              be dealt to 2, 3, 4, 6, 8, 12, 16, 24 or 48 devices, counted over context x tensor.
    ring      each device keeps its queries, and all keys and values pass by (ring.py), on any number of them.

Ulysses where the heads can be dealt out, because a device sends less: one layer forward, 48 heads, 35,328
tokens, eight v5p, XLA sends 104 MiB per device, all four exchanges together. (Asked for by a sharding
constraint alone, it gathers on the way in: 233 MiB, and twice the memory.) Else a ring: on 32 v5p, 414 MiB
forward and 1,460 with the backward pass, about as much as if each device gathered all keys (414 and 1,240),
in an eighth of the memory: 109 MiB instead of 868 forward, 217 instead of 2,079 with the backward pass.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, PartitionSpec

from gencompositor_jax.model.attention import ring
from gencompositor_jax.sharding import ROWS, TOKENS, Axis, axis_size


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    length: int | None,
    backend: Callable[..., jax.Array],
    kernel: ring.Kernel,
) -> jax.Array:
    """q, k, v [B, S, heads, d] -> [B, S, heads, d] by `backend` on one device and in Ulysses, by `kernel` in
    a ring, on the mesh in force.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return backend(q, k, v, length)
    batch, tokens, heads, _ = q.shape
    tensor, context, divides = layout(mesh, heads)
    valid = tokens if length is None else length

    def ulysses(*arrays: jax.Array) -> jax.Array:
        return _heads_for_tokens(backend(*(_tokens_for_heads(x, context) for x in arrays), valid), context)

    def around(*arrays: jax.Array) -> jax.Array:
        return ring.by_heads(lambda q, k, v: ring.attend(q, k, v, valid, kernel, context), *arrays)

    rows = ROWS if batch % axis_size(mesh, ROWS) == 0 else None
    spec = PartitionSpec(rows, context, tensor)
    filled = [
        jnp.pad(x, ((0, 0), (0, -tokens % axis_size(mesh, context)), (0, 0), (0, 0))) for x in (q, k, v)
    ]
    one_device = ulysses if divides else around
    out = jax.shard_map(one_device, in_specs=(spec,) * 3, out_specs=spec, check_vma=False)(*filled)
    return out[:, :tokens]


def layout(mesh: AbstractMesh, heads: int) -> tuple[Axis, Axis, bool]:
    """Mesh axes that cut the heads on the way in and out, those that cut the tokens there, and whether the
    latter can be exchanged for heads in between (Ulysses). Else they make a ring.
    """
    heads_divide = heads % axis_size(mesh, TOKENS) == 0
    return (
        ("tensor", "context", heads_divide)
        if heads % axis_size(mesh, "tensor") == 0
        else (None, TOKENS, False)
    )


def _tokens_for_heads(x: jax.Array, axis: Axis) -> jax.Array:
    """[B, s, heads, d] on each of n devices -> [B, n s, heads / n, d]."""
    batch, tokens, heads, dim = x.shape
    parts = jax.lax.axis_size(axis)
    # Exchanged with tokens last: for TPUs, XLA compiles that ten times as fast as with heads last, and no
    # copies.
    x = x.transpose(0, 2, 3, 1).reshape(batch, parts, heads // parts, dim, tokens)
    x = jax.lax.all_to_all(x, axis, split_axis=1, concat_axis=1, tiled=True)
    return x.transpose(0, 1, 4, 2, 3).reshape(batch, parts * tokens, heads // parts, dim)


def _heads_for_tokens(x: jax.Array, axis: Axis) -> jax.Array:
    """The way back: [B, n s, heads / n, d] -> [B, s, heads, d]."""
    batch, tokens, heads, dim = x.shape
    parts = jax.lax.axis_size(axis)
    x = x.reshape(batch, parts, tokens // parts, heads, dim).transpose(0, 1, 3, 4, 2)
    x = jax.lax.all_to_all(x, axis, split_axis=1, concat_axis=1, tiled=True)
    return x.reshape(batch, parts * heads, dim, tokens // parts).transpose(0, 3, 1, 2)
