"""The light of a clip: what all its frames say of how the model lit the element and what is around it.

`detail` has the equations, and the meaning of b, m, x and a. The light is found from sums over frames, which
pieces of a long clip add up; below are the parts and blurs of a clip in which these sums are taken.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

SOLID = 0.5  # alpha from which a pixel's colour is the element's
DARKEST = 1e-3  # below it x^g says nothing about g
GAMMAS = 0.15, 6.0  # the range of g
FRAMES = 2.0  # standard deviation of G along time, in frames
WIDTH = 0.75  # around the element: standard deviation of G, in tokens
PRIOR = 0.02  # around the element: brightness that is added to both sides of (3), against division by nothing
NOISE = 2.0  # times the logarithm of s outside the mask, where it should be 0, count as noise
SLIGHT = 0.025, 0.2  # logarithm of s that counts as noise: at least, and where there is no outside
EVEN = 4.0  # times this noise, at most, counts as noise, too, if it has not the sides of a shadow
ABOVE = 2.0  # times the part of v that darkens above the element counts as such noise
COVERED = 0.6  # of the most that G covers outside the mask, where the model's noise is measured
AWAY = 1.5  # standard deviation in tokens of the blur whose gradient points away from the element
TOGETHER = 3.0  # tokens over which the model's errors of a whole clip go together
FINE = 1.5  # standard deviation in pixels of the blur under which drawn and generated frames are compared


class Light(NamedTuple):
    """What a clip has in common."""

    offset: Float[np.ndarray, "3"]  # d of (1)
    gamma: Float[np.ndarray, "3"]  # g of (1)
    error: float | None  # mean square of the model's outside the mask; None where there is no outside
    slight: float  # logarithm of (3) that counts as noise
    sides: Float[np.ndarray, "3"]  # c and v of (3), without what darkens above


class Sums(NamedTuple):
    """What `light_of` needs of a clip, added up over its frames: float64."""

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
    """The sums of a piece of a clip; the arguments are those of `detail.fit`. Sums of pieces are added.

    part: frames that are counted. The others, up to `detail.REACH` on each side, are what smoothing along
        time sees.
    """
    b, m, x, a = colours(seen, generated, paste)
    solid = solid_part(a, inside)
    own = own_colours(b, m, a)
    common = coarse(own - x, solid, token)[part].astype(np.float64)
    error = (smooth(m[part] - b[part], FINE, 0) ** 2).mean(axis=-1)[~inside[part]]
    given, cover = brightening(b, m, ~inside, token)
    given = given[part][~inside[part] & (cover[part] > COVERED * cover.max())]
    around = around_element(a, inside)
    change, _ = brightening(b, m, around, token)
    near = around[part] > SOLID
    sides = np.insert(away_from(a, token)[part][near], 0, 1, axis=-1).astype(np.float64)
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


def light_of(sums: Sums, token: int) -> Light | None:
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


def colours(
    seen: np.ndarray, generated: np.ndarray, paste: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """b, m, x and a, float32 in [0, 1]."""
    b, m, x = (v[..., :3].astype(np.float32) / 255 for v in (seen, generated, paste))
    return b, m, x, paste[..., 3].astype(np.float32) / 255


def solid_part(a: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Alpha where the element is solid and was generated, else 0: [T, h, w]."""
    return np.where((a >= SOLID) & inside, a, 0)


def around_element(a: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """What is generated and not the element's: its transparency, 0 where it is solid or given: [T, h, w]."""
    return np.where(inside & (a < SOLID), 1 - a, 0)


def away_from(a: np.ndarray, token: int) -> np.ndarray:
    """Unit vectors away from the element, (x, y): float32 [T, h, w, 2]."""
    down, right = np.gradient(smooth(a, AWAY * token, 0), axis=(1, 2))
    away = -np.stack([right, down], axis=-1)
    unit: np.ndarray = away / (np.linalg.norm(away, axis=-1, keepdims=True) + 1e-6)
    return unit


def own_colours(b: np.ndarray, m: np.ndarray, a: np.ndarray) -> np.ndarray:
    """The model's element alone, without what shines through it."""
    return np.clip(b + (m - b) / np.maximum(a, SOLID)[..., None], 0, 1)


def coarse(residual: np.ndarray, solid: np.ndarray, token: int) -> np.ndarray:
    """A residual without what differs within a token: the texture that a smooth map can't explain isn't doubt
    about the light.
    """
    weight = solid[..., None]
    return smooth(residual * weight, token / 4) / np.maximum(smooth(weight, token / 4), 1e-4)


def brightening(b: np.ndarray, m: np.ndarray, where: np.ndarray, token: int) -> tuple[np.ndarray, np.ndarray]:
    """The logarithm of (3), and the share of its window that `where` covers: both [T, h, w]."""
    width = WIDTH * token
    below, drawn = (smooth(where * v.mean(axis=-1), width) + PRIOR for v in (b, m))
    return np.log(np.maximum(drawn, PRIOR) / below), smooth(where, width)


def smooth(video: np.ndarray, width: float, frames: float = FRAMES) -> np.ndarray:
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
