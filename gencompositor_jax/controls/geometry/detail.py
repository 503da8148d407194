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
up to `EVEN` times that where all sides of the element change alike, by |c| - |v|, or where it is darker above
the element than below: a shadow has a side, which is seldom the upper one, while a model that fills in badly
what the mask hid darkens any. `draw` draws at the background's size, with the element's own alpha A and
colours X:

    (4)  below = s B,   result = below + A (tone(X) + l - below)

Where the model drew something else than the element (another pose), its frames are much further from (4)
than its frames outside the mask are from the scene, which it was given: there `Fit.trust` falls to 0, and the
model's own pixels are taken.
"""

import math
from typing import Literal, NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

Detail = Literal["element", "model", "auto"]

SOLID = 0.5  # alpha from which a pixel's colour is the element's
DARKEST = 1e-3  # below it x^g says nothing about g
GAMMAS = 0.15, 6.0  # the range of g
SHADES = 0.3, 1.5  # the range of s
FRAMES = 2.0  # standard deviation of G along time, in frames
WIDTH = 0.75  # around the element: standard deviation of G, in tokens
REACH = 12  # frames over which smoothing along time is noticed in `fit`
PRIOR = 0.02  # around the element: brightness that is added to both sides of (3), against division by nothing
NOISE = 2.0  # times the logarithm of s outside the mask, where it should be 0, count as noise
SLIGHT = 0.025, 0.2  # logarithm of s that counts as noise: at least, and where there is no outside
EVEN = 4.0  # times this noise, at most, counts as noise, too, if it has not the sides of a shadow
ABOVE = 2.0  # times the part of v that darkens above the element counts as such noise
COVERED = 0.6  # of the most that G covers outside the mask, where the model's noise is measured
AWAY = 1.5  # standard deviation in tokens of the blur whose gradient points away from the element
TOGETHER = 3.0  # tokens over which the model's errors of a whole clip go together
WIDTHS = 1.0, 0.5  # standard deviations of G over the element, in tokens
DOUBT = 3.0  # standard errors within which a local deviation is noise
FINE = 1.5  # standard deviation in pixels of the blur under which drawn and generated frames are compared
FAINT = 0.03  # error that is never held against a model
STRAYS = 4.5, 6.0  # times the model's error outside the mask: the map is trusted up to, distrusted from


class Light(NamedTuple):
    """What a clip has in common."""

    offset: Float[np.ndarray, "3"]  # d of (1)
    gamma: Float[np.ndarray, "3"]  # g of (1)
    error: float | None  # mean square of the model's outside the mask; None where there is no outside
    slight: float  # logarithm of (3) that counts as noise
    sides: Float[np.ndarray, "3"]  # c and v of (3)


class Fit(NamedTuple):
    """The map of a clip, at the model's size [T, h, w]; colours in [0, 1]."""

    offset: Float[np.ndarray, "3"]  # d of (1)
    gamma: Float[np.ndarray, "3"]  # g of (1)
    field: Float[np.ndarray, "T h w 3"]  # l of (2)
    shade: Float[np.ndarray, "T h w"]  # s of (3); 1 where nothing changes
    trust: Float[np.ndarray, "T h w"]  # 1: the element's pixels, 0: the model's


class Sums(NamedTuple):
    """What `light` needs of a clip, added up over its frames: float64."""

    weight: np.ndarray  # [] alpha of the element's pixels
    colours: np.ndarray  # [3, 256] the same by the level of each channel
    drawn: np.ndarray  # [3] of the model's colours, times alpha
    scatter: np.ndarray  # [3] of the residuals that are common to a token, times alpha
    brightness: np.ndarray  # [] of their mean over the channels, squared
    chroma: np.ndarray  # [3] of their deviations from it, squared
    outside: np.ndarray  # [2] the model's squared error outside the mask, and its pixels
    given: np.ndarray  # [2] the squared logarithm of (3) outside, where it should be 0, and its pixels
    sides: np.ndarray  # [3, 3] around the element: products of 1 and the direction away from it
    change: np.ndarray  # [3] the same times the logarithm of (3)


