"""The edit as a layer: from a plate and its composite to RGBA whose `over` is the composite.

    (1)  C = a F + (1 - a) P                     straight alpha, in the working space's encoded values

has many solutions. The smallest alpha with a colour F within 0..1 is, over the channels,

    (2)  a = max((P - C) / P where C < P, (C - P) / (1 - P) where C > P):

a shadow becomes nearly black of the alpha it darkens by, a glow nearly white. Where the element itself is,
alpha is at least its own, so that it stays opaque whatever the plate behind it. (1) solved for F gives the
colour. What equals the plate and isn't covered has alpha 0.
"""

import numpy as np

_WHITE = 255.0  # of the plate's 8 bits


def solve_layer(plate: np.ndarray, composite: np.ndarray, cover: np.ndarray, levels: int) -> np.ndarray:
    """One frame of the layer, straight alpha, 0..`levels` (255 or 65535): uint8 or uint16 [H, W, 4].

    Args:
        plate, composite: uint8 [H, W, 3].
        cover: float32 [H, W], 0..1: alpha where the element is; 0 outside the mask.
        levels: the largest value of the layer.

    Alpha is rounded up, so that F is within its range; F is off by at most half a level, and the result of
    `over` by alpha / 2 levels.
    """
    kind = np.uint8 if levels == 255 else np.uint16
    layer: np.ndarray = np.zeros((*plate.shape[:-1], 4), kind)
    part = _extent((plate != composite).any(axis=-1) | (cover > 0))
    p, c = plate[part].astype(np.float32) / _WHITE, composite[part].astype(np.float32) / _WHITE
    layer[part] = straight_layer(p, c, cover[part], levels)
    return layer


def straight_layer(plate: np.ndarray, composite: np.ndarray, cover: np.ndarray, levels: int) -> np.ndarray:
    """`solve_layer` for float32 values of any depth, 0..1: float32 [H, W, 4] of whole numbers.

    Values beyond 0..1 are clipped.
    """
    p, c = np.clip(plate, 0, 1), np.clip(composite, 0, 1)
    darker = np.where(c < p, (p - c) / np.maximum(p, 1e-6), 0)
    lighter = np.where(c > p, (c - p) / np.maximum(1 - p, 1e-6), 0)
    alpha = np.maximum(np.maximum(darker, lighter).max(axis=-1), cover)
    steps = np.ceil(np.clip(alpha, 0, 1) * levels - 1e-3)[..., None]
    a = steps / levels
    colour = np.where(steps > 0, p + (c - p) / np.maximum(a, 0.5 / levels), 0)
    return np.concatenate([np.rint(np.clip(colour, 0, 1) * levels), steps], axis=-1)


def premultiplied_layer(plate: np.ndarray, composite: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """The layer over linear light, which has no white: float16 [H, W, 4], premultiplied.

        (3)  C = f + (1 - a) P

    alpha is that of a shadow by (2), or the element's own; light that is added needs none. Values are rounded
    to half floats, alpha first, so that f makes up for its rounding.
    """
    darker = np.where(
        (composite < plate) & (plate > 0), (plate - composite) / np.where(plate > 0, plate, 1), 0
    )
    exact = np.clip(np.maximum(darker.max(axis=-1), cover), 0, 1)
    alpha = exact.astype(np.float16)
    alpha = np.where(alpha < exact, np.nextafter(alpha, np.float16(1)), alpha)  # light below 0 is for none
    light = composite - (1 - alpha.astype(np.float32)[..., None]) * plate
    return np.concatenate([light.astype(np.float16), alpha[..., None]], axis=-1)


def _extent(changed: np.ndarray) -> tuple[slice, ...]:
    """The bounding box of what is set, bool [H, W]; empty if nothing is."""
    rows, columns = (np.flatnonzero(changed.any(axis=axis)) for axis in (1, 0))
    return tuple(slice(i[0], i[-1] + 1) if len(i) else slice(0, 0) for i in (rows, columns))


def over(layer: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """(1): a straight-alpha layer, uint8 or uint16 [..., 4], over uint8 [..., 3] -> float32, 0..255."""
    values = layer.astype(np.float32) / np.iinfo(layer.dtype).max
    alpha = values[..., 3:]
    return np.asarray(_WHITE * alpha * values[..., :3] + (1 - alpha) * plate)
