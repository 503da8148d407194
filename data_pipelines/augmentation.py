"""Augmentation of training clips, drawn anew each time a clip is read.

Gamma augmentation changes the foreground's luminance, mask-shape augmentation replaces masks that follow the
element's outline (`gencompositor_jax.masks.shapes`). Removal samples teach removal: their foreground is white
and their target is the empty background. They are drawn before a clip is read (`data_pipelines.pipeline`),
since their element isn't decoded.
"""

import dataclasses

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from gencompositor_jax.data_pipelines.source import FRAMES, ClipArrays
from gencompositor_jax.errors import InputError
from gencompositor_jax.masks.inflation import blacken
from gencompositor_jax.masks.shapes import reshape

# A training sample: uint8 `target`, `masked_background` and `foreground` [T, H, W, 3], bool `mask` [T, H, W],
# and the source's other arrays. A batch has one more axis in front.
Example = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Settings of the augmentation; the defaults are the paper's or, where it has none, the release's."""

    gamma: tuple[float, float] = (0.4, 1.9)  # of the foreground, uniform, one per clip
    removal: float = 0.2  # fraction of removal samples
    mask_shapes: float = 0.3  # fraction of clips whose mask is replaced by a drawn shape
    flip: bool = False  # mirrors left-right and reverses time, each in half of the clips
    # Standard deviation of the logarithm of an extra gamma per colour channel of the foreground.
    colour_cast: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.gamma
        if not 0 < low <= high < float("inf"):
            raise InputError(f"data.gamma={self.gamma}: pass two numbers above 0, the smaller first")
        for name in ("removal", "mask_shapes"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"data.{name}={getattr(self, name)}: pass a fraction from 0 to 1")
        if not 0 <= self.colour_cast < 1:
            raise InputError(
                f"data.colour_cast={self.colour_cast}: pass a standard deviation, from 0 to below 1"
            )


def augment(clip: ClipArrays, rng: np.random.Generator, augmentation: Augmentation) -> Example:
    """Draws one variant of a clip; the clip's arrays aren't modified.

    The masked background is black inside the augmented mask. Other arrays of the clip are passed on.

    Raises InputError for flips of a clip with `target_moments` or `offsets`: they are not
    flipped with the frames.
    """
    gammas = rng.uniform(*augmentation.gamma) * np.exp(augmentation.colour_cast * rng.standard_normal(3))
    mirror, reverse = (rng.random(2) < 0.5) & augmentation.flip
    drawn_shape = rng.random() < augmentation.mask_shapes
    if augmentation.flip and (fixed := sorted({"target_moments", "offsets"} & clip.keys())):
        raise InputError(f"data.flip: clips with {', '.join(fixed)} can't be flipped; pass False")

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
        "foreground": gamma_augmentation(turned(clip["foreground"]), gammas),
        "mask": mask,
    }


def gamma_augmentation(
    frames: UInt8[np.ndarray, "T H W 3"], gammas: Float[np.ndarray, "3"]
) -> UInt8[np.ndarray, "T H W 3"]:
    """Gamma (luminance) augmentation of the foreground (paper, section 4.3): v -> 255 (v / 255)^gamma.

    The target shows the element under the background's light. A foreground of the same luminance would let
    the model copy it; with another one, the model learns to harmonise it. The paper draws one gamma per clip
    from 0.4 to 1.9, the released script from 0.3 to 1.9. White, which surrounds the element, stays white.

    gammas: one per colour channel, above 0.
    """
    ramp = np.arange(256)[:, None] / 255.0
    table = np.round(255.0 * ramp**gammas).astype(np.uint8)
    return cv2.LUT(frames.reshape(-1, frames.shape[2], 3), table[None]).reshape(frames.shape)
