"""The inflated mask at the resolution of latents and of tokens, for NumPy and JAX arrays, also under jit."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Shaped

from gencompositor_jax.arch import LatentMaskRule
from gencompositor_jax.errors import InputError


def latent_mask(
    mask: Shaped[Any, "*batch T H W"],
    time_factor: int,
    space_factor: int,
    rule: LatentMaskRule = "released",
) -> Shaped[Any, "*batch t h w"]:
    """Reduces a mask to latents: t = (T - 1) / time_factor + 1, h = H / space_factor, w = W / space_factor.

    released: nearest sampling. Latent frame i reads frame floor(i T / t), and each of its pixels the top left
    pixel of its block; motion between those frames is lost.
    union: a latent pixel is set if any pixel that it covers is set. Latent frame 0 covers frame 0; latent
    frame i covers the frames time_factor (i - 1) + 1 to time_factor i. It contains the released mask.

    Args:
        mask: a NumPy or JAX array, bool or numbers that are 0 outside and larger inside. Type and dtype stay.

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
        raise InputError(f"latent mask rule {rule!r}: pass 'released' or 'union'")
    blocks = mask.reshape(*mask.shape[:-2], h, space_factor, w, space_factor).max(axis=(-3, -1))
    later = blocks[..., 1:, :, :].reshape(*mask.shape[:-3], t - 1, time_factor, h, w).max(axis=-3)
    return _xp(mask).concatenate([blocks[..., :1, :, :], later], axis=-3)


def latent_mask_chunk(
    mask: Shaped[np.ndarray, "n H W"],
    first: int,
    frames: int,
    time_factor: int,
    space_factor: int,
    rule: LatentMaskRule = "released",
) -> Shaped[np.ndarray, "t h w"]:
    """The rows of `latent_mask` for the frames from `first` on, of a clip of `frames` frames.

    mask: the frames of whole latent frames. A chunk that starts at 0 has the first frame's latent frame.
    """
    if rule == "released":
        t = (frames - 1) // time_factor + 1
        own = np.arange(-(-first // time_factor), (first + len(mask) - 1) // time_factor + 1)
        return mask[own * frames // t - first, ::space_factor, ::space_factor]
    if first == 0:
        return np.asarray(latent_mask(mask, time_factor, space_factor, rule))
    return np.asarray(latent_mask(np.concatenate([mask[:1], mask]), time_factor, space_factor, rule)[1:])


def token_mask(latent_mask: Shaped[Any, "*batch t h w"], patch: int = 2) -> Bool[Any, "*batch N"]:
    """True for tokens whose patch of patch x patch latent pixels has any masked one (N = t h w / patch^2).

    Tokens are ordered with t slowest, then row, then column. Masked token injection adds nothing to them.
    """
    *batch, t, h, w = latent_mask.shape
    patches = (latent_mask > 0).reshape(*batch, t, h // patch, patch, w // patch, patch)
    return patches.any(axis=(-3, -1)).reshape(*batch, t * (h // patch) * (w // patch))


def _xp(array: Any) -> Any:
    return jnp if isinstance(array, jax.Array) else np