def measure(
    seen: UInt8[np.ndarray, "T h w 3"],
    paste: UInt8[np.ndarray, "T h w 4"],
    generated: UInt8[np.ndarray, "T h w 3"],
    inside: Bool[np.ndarray, "T h w"],
    token: int,
    part: slice = slice(None),
) -> Sums:
    """The sums of a piece of a clip; the arguments are those of `fit`. Sums of pieces are added.

    part: frames that are counted. The others, up to `REACH` on each side, are what smoothing along time sees.
    """
    b, m, x, a = _colours(seen, generated, paste)
    solid = _solid(a, inside)
    own = _own(b, m, a)
    common = _coarse(own - x, solid, token)[part].astype(np.float64)
    error = (_smooth(m[part] - b[part], FINE, 0) ** 2).mean(axis=-1)[~inside[part]]
    given, cover = _brightening(b, m, ~inside, token)
    given = given[part][~inside[part] & (cover[part] > COVERED * cover.max())]
    around = _around(a, inside)
    change, _ = _brightening(b, m, around, token)
    near = around[part] > SOLID
    sides = np.insert(_away(a, token)[part][near], 0, 1, axis=-1).astype(np.float64)
    solid, own, levels = solid[part], own[part].astype(np.float64), paste[part][..., :3]
    at = solid > 0
    weight, common = solid[at].astype(np.float64), common[at]
    mean = common.mean(axis=-1)
    return Sums(
        weight=weight.sum(),
        colours=np.stack([np.bincount(levels[at][:, c], weight, 256) for c in range(3)]),
        drawn=weight @ own[at],
        scatter=weight @ common,
        brightness=weight @ mean**2,
        chroma=weight @ (common - mean[:, None]) ** 2,
        outside=np.array([error.sum(dtype=np.float64), error.size]),
        given=np.array([np.square(given, dtype=np.float64).sum(), given.size]),
        sides=sides.T @ sides,
        change=change[part][near] @ sides,
    )


def added(one: Sums, other: Sums) -> Sums:
    """The sums of two pieces together."""
    return Sums(*(a + b for a, b in zip(one, other, strict=True)))


def light(sums: Sums, token: int) -> Light | None:
    """The light of a clip; None where the element is nowhere solid: there is nothing to compare."""
    if not sums.weight:
        return None
    error, given = (float(total / count) if count else None for total, count in (sums.outside, sums.given))
    slight = SLIGHT[1] if given is None else max(SLIGHT[0], NOISE * math.sqrt(given))
    sides = np.linalg.lstsq(sums.sides, sums.change, rcond=1e-6)[0]
    even = max(0.0, float(abs(sides[0]) - np.hypot(*sides[1:])))
    above = max(0.0, float(sides[2])) if sides[0] < 0 else 0.0  # the light comes from above
    sides[2] -= above
    return Light(*_tone(sums, token), error, slight + min(even + ABOVE * above, EVEN * slight), sides)


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
    common = common or light(measure(seen, paste, generated, inside, token), token)
    if common is None:
        return None
    b, m, x, a = _colours(seen, generated, paste)
    solid = _solid(a, inside)
    toned = tone(x, common.offset, common.gamma)
    field = _field(_own(b, m, a) - toned, solid, token)
    change, _ = _brightening(b, m, _around(a, inside), token)
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


