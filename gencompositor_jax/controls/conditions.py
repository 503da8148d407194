"""The conditions of a composite: what the network is given, in inference and in training alike."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gencompositor_jax.arch import Inflation, ModelArch
from gencompositor_jax.controls.media.frames import held
from gencompositor_jax.errors import InputError
from gencompositor_jax.masks.inflation import blacken, inflate
from gencompositor_jax.pixels import to_signed


class Conditions(NamedTuple):
    """The network's three inputs besides noise and text, at the model's size; float32, videos in [-1, 1].

    The masked background is black (-1) wherever the mask is 1, so nothing of what is to be replaced reaches
    the network.
    """

    mask: np.ndarray  # [T, H, W, 1]: 1 = to be generated, 0 = the background stays
    masked_background: np.ndarray  # [T, H, W, 3]
    foreground: np.ndarray  # [T, H, W, 3], the element centred on white; all white for a removal
    # Layout `trajectory` only: int32 [t, 2], (rows, columns) in tokens from the foreground to the target.
    offsets: np.ndarray | None = None


def stack_conditions(clips: Sequence[Mapping[str, np.ndarray]]) -> Conditions:
    """A batch [B, T, H, W, C] of clips whose conditions are kept as pixels.

    Reads `mask`, bool [T, H, W], `masked_background` and `foreground`, uint8 [T, H, W, 3], of each clip, and
    `offsets`, int32 [t, 2], if they have some.
    """

    def stacked(name: str) -> np.ndarray:
        return np.stack([clip[name] for clip in clips])

    return Conditions(
        stacked("mask")[..., None].astype(np.float32),
        to_signed(stacked("masked_background")),
        to_signed(stacked("foreground")),
        stacked("offsets") if "offsets" in clips[0] else None,
    )


def blank_conditions(arch: ModelArch, clips: int) -> Conditions:
    """Conditions of the right shapes, zero everywhere: of `clips` clips of a model."""
    shape = clips, arch.frames, arch.height, arch.width
    offsets = None if arch.offset_cell is None else np.zeros((clips, arch.latent_shape[0], 2), np.int32)
    video = np.zeros((*shape, 3), np.float32)
    return Conditions(video[..., :1], video, video, offsets)


def make_conditions(
    background: np.ndarray,
    target_mask: np.ndarray,
    foreground: np.ndarray,
    inflation: Inflation,
    offsets: np.ndarray | None = None,
) -> Conditions:
    """Inflates the target mask, blackens the background inside it, and scales both videos.

    Args:
        background: uint8 RGB [T, H, W, 3].
        target_mask: bool (or uint8 grey) [T, H, W], the element's silhouette where it will be.
        foreground: uint8 RGB [T, H, W, 3], the element on white.
        inflation: the checkpoint's own setting, `ModelArch.inflation`.
        offsets: int32 [t, 2], of the foreground; for the layout `trajectory`.

    Raises:
        InputError: shapes or types differ from these, or nothing of the mask is left to be generated.
    """
    inputs = network_inputs(background, target_mask, foreground, inflation)
    check_mask(bool(inputs.mask.any()))
    return inputs._replace(offsets=offsets)


def network_inputs(
    background: np.ndarray, target_mask: np.ndarray, foreground: np.ndarray, inflation: Inflation
) -> Conditions:
    """`make_conditions` also where nothing is to be generated: of a piece of a clip."""
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
    masked = to_signed(blacken(frames, mask))
    return Conditions(mask[..., None].astype(np.float32), masked, to_signed(element))


def check_mask(is_set: bool) -> None:
    """Raises InputError unless an inflated mask is set anywhere in its clip."""
    if not is_set:
        raise InputError(
            "mask: nothing is left to be generated once specks are dropped; draw the element larger (--scale)"
        )


def padded(conditions: Conditions, frames: int) -> Conditions:
    """Conditions of a clip whose last frame is held up to so many frames."""
    mask, background, foreground, offsets = conditions
    return Conditions(held(mask, frames), held(background, frames), held(foreground, frames), offsets)


def _video(frames: np.ndarray, name: str) -> np.ndarray:
    if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape or frames.dtype != np.uint8:
        raise InputError(
            f"{name}: {frames.dtype} of shape {frames.shape}; pass uint8 RGB [frames, height, width, 3]"
        )
    return frames
