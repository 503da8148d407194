"""Attention over the joint sequence, softmax(q k^T / sqrt(d)) v: one function, a backend per platform, and
two parallel schemes for meshes.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float

from gencompositor_jax import sharding
from gencompositor_jax.model.attention import chunked, cudnn, naive, parallel, ring, splash

Backend = Literal["auto", "naive", "chunked", "cudnn", "splash"]

NAME = ring.NAME  # checkpoint name of the values that `keep` saves

BACKENDS: dict[str, Callable[..., jax.Array]] = {
    "naive": naive.attend,
    "chunked": chunked.attend,
    "cudnn": cudnn.attend,
    "splash": splash.attend,
}


def attend(
    q: Float[jax.Array, "B S heads d"],
    k: Float[jax.Array, "B K heads d"],
    v: Float[jax.Array, "B K heads d"],
    length: int | None = None,
    backend: Backend = "auto",
) -> Float[jax.Array, "B S heads d"]:
    """Full attention, with scores and softmax in float32.

    length: tokens before the padding; padding receives no attention. backend: `auto` is splash attention on
    TPUs, cuDNN's flash attention on GPUs for half-precision inputs where it works, and chunked attention
    elsewhere. The platform is that of the mesh in force, also of an abstract one. See `parallel` for the
    shardings on a mesh.
    """
    if backend == "auto":
        backend = _best(q.dtype, q.shape[-1])
    if backend not in BACKENDS:
        raise ValueError(f"unknown attention backend {backend!r}; pass one of {', '.join(BACKENDS)}")
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
    """Policy for jax.checkpoint that saves attention's outputs and log-sums, which its backward pass needs,
    and nothing else.

    They take two thirds of the block's work and little memory. cuDNN's have no checkpoint name, so its
    operation is recognised instead.
    """
    return params.get("name") == NAME or primitive.name == "dot_product_attention_fwd_wrapper"
