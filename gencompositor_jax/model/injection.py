"""Masked token injection (paper, section 4.2, equation 5): the background branch adds its residuals to the
backbone's video tokens, outside the mask only.

    (1)  x_i <- x_i + (1 - m) r_k,        k = i // ceil(blocks / n)

x_i are the tokens after the backbone's block i, r_k is the k-th of the branch's n residuals, and the token
mask m is 1 where any latent pixel of a token's patch is to be generated. Text and foreground tokens receive
nothing: m is 1 for them, too. The released checkpoint has n = 2 residuals for 42 blocks. The ablation
"everywhere" has m = 0 for all video tokens.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from gencompositor_jax import sharding
from gencompositor_jax.arch import Injection


def inject(
    tokens: Float[jax.Array, "B S D"], residual: Float[jax.Array, "B S D"], mask: Bool[jax.Array, "B S"]
) -> Float[jax.Array, "B S D"]:
    """Equation (1) after one block: adds the residual to the tokens where the mask is False."""
    return tokens + jnp.where(mask[..., None], 0, residual)


def closed(mask: Bool[jax.Array, "B N"], injection: Injection) -> Bool[jax.Array, "B N"]:
    """m of equation (1) for the video tokens, from their token mask: where no residual is added."""
    return jnp.zeros_like(mask) if injection == "everywhere" else mask


def residual_of_block(blocks: int, residuals: int) -> np.ndarray:
    """Index k of equation (1) for every block, int [blocks]: each residual serves consecutive blocks."""
    return np.arange(blocks) // math.ceil(blocks / residuals)


def on_joint_sequence(
    residuals: Float[jax.Array, "n B N D"], mask: Bool[jax.Array, "B N"], first: int, length: int
) -> tuple[Float[jax.Array, "n B S D"], Bool[jax.Array, "B S"]]:
    """Residuals and token mask of the video tokens, extended to the joint sequence of `length` tokens, whose
    first video token has index `first`.

    On a mesh each device then stores the residuals of its own tokens, so that `inject` needs no
    communication.
    """
    after = length - first - mask.shape[1]
    residuals = jnp.pad(residuals, ((0, 0), (0, 0), (first, after), (0, 0)))
    mask = jnp.pad(mask, ((0, 0), (first, after)), constant_values=True)
    return (
        sharding.constrain(residuals, None, sharding.ROWS, sharding.TOKENS),
        sharding.constrain(mask, sharding.ROWS, sharding.TOKENS),
    )
