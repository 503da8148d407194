"""Curves through the points and values that users give at a few moments of the clip: pure functions."""

import numpy as np
from scipy.interpolate import PchipInterpolator

SAME = 1e-6  # pixels or shares of the clip: keys nearer to each other than this are one


def interpolate(times: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Monotone cubic (PCHIP) through `values` [n, ...] at increasing `times` [n], as [len(at), ...].

    Smooth, never beyond two neighbouring keys, and held before the first and after the last. Of several keys
    at the same time the last counts.
    """
    last = np.append(np.diff(times) > SAME, True)
    times, values = times[last], values[last]
    if len(times) == 1:
        return np.repeat(values, len(at), axis=0).astype(np.float64)
    return PchipInterpolator(times, values)(np.clip(at, times[0], times[-1]))


def arc_path(points: np.ndarray, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """A smooth curve through `points` [n, 2], run through at constant speed.

    Returns positions [frames, 2], from the first point to the last, and the share [n] of the way at which
    each point is reached. PCHIP over the chords' length: each coordinate stays between its neighbours, so a
    point at the border doesn't send the curve outside.
    """
    chords = np.append(0, np.cumsum(np.hypot(*np.diff(points, axis=0).T)))
    if chords[-1] <= SAME:  # it stays where it is; its keys, if several, are spread over the clip
        return np.repeat(points[:1], frames, axis=0), np.linspace(0, 1, len(points))
    new = np.append(True, np.diff(chords) > SAME)
    knots = chords[new]
    curve = PchipInterpolator(knots, points[new])
    pieces = max(2, 8192 // len(knots))  # per segment; the knots themselves are among the samples
    fine = np.append(np.linspace(knots[:-1], knots[1:], pieces, endpoint=False, axis=1).ravel(), knots[-1])
    length = np.append(0, np.cumsum(np.hypot(*np.diff(curve(fine), axis=0).T)))
    xy = curve(np.interp(np.linspace(0, length[-1], frames), length, fine))
    return xy, np.interp(chords, fine, length) / length[-1]
