"""What the network is told about a composite: the one road that inference and training both take."""

from typing import NamedTuple

import numpy as np

from gencompositor_jax.arch import Inflation
from gencompositor_jax.errors import InputError
from gencompositor_jax.masks.inflation import blacken, inflate
from gencompositor_jax.pixels import to_signed


class Conditions(NamedTuple):
    """The network's three inputs besides noise and text, at the model's size.

    A video's values are in [-1, 1]. The masked background is black (-1) wherever the mask is 1, so nothing of
    what stood there reaches the network.
    """

    mask: np.ndarray  # float32 [T, H, W, 1]: 1 = to be generated, 0 = the background stays
    masked_background: np.ndarray  # float32 [T, H, W, 3]
    foreground: (
        np.ndarray
    )  # float32 [T, H, W, 3], the element centred on white; all white to remove something


def make_conditions(
    background: np.ndarray, target_mask: np.ndarray, foreground: np.ndarray, inflation: Inflation
) -> Conditions:
    """Inflates the target mask, blackens the background inside it, and scales both videos.

    Args:
        background: uint8 RGB [T, H, W, 3].
        target_mask: bool (or uint8 grey) [T, H, W], the element's silhouette where it will be.
        foreground: uint8 RGB [T, H, W, 3], the element on white.
        inflation: the checkpoint's own setting, `ModelArch.inflation`.

    Raises:
        InputError: shapes or types differ from these, or nothing of the mask is left to be generated.
    """
    frames = _video(background, "background")
    element = _video(foreground, "foreground")
    if element.shape != frames.shape:
        raise InputError(
            f"foreground of shape {foreground.shape}: the background's is {background.shape}; pass equal ones"
        )
    if target_mask.shape != frames.shape[:3]:
        raise InputError(
            f"mask of shape {target_mask.shape}: the background has {frames.shape[:3]}; pass equal ones"
        )
    mask = inflate(target_mask, inflation)
    if not mask.any():
        raise InputError(
            "mask: nothing is left to be generated once specks are dropped; draw the element larger (--scale)"
        )
    masked = to_signed(blacken(frames, mask))
    return Conditions(mask[..., None].astype(np.float32), masked, to_signed(element))


def _video(frames: np.ndarray, name: str) -> np.ndarray:
    if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape or frames.dtype != np.uint8:
        raise InputError(
            f"{name}: {frames.dtype} of shape {frames.shape}; pass uint8 RGB [frames, height, width, 3]"
        )
    return frames
