"""cuDNN's flash attention on NVIDIA GPUs, through jax.nn, in half precision and on one device.

Padding is passed as sequence lengths, since cuDNN is slow with dense masks.
"""

import functools
import sys
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float


def attend(
    q: Float[jax.Array, "B S heads d"],
    k: Float[jax.Array, "B K heads d"],
    v: Float[jax.Array, "B K heads d"],
    length: int | None = None,
) -> Float[jax.Array, "B S heads d"]:
    """Attention over the first `length` keys, in bfloat16 or float16.

    Raises cuDNN's error where it can't be used: call `usable` first.
    """
    queries, keys = q.shape[1], k.shape[1]
    length = keys if length is None else length
    # JAX (0.11) refuses gradients for odd numbers of tokens.
    q, k, v = (jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0))) for x in (q, k, v))
    lengths = None if length == k.shape[1] else jnp.array([length] * len(k), jnp.int32)
    out = jax.nn.dot_product_attention(q, k, v, key_value_seq_lengths=lengths, implementation="cudnn")
    return out[:, :queries]


@functools.cache
def usable(dtype: jnp.dtype, head_dim: int) -> bool:
    """True if cuDNN's attention works here, forward and backward, for this dtype and head size.

    Tested once for each on a few tokens. On failure, one line on stderr has the reason.
    """
    # In a thread of its own, because the caller may be tracing under a mesh: the test must not become part of
    # that trace or run on that mesh.
    with ThreadPoolExecutor(1) as thread:
        problem = thread.submit(_problem, dtype, head_dim).result()
    if problem is not None:
        print(
            f"attention: cuDNN can't be used for {dtype.name} heads of size {head_dim} ({problem}); using "
            "chunked attention, which is several times slower",
            file=sys.stderr,
        )
    return problem is None


def _problem(dtype: jnp.dtype, head_dim: int) -> str | None:
    x = np.ones((1, 127, 1, head_dim), dtype)
    try:
        jax.block_until_ready(jax.grad(lambda x: attend(x, x, x, 100).astype(jnp.float32).sum())(x))
    except Exception as error:  # any failure means that cuDNN isn't usable
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None
