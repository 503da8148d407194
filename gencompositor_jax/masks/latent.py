"""The inflated mask at the sizes of latents and of tokens.

Plain array operations that accept NumPy and JAX arrays alike, inside `jit` too.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gencompositor_jax.arch import LatentMaskRule
from gencompositor_jax.errors import InputError


def latent_mask(mask: Any, time_factor: int, space_factor: int, rule: LatentMaskRule = "released") -> Any:
    """Samples a mask at the latents, [..., T, H, W] -> [..., t, h, w].

    t = (T - 1) / time_factor + 1, h = H / space_factor, w = W / space_factor.

    `released` is nearest sampling: latent i takes the top-left pixel of its block in frame floor(i T /
    t), and what moves between those frames is lost. `union` sets a latent pixel if any pixel of any
    frame it covers is set (latent 0 covers frame 0 alone, latent i the frames time_factor (i - 1) + 1 to
    time_factor i), so it contains the released mask.

    Args:
        mask: NumPy or JAX array, bool or numbers that are 0 outside and larger inside; the type stays.

    Raises:
        InputError: T is not time_factor k + 1, H or W is no multiple of space_factor, or the rule is unknown.
    """
    frames, height, width = mask.shape[-3:]
    if (frames - 1) % time_factor or height % space_factor or width % space_factor:
        raise InputError(
            f"mask of {frames} frames of {height}x{width}: pass {time_factor}k+1 frames "
            f"(1, {time_factor + 1}, {2 * time_factor + 1}, ...) and sides divisible by {space_factor}"
        )
    t, h, w = (frames - 1) // time_factor + 1, height // space_factor, width // space_factor
    if rule == "released":
        return mask[..., np.arange(t) * frames // t, ::space_factor, ::space_factor]
    if rule != "union":
        raise InputError(f"latent mask rule {rule!r}: known are 'released' and 'union'")
    blocks = mask.reshape(*mask.shape[:-2], h, space_factor, w, space_factor).max(axis=(-3, -1))
    later = blocks[..., 1:, :, :].reshape(*mask.shape[:-3], t - 1, time_factor, h, w).max(axis=-3)
    return _xp(mask).concatenate([blocks[..., :1, :, :], later], axis=-3)


def token_mask(latent_mask: Any, patch: int = 2) -> Any:
    """Masks a token if any latent pixel of its patch is masked, [..., t, h, w] -> bool [..., t h w / patch²].

    Tokens are ordered t slowest, then row, then column. The background branch adds nothing to masked tokens.
    """
    *batch, t, h, w = latent_mask.shape
    patches = (latent_mask > 0).reshape(*batch, t, h // patch, patch, w // patch, patch)
    return patches.any(axis=(-3, -1)).reshape(*batch, t * (h // patch) * (w // patch))


def _xp(array: Any) -> Any:
    return jnp if isinstance(array, jax.Array) else np
