"""Nuke's animation curves, `curve x1001 100 x1010 200 s3.5`, as The Foundry documents their format.

A key has an interpolation, a frame, a value, slopes (s on its left, t on its right; values per frame) and the
lengths u and v of its Bezier handles, of which 1 is a third of the way to the next key.
"""

import re
from typing import Any, NamedTuple

import numpy as np
from scipy.interpolate import CubicSpline

from gencompositor_jax.controls.keyframes.numbers import NUMBER, number_of
from gencompositor_jax.errors import InputError

MAX_FRAME = 1e7
LONGEST = 3.0  # handle: as far as the next key
_TOKEN = re.compile(rf"(?P<kind>[KLSRC])|(?P<outside>[kl])|(?P<name>[xstuv]?)(?P<number>{NUMBER})")
_FINE = 4096  # samples of a segment whose handles have other lengths than 1


class Key(NamedTuple):
    """One key of a curve."""

    frame: float
    value: float
    kind: str = "S"  # to the next key: constant, linear, smooth, Catmull-Rom, cubic
    left: float | None = None  # slope; None is chosen by the kind
    right: float | None = None
    reach_left: float = 1.0  # length of the handle
    reach_right: float = 1.0


Curve = tuple[Key, ...]


def parse_curve(text: str) -> Curve:
    """A curve, or a plain number as a curve with one key.

    Frames that aren't stated go on as the last two did. Raises InputError for expressions and other text.
    """
    if (plain := number_of(text.strip())) is not None:
        return (Key(0.0, plain),)
    start = re.match(r"\s*curve\b(\s+[iI]\b)?", text)
    if start is None:
        raise InputError(f"{text[:40]!r} is an expression: bake it into key frames in Nuke")
    keys: list[Key] = []
    kind, frame = "S", None
    for token in text[start.end() :].split():
        found = _TOKEN.fullmatch(token)
        if found is None:
            raise InputError(f"{token[:40]!r} in a curve: bake it into key frames in Nuke")
        name, number = found["name"], number_of(found["number"] or "0")
        if number is None:
            raise InputError(f"{token[:40]!r} in a curve is too large")
        if found["kind"]:
            kind = found["kind"]
        elif name == "x":
            frame = number
        elif name == "":
            if found["outside"]:
                continue
            keys.append(Key(_next_frame(keys) if frame is None else frame, number, kind))
            frame = None
        elif not keys:
            raise InputError(f"{token[:40]!r} before the first key of a curve")
        else:
            field = {"s": "left", "t": "right", "u": "reach_left", "v": "reach_right"}[name]
            value: Any = min(max(number, 0.0), LONGEST) if name in "uv" else number
            keys[-1] = keys[-1]._replace(**{field: value})
    keys = [key._replace(right=key.left) if key.right is None else key for key in keys]
    if not keys:
        raise InputError("a curve without keys")
    for a, b in zip(keys, keys[1:], strict=False):
        if not a.frame < b.frame:
            raise InputError(f"frame {b.frame:g} after {a.frame:g} in a curve: frames must increase")
    if max(abs(key.frame) for key in keys) > MAX_FRAME:
        raise InputError(f"a curve has frames beyond {MAX_FRAME:g}")
    return tuple(keys)


def evaluate(curve: Curve, at: np.ndarray) -> np.ndarray:
    """The curve at frames [T]; constant before its first key and after its last.

    Given slopes and straight segments are exact. The slopes of smooth keys without any are Catmull-Rom's, and
    0 where a key is higher or lower than both neighbours; those of cubic keys make a natural spline.
    """
    frames = np.array([key.frame for key in curve])
    values = np.array([key.value for key in curve])
    if len(curve) == 1:
        return np.full(len(at), values[0])
    slopes = _slopes(curve, frames, values)
    out = np.interp(at, frames, values)
    segment = np.searchsorted(frames, at, side="right") - 1
    for i, (a, b) in enumerate(zip(curve, curve[1:], strict=False)):
        inside = segment == i
        if inside.any() and a.kind != "L":
            out[inside] = a.value if a.kind == "K" else _bezier(a, b, *slopes[i], at[inside])
    return out


def is_straight(curve: Curve) -> bool:
    """Whether the curve is constant or linear between its keys."""
    return all(key.kind in "KL" for key in curve[:-1])


def _next_frame(keys: list[Key]) -> float:
    if len(keys) < 2:
        return keys[0].frame + 1 if keys else 0.0
    return 2 * keys[-1].frame - keys[-2].frame


def _slopes(curve: Curve, frames: np.ndarray, values: np.ndarray) -> list[tuple[float, float]]:
    """Of each segment: the slopes at its begin and its end."""
    steps = np.diff(values) / np.diff(frames)
    around = (values[2:] - values[:-2]) / (frames[2:] - frames[:-2])
    catmull = np.concatenate([steps[:1], around, steps[-1:]])
    peak = np.concatenate([[False], steps[1:] * steps[:-1] <= 0, [False]])
    natural = CubicSpline(frames, values, bc_type="natural")(frames, 1) if len(curve) > 2 else catmull
    chosen = {"S": np.where(peak, 0.0, catmull), "R": catmull, "C": natural}
    found = []
    for i, (a, b) in enumerate(zip(curve, curve[1:], strict=False)):
        begin = chosen[a.kind][i] if a.kind in chosen else steps[i]
        end = chosen[b.kind][i + 1] if b.kind in chosen else steps[i]
        found.append((begin if a.right is None else a.right, end if b.left is None else b.left))
    return found


def _bezier(a: Key, b: Key, begin: float, end: float, at: np.ndarray) -> np.ndarray:
    """A segment with these slopes at its ends, at frames within it."""
    length = b.frame - a.frame
    reach_a, reach_b = length * a.reach_right / 3, length * b.reach_left / 3
    x = a.frame, a.frame + reach_a, b.frame - reach_b, b.frame
    y = a.value, a.value + begin * reach_a, b.value - end * reach_b, b.value
    if a.reach_right == b.reach_left == 1:
        return _cubic(y, (at - a.frame) / length)
    fine = np.linspace(0, 1, _FINE)
    return np.interp(at, _cubic(x, fine), _cubic(y, fine))


def _cubic(points: tuple[float, float, float, float], s: np.ndarray) -> np.ndarray:
    p0, p1, p2, p3 = points
    return (1 - s) ** 3 * p0 + 3 * (1 - s) ** 2 * s * p1 + 3 * (1 - s) * s**2 * p2 + s**3 * p3
