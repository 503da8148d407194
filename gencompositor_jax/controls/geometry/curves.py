"""Curves through the points and values of key frames: pure functions."""

import numpy as np
from scipy.interpolate import PchipInterpolator

SAME = 1e-6  # pixels, or fractions of the clip: keys closer than this are one


def interpolate(times: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Monotone cubic (PCHIP) through `values` [n, ...] at increasing `times` [n], as [len(at), ...].

    Between two keys the values stay within theirs; before the first and after the last they are constant. Of
    several keys at the same time the last one is used.
    """
    last = np.append(np.diff(times) > SAME, True)
    times, values = times[last], values[last]
    if len(times) == 1:
        return np.repeat(values, len(at), axis=0).astype(np.float64)
    return PchipInterpolator(times, values)(np.clip(at, times[0], times[-1]))


def arc_path(points: np.ndarray, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """A smooth curve through `points` [n, 2], parametrised by arc length: constant speed.

    Returns positions [frames, 2], from the first point to the last, and the fraction [n] of the arc length at
    which each point is reached. PCHIP over the chord length: each coordinate stays between those of the two
    points, so the curve doesn't overshoot at the frame's edge.
    """
    chords = np.append(0, np.cumsum(np.hypot(*np.diff(points, axis=0).T)))
    if chords[-1] <= SAME:  # it doesn't move; several keys are spread evenly over the clip
        return np.repeat(points[:1], frames, axis=0), np.linspace(0, 1, len(points))
    new = np.append(True, np.diff(chords) > SAME)
    knots = chords[new]
    curve = PchipInterpolator(knots, points[new])
    pieces = max(2, 8192 // len(knots))  # per segment; the knots themselves are among the samples
    fine = np.append(np.linspace(knots[:-1], knots[1:], pieces, endpoint=False, axis=1).ravel(), knots[-1])
    length = np.append(0, np.cumsum(np.hypot(*np.diff(curve(fine), axis=0).T)))
    xy = curve(np.interp(np.linspace(0, length[-1], frames), length, fine))
    return xy, np.interp(chords, fine, length) / length[-1]
