"""One door to attention: softmax(q k^T / sqrt(d)) v over the joint sequence, with a backend per platform and
two ways to cut it over a mesh behind it.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from gencompositor_jax import sharding
from gencompositor_jax.model.attention import chunked, cudnn, naive, parallel, ring, splash

Backend = Literal["auto", "naive", "chunked", "cudnn", "splash"]

NAME = ring.NAME  # of what `keep` keeps

BACKENDS: dict[str, Callable[..., jax.Array]] = {
    "naive": naive.attend,
    "chunked": chunked.attend,
    "cudnn": cudnn.attend,
    "splash": splash.attend,
}


def attend(
    q: jax.Array, k: jax.Array, v: jax.Array, length: int | None = None, backend: Backend = "auto"
) -> jax.Array:
    """Full attention of q, k, v [B, S, heads, head_dim] -> [B, S, heads, head_dim], scores and softmax in
    float32.

    length: only the first so many tokens are attended to; those behind are padding. auto: splash attention on
    a TPU, cuDNN's flash attention for half-precision inputs on a GPU where it works, chunks everywhere else;
    the platform is that of the mesh in force, be it here or only described. Under a mesh, arrays are laid out
    as `parallel` says.
    """
    if backend == "auto":
        backend = _best(q.dtype, q.shape[-1])
    if backend not in BACKENDS:
        raise ValueError(f"unknown attention backend {backend!r}; known are {', '.join(BACKENDS)}")
    kernel = splash.KERNEL if backend == "splash" else chunked.KERNEL
    return parallel.attend(q, k, v, length, BACKENDS[backend], kernel)


def _best(dtype: jnp.dtype, head_dim: int) -> Backend:
    match sharding.platform():
        case "tpu":
            return "splash"
        case "gpu" if dtype in (jnp.bfloat16, jnp.float16) and cudnn.usable(dtype, head_dim):
            return "cudnn"
    return "chunked"


def keep(primitive: Any, *_: Any, **params: Any) -> bool:
    """A policy for jax.checkpoint that keeps what attention's backward pass needs from its forward pass, its
    outputs and log-sums, and nothing else.

    They are two thirds of the work and a small part of the memory. cuDNN's bear no name: its operation does.
    """
    return params.get("name") == NAME or primitive.name == "dot_product_attention_fwd_wrapper"
