"""Detail transfer, an extension of ours: the network says how the element looks in the scene's light, the
element's own pixels say what it is.

The model's frames are smaller than the background, and a small model draws poorly. At the model's size, with
the scene behind the element b, the placed element's colours x and alpha a, and the model's frames m, all in
[0, 1], `fit` finds a smooth map from x to m:

    (1)  tone(x) = (x + d + x^g) / 2     per clip and channel: each half has the mean of m over the element
    (2)  l = G * (m - tone(x))           over the element: light that differs within the clip
    (3)  s = (G * m) / (G * b)           around the element, of brightness: shadow and glow
         log s -> (log s + c + v u) / 2  c and v of the clip: log s ~ c + v u, with u away from the element

(1) and (2) are shrunk by what the residuals leave in doubt, so that a noisy m keeps the element as it is:
v -> v max(0, 1 - e² / v²) with the standard error e of v, for which pixels within a token count as one
(James and Stein 1961). From log s noise is taken off: what it is outside the mask, where it should be 0, and
up to `light.EVEN` times that where all sides of the element change alike, by |c| - |v|, or where it is darker
above the element than below: a shadow has a side, which is seldom the upper one, while a model that fills in
badly what the mask hid darkens any. `draw` draws at the background's size, with the element's own alpha A and
colours X:

    (4)  below = s B,   result = below + A (tone(X) + l - below)

Where the model drew something else than the element (another pose), its frames are much further from (4)
than its frames outside the mask are from the scene, which it was given: there `Fit.trust` falls to 0, and the
model's own pixels are taken.
"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from gencompositor_jax.controls.geometry.light import (
    DARKEST,
    FINE,
    Light,
    around_element,
    away_from,
    brightening,
    coarse,
    colours,
    light_of,
    measure,
    own_colours,
    smooth,
    solid_part,
)

Detail = Literal["element", "model", "auto"]

SHADES = 0.3, 1.5  # the range of s
REACH = 12  # frames over which smoothing along time is noticed in `fit`
WIDTHS = 1.0, 0.5  # standard deviations of G over the element, in tokens
DOUBT = 3.0  # standard errors within which a local deviation is noise
FAINT = 0.03  # error that is never held against a model
STRAYS = 4.5, 6.0  # times the model's error outside the mask: the map is trusted up to, distrusted from


class Fit(NamedTuple):
    """The map of a clip, at the model's size [T, h, w]; colours in [0, 1]."""

    offset: Float[np.ndarray, "3"]  # d of (1)
    gamma: Float[np.ndarray, "3"]  # g of (1)
    field: Float[np.ndarray, "T h w 3"]  # l of (2)
    shade: Float[np.ndarray, "T h w"]  # s of (3); 1 where nothing changes
    trust: Float[np.ndarray, "T h w"]  # 1: the element's pixels, 0: the model's


def fit_piece(found: Fit, part: slice) -> Fit:
    """The map in some of the frames."""
    return found._replace(field=found.field[part], shade=found.shade[part], trust=found.trust[part])


def fit(
    seen: UInt8[np.ndarray, "T h w 3"],
    paste: UInt8[np.ndarray, "T h w 4"],
    generated: UInt8[np.ndarray, "T h w 3"],
    inside: Bool[np.ndarray, "T h w"],
    token: int,
    common: Light | None = None,
) -> Fit | None:
    """Equations (1) to (3) and the trust.

    Args:
        seen: the scene behind the element.
        paste: the placed element, straight alpha.
        generated: the model's frames.
        inside: what was generated.
        token: pixels of a token's side, the distance over which the model's errors go together.
        common: the light of the clip of which these frames are a piece; None for a whole clip. Up to `REACH`
            frames at each end of a piece lack what smoothing along time would see.

    Returns None where the element is nowhere solid: there is nothing to compare.
    """
    common = common or light_of(measure(seen, paste, generated, inside, token), token)
    if common is None:
        return None
    b, m, x, a = colours(seen, generated, paste)
    solid = solid_part(a, inside)
    toned = tone(x, common.offset, common.gamma)
    field = _field(own_colours(b, m, a) - toned, solid, token)
    change, _ = brightening(b, m, around_element(a, inside), token)
    shade = _shade(change, a, common, token)
    # Whether the model drew the same element is judged in all of its light, noise or not.
    drawn = _over(b * np.clip(np.exp(change), *SHADES)[..., None], toned + field, a[..., None])
    trust = _trust(drawn, m, inside, common.error, token)
    return Fit(common.offset, common.gamma, field, shade, trust)


