"""The edit of the working picture, carried onto the plate's own values.

The network and the paste-back know the working picture p, which is what is displayed of the plate's values V:
clipped to 0..1, in other colours, maybe tone-mapped. With q the conversion from the working space back to the
plate's values, c the working composite and k how much of the plate is covered,

    (1)  C = q(c) + t (V - q(p)),   t = 1 - k,   and at most q(c) / q(p) where that is less than 1.

V - q(p) is what the working picture lacks of the plate: light above white, colours outside its gamut. Where
the edit brightens, (1) is the plate plus the difference of the pictures; where it darkens, the plate times
their ratio; where the element is opaque, nothing of the plate is left. Without an edit it is the plate.
"""

from typing import NamedTuple

import numpy as np

from gencompositor_jax.controls.media.planes import box_around
from gencompositor_jax.controls.plate.colour import PlateColour
from gencompositor_jax.controls.plate.pixels import Box, PlateFrame

_SEEN = 0.5 / 255  # values beyond 0..1 by more are clipped in the working picture


class Seen(NamedTuple):
    """What the working picture has of one frame, around the mask."""

    frame: PlateFrame
    box: Box
    values: np.ndarray  # float32 [h, w, 3], V
    picture: np.ndarray  # float32 [h, w, 3], p
    inside: np.ndarray  # bool [h, w], the mask
    unseen: int  # pixels of the mask whose values the working picture doesn't have

    def picture_of(self, size: tuple[int, int]) -> np.ndarray:
        """p in 8-bit levels: float32 [H, W, 3], 0 where it isn't known."""
        out = np.zeros((*size, 3), np.float32)
        out[self.box] = 255 * self.picture
        return out


class Carried(NamedTuple):
    """One frame of the composite at the plate's depth."""

    frame: PlateFrame
    values: np.ndarray  # float32 [h, w, 3], C: what the frame has; of subsampled chroma, what it is made from
    cover: np.ndarray  # float32 [h, w], k; 0 outside the mask
    clipped: int  # pixels whose new values don't fit the file's


def see(frame: PlateFrame, mask: np.ndarray, colour: PlateColour) -> Seen | None:
    """The working picture around a mask, bool [H, W]; None if nothing is set."""
    box = box_around(mask)
    if box is None:
        return None
    values = frame.rgb(box)
    picture = colour.to_working(values)
    unseen = mask[box] & ((picture < -_SEEN) | (picture > 1 + _SEEN)).any(axis=-1)
    return Seen(frame, box, values, np.clip(picture, 0, 1), mask[box], int(unseen.sum()))


def carry(seen: Seen, composite: np.ndarray, cover: np.ndarray, colour: PlateColour) -> Carried:
    """Equation (1) for one frame; outside the mask its values stay, bit for bit.

    Args:
        composite: float32 [H, W, 3] in 8-bit levels: c, over `Seen.picture_of`.
        cover: float32 [h, w] of the part around the mask, k.
        colour: q.
    """
    c, k = composite[seen.box] / 255, np.where(seen.inside, cover, 0)
    changed = seen.inside & ((seen.picture != c).any(axis=-1) | (k > 0))
    old, new = colour.from_working(seen.picture), colour.from_working(c)
    ratio = np.divide(new, old, out=np.ones_like(old), where=(new < old) & (old > 0))
    kept = np.clip(np.minimum(1 - k[..., None], ratio), 0, 1)
    values = np.where(changed[..., None], new + kept * (seen.values - old), seen.values)
    visible = np.where(changed, kept.mean(axis=-1), 1)
    frame, clipped = seen.frame.with_rgb(seen.box, values, changed, visible)
    if not frame.is_subsampled:
        values = frame.rgb(seen.box)
    return Carried(frame, values, k, int(clipped.sum()))
