"""cuDNN's flash attention on an NVIDIA GPU, through jax.nn: half precision only, on one device's arrays.

Padding is told by lengths: dense masks are slow there.
"""

import functools
import sys
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np


def attend(q: jax.Array, k: jax.Array, v: jax.Array, length: int | None = None) -> jax.Array:
    """q, k, v [B, S, heads, d], bfloat16 or float16 -> [B, S, heads, d]; keys from `length` on count for
    nothing. Raises whatever cuDNN does where it can't be used: ask `usable` first.
    """
    lengths = None if length in (None, k.shape[1]) else jnp.array([length] * len(k), jnp.int32)
    return jax.nn.dot_product_attention(q, k, v, key_value_seq_lengths=lengths, implementation="cudnn")


@functools.cache
def usable(dtype: jnp.dtype, head_dim: int) -> bool:
    """Whether cuDNN attends, forward and backward, on this machine, in `dtype`, for heads of that size.

    Tried once for each, on a few tokens; where it fails, one line on stderr says why.
    """
    # In a thread of its own: the caller may be tracing, under a mesh, and this neither should be part of the
    # trace nor knows the mesh.
    with ThreadPoolExecutor(1) as thread:
        problem = thread.submit(_problem, dtype, head_dim).result()
    if problem is not None:
        print(
            f"attention: cuDNN can't be used for {dtype.name} heads of {head_dim} ({problem}); attending in "
            "chunks instead, which is several times slower",
            file=sys.stderr,
        )
    return problem is None


def _problem(dtype: jnp.dtype, head_dim: int) -> str | None:
    x = np.ones((1, 128, 1, head_dim), dtype)
    try:
        jax.block_until_ready(jax.grad(lambda x: attend(x, x, x, 100).astype(jnp.float32).sum())(x))
    except Exception as error:  # whatever it is, the answer is to do without
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None
