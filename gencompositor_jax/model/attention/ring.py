"""Ring attention (Liu et al., arXiv:2310.01889): each device of a ring stores some tokens, and keys and
values pass from neighbour to neighbour until every query has attended to all of them.

A ring of one device is plain attention. A kernel does the work of one device: `forward` gives outputs and
log-sums over the keys at hand, which equation (1) of `chunked` combines, and `backward` gives these keys'
contribution to the gradients (its equation (2)).

In the backward pass, keys, values and their gradients stay, and queries pass on with theirs: 10 bytes per
element for bfloat16 inputs, where keys and values with float32 gradients would be 12. Communication overlaps
with computation: the next step's arrays are sent while this step computes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from gencompositor_jax.sharding import Axis

NAME = "attention"  # checkpoint name of outputs and log-sums, for rematerialisation policies


class Kernel(NamedTuple):
    """Attention on one device: q [N, Q, d] over the first `valid` keys of k, v [N, K, d].

    forward(q, k, v, valid) -> outputs [N, Q, d] and log-sums [N, Q], float32, over these keys.
    backward(q, k, v, valid, out, log_sum, gradient) -> these keys' contributions dq, dk, dv; out and log_sum
    are over all keys, gradient is the loss's with respect to out.
    """

    forward: Callable[..., tuple[jax.Array, jax.Array]]
    backward: Callable[..., tuple[jax.Array, jax.Array, jax.Array]]


def by_heads(f: Callable[..., jax.Array], *arrays: jax.Array) -> jax.Array:
    """Applies f, a function of arrays [B heads, S, d], to arrays [B, S, heads, d]."""
    batch, tokens, heads, dim = arrays[0].shape
    out = f(*(x.swapaxes(1, 2).reshape(batch * heads, -1, dim) for x in arrays))
    return out.reshape(batch, heads, tokens, dim).swapaxes(1, 2)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def attend(
    q: jax.Array, k: jax.Array, v: jax.Array, length: int, kernel: Kernel, axis: Axis = None
) -> jax.Array:
    """Attention of this device's q, k, v [N, S, d] over all devices along mesh axes `axis`; call it inside
    shard_map.

    length: tokens before the padding, over all devices. Returns [N, S, d].
    """
    return _forward(q, k, v, length, kernel, axis)[0]


def _forward(
    q: jax.Array, k: jax.Array, v: jax.Array, length: int, kernel: Kernel, axis: Axis
) -> tuple[jax.Array, jax.Array]:
    if axis is None:
        out, log_sum = kernel.forward(q, k, v, length)
        return out.astype(q.dtype), log_sum

    def step(carry: Any, i: jax.Array) -> tuple[Any, None]:
        k, v, out, log_sum = carry
        more, its_sum = kernel.forward(q, k, v, _valid(length, k.shape[1], axis, i))
        total = jnp.logaddexp(log_sum, its_sum)
        out = jnp.exp(log_sum - total)[..., None] * out + jnp.exp(its_sum - total)[..., None] * more
        return (*_pass_on((k, v), axis), out, total), None

    start = k, v, jnp.zeros(q.shape, jnp.float32), jnp.full(q.shape[:-1], -jnp.inf)
    (_, _, out, log_sum), _ = jax.lax.scan(step, start, jnp.arange(jax.lax.axis_size(axis)))
    return out.astype(q.dtype), log_sum


def _forward_rule(
    q: jax.Array, k: jax.Array, v: jax.Array, length: int, kernel: Kernel, axis: Axis
) -> tuple[jax.Array, Any]:
    out, log_sum = (checkpoint_name(x, NAME) for x in _forward(q, k, v, length, kernel, axis))
    return out, (q, k, v, out, log_sum)


def _backward_rule(
    length: int, kernel: Kernel, axis: Axis, kept: Any, gradient: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    q, k, v, out, log_sum = kept
    if axis is None:
        dq, dk, dv = kernel.backward(q, k, v, length, out, log_sum, gradient)
        return dq.astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype)
    valid = _valid(length, k.shape[1], axis, 0)

    def step(carry: Any, _: None) -> tuple[Any, None]:
        queries, dq, dk, dv = carry
        # One step behind its queries, so that the transfer doesn't wait for the kernel.
        dq = _pass_on(dq, axis)
        q, out, log_sum, gradient = queries
        more = kernel.backward(q, k, v, valid, out, log_sum, gradient)
        dq, dk, dv = (a + b for a, b in zip((dq, dk, dv), more, strict=True))
        return (_pass_on(queries, axis), dq, dk, dv), None

    zeros = [jnp.zeros(x.shape, jnp.float32) for x in (q, k, v)]
    start: Any = (q, out, log_sum, gradient), *zeros
    (_, dq, dk, dv), _ = jax.lax.scan(step, start, length=jax.lax.axis_size(axis))
    return _pass_on(dq, axis).astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype)


attend.defvjp(_forward_rule, _backward_rule)


def _valid(length: int, size: int, axis: Axis, step: int | jax.Array) -> jax.Array:
    """Number of tokens before the padding, of the `size` tokens that this device receives at `step`."""
    first = (jax.lax.axis_index(axis) - step) % jax.lax.axis_size(axis) * size
    return jnp.clip(length - first, 0, size)


def _pass_on(tree: Any, axis: Axis) -> Any:
    """Sends each device's arrays to the next device of the ring."""
    size = jax.lax.axis_size(axis)
    return jax.lax.ppermute(tree, axis, [(i, (i + 1) % size) for i in range(size)])