def _colours(
    seen: np.ndarray, generated: np.ndarray, paste: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """b, m, x and a, float32 in [0, 1]."""
    b, m, x = (v[..., :3].astype(np.float32) / 255 for v in (seen, generated, paste))
    return b, m, x, paste[..., 3].astype(np.float32) / 255


def _solid(a: np.ndarray, inside: np.ndarray) -> np.ndarray:
    return np.where((a >= SOLID) & inside, a, 0)


def _around(a: np.ndarray, inside: np.ndarray) -> np.ndarray:
    return np.where(inside & (a < SOLID), 1 - a, 0)


def _away(a: np.ndarray, token: int) -> np.ndarray:
    """Unit vectors away from the element, (x, y): float32 [T, h, w, 2]."""
    down, right = np.gradient(_smooth(a, AWAY * token, 0), axis=(1, 2))
    away = -np.stack([right, down], axis=-1)
    unit: np.ndarray = away / (np.linalg.norm(away, axis=-1, keepdims=True) + 1e-6)
    return unit


def _own(b: np.ndarray, m: np.ndarray, a: np.ndarray) -> np.ndarray:
    """The model's element alone, without what shines through it."""
    return np.clip(b + (m - b) / np.maximum(a, SOLID)[..., None], 0, 1)


def _tone(sums: Sums, token: int) -> tuple[np.ndarray, np.ndarray]:
    """d and g of (1), shrunk: brightness and the channels' deviations from it each by their own doubt."""
    levels, weights = np.arange(256) / 255, sums.colours / sums.weight
    drawn = sums.drawn / sums.weight
    shift = drawn - weights @ levels
    scatter = sums.scatter / sums.weight
    mean, rest = shift.mean(), shift - shift.mean()
    independent = max(sums.weight / (TOGETHER * token**2), 1.0)
    brightness = (sums.brightness / sums.weight - scatter.mean() ** 2) / independent
    chroma = (sums.chroma / sums.weight - (scatter - scatter.mean()) ** 2).sum() / independent
    keep, keep_chroma = _kept(mean**2, brightness), _kept((rest**2).sum(), chroma)
    exponent = np.log([_gamma(levels, drawn[c], weights[c]) for c in range(3)])
    middle = exponent.mean()
    exponent = keep * middle + keep_chroma * (exponent - middle)
    return (keep * mean + keep_chroma * rest).astype(np.float32), np.exp(exponent).astype(np.float32)


def _gamma(x: np.ndarray, mean: float, weight: np.ndarray) -> float:
    """g for which x^g has this mean; the mean falls with g, so the interval is halved."""
    low, high = np.log(GAMMAS)
    x = np.log(np.maximum(x, DARKEST))
    for _ in range(20):
        middle = (low + high) / 2
        if weight @ np.exp(np.exp(middle) * x) > mean:
            low = middle
        else:
            high = middle
    return float(np.exp((low + high) / 2))


def _kept(squared: float, doubt: float) -> float:
    """The share of an estimate that is kept, from its square and its squared standard error."""
    return float(max(0.0, 1 - doubt / max(squared, 1e-12)))


def _field(residual: np.ndarray, solid: np.ndarray, token: int) -> np.ndarray:
    """l of (2), from coarse to fine: float32 [T, h, w, 3]."""
    weight, found = solid[..., None], np.zeros_like(residual)
    for width in WIDTHS:
        rest = residual - found
        cover = np.maximum(_smooth(weight, width * token), 1e-4)
        mean = _smooth(rest * weight, width * token) / cover
        scatter = _smooth((_coarse(rest, solid, token) - mean) ** 2 * weight, width * token) / cover
        doubt = scatter / np.maximum(4 * np.pi * width**2 * cover, 0.5)  # by the window's area in tokens
        found += mean * np.maximum(0, 1 - DOUBT**2 * doubt / np.maximum(mean**2, 1e-9))
    return found


def _coarse(residual: np.ndarray, solid: np.ndarray, token: int) -> np.ndarray:
    """A residual without what differs within a token: the texture that a smooth map can't explain isn't doubt
    about the light.
    """
    weight = solid[..., None]
    return _smooth(residual * weight, token / 4) / np.maximum(_smooth(weight, token / 4), 1e-4)


def _shade(change: np.ndarray, a: np.ndarray, common: Light, token: int) -> np.ndarray:
    """s of (3): float32 [T, h, w]. change: its logarithm in the model's frames."""
    clip = common.sides[0] + _away(a, token) @ common.sides[1:]
    change = 0.5 * (change + clip.astype(np.float32))
    change = np.sign(change) * np.maximum(np.abs(change) - common.slight, 0)
    return np.clip(np.exp(change), *SHADES)


def _brightening(
    b: np.ndarray, m: np.ndarray, where: np.ndarray, token: int
) -> tuple[np.ndarray, np.ndarray]:
    """The logarithm of (3), and the share of its window that `where` covers: both [T, h, w]."""
    width = WIDTH * token
    below, drawn = (_smooth(where * v.mean(axis=-1), width) + PRIOR for v in (b, m))
    return np.log(np.maximum(drawn, PRIOR) / below), _smooth(where, width)


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
    error = seen * (_smooth(m - drawn, FINE, 0) ** 2).mean(axis=-1)
    error = _smooth(error, token / 2, 0) / np.maximum(_smooth(seen, token / 2, 0), 1e-3)
    ramp = np.clip((STRAYS[1] - np.sqrt(error / (given + FAINT**2))) / (STRAYS[1] - STRAYS[0]), 0, 1)
    trust: np.ndarray = ramp * ramp * (3 - 2 * ramp)
    return trust


def _over(below: np.ndarray, colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    drawn: np.ndarray = below + alpha * (colour - below)
    return drawn


def _smooth(video: np.ndarray, width: float, frames: float = FRAMES) -> np.ndarray:
    """[T, h, w, ...] blurred by a Gaussian of standard deviation `width` pixels and `frames` frames; what is
    outside counts as 0.
    """
    video = video.astype(np.float32)
    outside = cv2.BORDER_CONSTANT
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), width, borderType=outside) for frame in video])
    blurred = blurred.reshape(video.shape)  # OpenCV drops a last axis of length 1
    if frames == 0 or len(video) == 1:
        return blurred
    t = np.arange(len(video), dtype=np.float32)
    window = np.exp(-((t[:, None] - t) ** 2) / (2 * frames**2))
    mixed: np.ndarray = np.tensordot(window / window.sum(axis=1).max(), blurred, axes=1)
    return mixed
