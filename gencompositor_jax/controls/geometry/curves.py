"""Curves through the points and values of key frames: pure functions."""

from collections.abc import Callable, Sequence

import numpy as np

from gencompositor_jax.controls.geometry.easing import KeyEasing, ease

SAME = 1e-6  # pixels, or fractions of the clip: keys closer than this are one


def interpolate(
    times: np.ndarray,
    values: np.ndarray,
    at: np.ndarray,
    easings: Sequence[KeyEasing | None] | None = None,
) -> np.ndarray:
    """Values [n, ...] of keys at increasing `times` [n], at other times: [len(at), ...].

    easings: n of them, from each key to the next one: on a straight line, except for None, which is a
    monotone cubic (PCHIP) through all keys. Between two keys the values stay within theirs; before the first
    and after the last they are constant. Of several keys at the same time the last one is used.
    """
    last = np.append(np.diff(times) > SAME, True)
    times, values = times[last], values[last]
    if len(times) == 1:
        return np.repeat(values, len(at), axis=0).astype(np.float64)
    at = np.clip(at, times[0], times[-1])
    out = _pchip(times, values)(at)
    segment = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(times) - 2)
    for i, easing in enumerate([] if easings is None else np.array(easings, object)[last][:-1]):
        inside = segment == i
        if easing is not None and inside.any():
            done = ease(easing, (at[inside] - times[i]) / (times[i + 1] - times[i]))
            done = done.reshape(-1, *(1,) * (values.ndim - 1))
            out[inside] = values[i] * (1 - done) + values[i + 1] * done
    return out


def arc_path(points: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A smooth curve through `points` [n, 2], parametrised by arc length: constant speed.

    Returns positions [len(at), 2] at fractions `at` of the arc length, 0 to 1, and the fraction [n] at which
    each point is reached. PCHIP over the chord length: each coordinate stays between those of the two
    points, so the curve doesn't overshoot at the frame's edge.
    """
    chords = np.append(0, np.cumsum(np.hypot(*np.diff(points, axis=0).T)))
    if chords[-1] <= SAME:  # it doesn't move; several keys are spread evenly over the clip
        return np.repeat(points[:1], len(at), axis=0), np.linspace(0, 1, len(points))
    new = np.append(True, np.diff(chords) > SAME)
    knots = chords[new]
    curve = _pchip(knots, points[new])
    pieces = max(2, 8192 // len(knots))  # per segment; the knots themselves are among the samples
    fine = np.append(np.linspace(knots[:-1], knots[1:], pieces, endpoint=False, axis=1).ravel(), knots[-1])
    length = np.append(0, np.cumsum(np.hypot(*np.diff(curve(fine), axis=0).T)))
    xy = curve(np.interp(at * length[-1], length, fine))
    return xy, np.interp(chords, fine, length) / length[-1]


def _pchip(times: np.ndarray, values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The monotone cubic through `values` [n, ...] at increasing `times` [n]."""
    from scipy.interpolate import PchipInterpolator  # longer to import than all else of a command's start

    curve: Callable[[np.ndarray], np.ndarray] = PchipInterpolator(times, values)
    return curve
