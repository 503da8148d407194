"""Easing: how a movement speeds up and slows down, as polynomials of the time s, 0 to 1, within it.

They are cubic Hermite curves whose slope is 0 where the movement is slow and 1 where it isn't; their Bezier
handles lie at a third of the time, as those of After Effects' Easy Ease with its influence of 33 %.
"""

from typing import Literal

import numpy as np

Easing = Literal["linear", "ease-in", "ease-out", "ease-in-out"]
KeyEasing = Literal["linear", "ease-in", "ease-out", "ease-in-out", "hold"]  # from one key frame to the next


def ease(easing: KeyEasing, s: np.ndarray) -> np.ndarray:
    """How much of the movement is done after the fraction `s` of its time.

    "ease-in" begins slowly, "ease-out" ends slowly, "ease-in-out" does both; "hold" jumps at the end.
    """
    match easing:
        case "ease-in":
            return 2 * s**2 - s**3
        case "ease-out":
            return s + s**2 - s**3
        case "ease-in-out":
            return 3 * s**2 - 2 * s**3
        case "hold":
            return np.where(s < 1, 0.0, 1.0)
    return s
