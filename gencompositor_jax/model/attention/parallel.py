"""Attention on a mesh. Inputs and outputs have tokens sharded over `context` and heads over `tensor`. Two
schemes:

    Ulysses   An all-to-all before attention gives each device some heads of all tokens, another one after it
              restores the sharding (Jacobs et al., DeepSpeed Ulysses, arXiv:2309.14509). The released 48
              heads divide over context x tensor = 2, 3, 4, 6, 8, 12, 16, 24 or 48 devices.
    ring      Each device keeps its queries while all keys and values pass through it (`ring`), on any number
              of devices.

Ulysses is used where the heads divide, since it sends less: for one layer forward, 48 heads and 35,328 tokens
on eight v5p, 104 MiB per device in all four exchanges. (From a sharding constraint alone, XLA gathers before
attention: 233 MiB and twice the memory.) The ring sends 414 MiB forward on 32 v5p and 1,460 with the backward
pass. Gathering all keys on each device sends about as much (414 and 1,240) but needs eight times the memory:
868 MiB instead of 109 forward, 2,079 instead of 217 with the backward pass.
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
    """Attention on the mesh in force, for q [B, S, heads, d] and k, v [B, K, heads, d].

    backend: used on one device and in Ulysses. kernel: used in a ring.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return backend(q, k, v, length)
    batch, tokens, heads, _ = q.shape
    tensor, context, divides = layout(mesh, heads)
    valid = k.shape[1] if length is None else length

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
    """Mesh axes that shard the heads and the tokens of the inputs, and True for Ulysses, False for a ring."""
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
    # With tokens as the last axis XLA compiles this for TPUs ten times faster, and without copies.
    x = x.transpose(0, 2, 3, 1).reshape(batch, parts, heads // parts, dim, tokens)
    x = jax.lax.all_to_all(x, axis, split_axis=1, concat_axis=1, tiled=True)
    return x.transpose(0, 1, 4, 2, 3).reshape(batch, parts * tokens, heads // parts, dim)


def _heads_for_tokens(x: jax.Array, axis: Axis) -> jax.Array:
    """Inverse of `_tokens_for_heads`."""
    batch, tokens, heads, dim = x.shape
    parts = jax.lax.axis_size(axis)
    x = x.reshape(batch, parts, tokens // parts, heads, dim).transpose(0, 1, 3, 4, 2)
    x = jax.lax.all_to_all(x, axis, split_axis=1, concat_axis=1, tiled=True)
    return x.reshape(batch, parts * heads, dim, tokens // parts).transpose(0, 3, 1, 2)