def tone(
    x: Float[np.ndarray, "*size 3"], offset: Float[np.ndarray, "3"], gamma: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "*size 3"]:
    """Equation (1), in [0, 1]: an offset keeps contrast in the light, a gamma keeps black and white."""
    return 0.5 * (np.clip(x + offset, 0, 1) + np.maximum(x, DARKEST) ** gamma)


def draw(
    tones: tuple[np.ndarray, np.ndarray],
    field: Float[np.ndarray, "H W 3"],
    shade: Float[np.ndarray, "H W"],
    below: Float[np.ndarray, "H W 3"],
    paste: UInt8[np.ndarray, "H W 4"],
) -> Float[np.ndarray, "H W 3"]:
    """Equation (4) for a part of a frame, in 0..255.

    tones: d and g. field, shade: at this size. below: the background, 0..255. paste: the element over it,
    straight alpha.
    """
    lit = tone(paste[..., :3].astype(np.float32) / 255, *tones) + field
    return _over(below * shade[..., None], 255 * np.clip(lit, 0, 1), paste[..., 3:].astype(np.float32) / 255)


def _field(residual: np.ndarray, solid: np.ndarray, token: int) -> np.ndarray:
    """l of (2), from coarse to fine: float32 [T, h, w, 3]."""
    weight, found = solid[..., None], np.zeros_like(residual)
    for width in WIDTHS:
        rest = residual - found
        cover = np.maximum(smooth(weight, width * token), 1e-4)
        mean = smooth(rest * weight, width * token) / cover
        scatter = smooth((coarse(rest, solid, token) - mean) ** 2 * weight, width * token) / cover
        doubt = scatter / np.maximum(4 * np.pi * width**2 * cover, 0.5)  # by the window's area in tokens
        found += mean * np.maximum(0, 1 - DOUBT**2 * doubt / np.maximum(mean**2, 1e-9))
    return found


def _shade(change: np.ndarray, a: np.ndarray, common: Light, token: int) -> np.ndarray:
    """s of (3): float32 [T, h, w]. change: its logarithm in the model's frames."""
    clip = common.sides[0] + away_from(a, token) @ common.sides[1:]
    change = 0.5 * (change + clip.astype(np.float32))
    change = np.sign(change) * np.maximum(np.abs(change) - common.slight, 0)
    return np.clip(np.exp(change), *SHADES)


def _trust(
    drawn: np.ndarray, m: np.ndarray, inside: np.ndarray, given: float | None, token: int
) -> np.ndarray:
    """How well `drawn` explains the model's frames: float32 [T, h, w] in [0, 1].

    The measure is how well the model draws what it was given, the scene outside the mask: `given`, its
    squared error there. Without an outside all is trusted.
    """
    if given is None:
        return np.ones(inside.shape, np.float32)
    seen = inside.astype(np.float32)
    error = seen * (smooth(m - drawn, FINE, 0) ** 2).mean(axis=-1)
    error = smooth(error, token / 2, 0) / np.maximum(smooth(seen, token / 2, 0), 1e-3)
    ramp = np.clip((STRAYS[1] - np.sqrt(error / (given + FAINT**2))) / (STRAYS[1] - STRAYS[0]), 0, 1)
    trust: np.ndarray = ramp * ramp * (3 - 2 * ramp)
    return trust


def _over(below: np.ndarray, colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    drawn: np.ndarray = below + alpha * (colour - below)
    return drawn
