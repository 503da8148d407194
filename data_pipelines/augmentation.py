"""What changes from epoch to epoch: one clip's variant, drawn when it is read.

Training sees the foreground cut from the lit target, so without the gamma a copy would be the right answer;
with every mask cut along an outline, no drawn mask would be understood; and without removal samples a model
can't remove. Whether a sample is a removal is drawn before its clip is read (`data_pipelines.pipeline`),
because its element need not be decoded.
"""

import dataclasses

import cv2
import numpy as np

from gencompositor_jax.data_pipelines.source import FRAMES, ClipArrays
from gencompositor_jax.errors import InputError
from gencompositor_jax.masks.inflation import blacken
from gencompositor_jax.masks.shapes import reshape

# What a training step reads: uint8 `target`, `masked_background`, `foreground` [T, H, W, 3], bool `mask`
# [T, H, W], and what else a source gives. Of a batch, with one more axis in front.
Example = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is drawn for each clip; the defaults are the paper's and the released training's."""

    gamma: tuple[float, float] = (0.4, 1.9)  # of the foreground, uniform, one per clip
    removal: float = 0.2  # share of samples with a white foreground and the empty background as the target
    mask_shapes: float = (
        0.3  # share of clips whose mask becomes a drawn shape (`gencompositor_jax.masks.shapes`)
    )
    flip: bool = False  # mirrors left-right and reverses time, each in half of the clips
    colour_cast: float = 0.0  # spread of the logarithm of an extra gamma per colour channel of the foreground

    def __post_init__(self) -> None:
        low, high = self.gamma
        if not 0 < low <= high < float("inf"):
            raise InputError(f"data.gamma={self.gamma}: pass two numbers above 0, the smaller first")
        for name in ("removal", "mask_shapes"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"data.{name}={getattr(self, name)}: pass a share from 0 to 1")
        if not 0 <= self.colour_cast < 1:
            raise InputError(f"data.colour_cast={self.colour_cast}: pass a spread from 0 to below 1")


def augment(clip: ClipArrays, rng: np.random.Generator, augmentation: Augmentation) -> Example:
    """Draws one variant of a clip that a source gave; the arrays given stay as they are.

    Gammas, unlike gains, leave the white around the element alone. The masked background is black inside the
    mask as it comes out here. Other arrays of the clip are passed on.

    Raises InputError where the clip has `target_moments` and is to be flipped: they can't be.
    """
    gamma = rng.uniform(*augmentation.gamma) * np.exp(augmentation.colour_cast * rng.standard_normal(3))
    mirror, reverse = (rng.random(2) < 0.5) & augmentation.flip
    drawn_shape = rng.random() < augmentation.mask_shapes
    if augmentation.flip and "target_moments" in clip:
        raise InputError("data.flip: latents that were computed beforehand can't be flipped; pass False")

    def turned(array: np.ndarray) -> np.ndarray:
        array = array[:, :, ::-1] if mirror else array
        return np.ascontiguousarray(array[::-1] if reverse else array)

    mask = turned(clip["mask"])
    if drawn_shape:
        mask = reshape(mask, rng)
    return {
        **{name: value for name, value in clip.items() if name not in (*FRAMES, "mask")},
        "target": turned(clip["target"]),
        "masked_background": blacken(turned(clip["scene"]), mask),
        "foreground": look_up(turned(clip["foreground"]), gamma_tables(gamma)),
        "mask": mask,
    }


def gamma_tables(gammas: np.ndarray) -> np.ndarray:
    """uint8 [..., 256]: v -> 255 (v / 255)^gamma for gammas [...]."""
    ramp = np.arange(256) / 255.0
    return np.round(255.0 * ramp ** np.asarray(gammas)[..., None]).astype(np.uint8)


def look_up(frames: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """uint8 [T, H, W, 3] frames through a table per channel, [3, 256]."""
    flat = frames.reshape(-1, frames.shape[-2], 3)
    return cv2.LUT(flat, np.ascontiguousarray(tables.T[None])).reshape(frames.shape)
