"""Orientation: which way up a picture is shown, by the display matrix of its file or stream."""

from typing import NamedTuple

import numpy as np


class Orientation(NamedTuple):
    """One of the eight ways to lay a picture: transposed first, then mirrored."""

    transposed: bool = False  # rows and columns exchanged
    mirrored: bool = False  # left and right exchanged
    flipped: bool = False  # top and bottom exchanged

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) as shown."""
        return (height, width) if self.transposed else (width, height)

    def apply(self, picture: np.ndarray) -> np.ndarray:
        """A view of [H, W] or [H, W, C] as it is shown."""
        if self.transposed:
            picture = picture.swapaxes(0, 1)
        return picture[:: -1 if self.flipped else 1, :: -1 if self.mirrored else 1]


def orientation_of(matrix: bytes | None) -> Orientation:
    """The orientation nearest to a display matrix, nine int32 (ISO/IEC 14496-12, 8.3.2); None: upright.

    The point (x, y) of the picture is shown at (a x + c y, b x + d y), up to a translation; the matrix holds
    a, b, u, c, d, v, x, y, w.
    """
    if matrix is None or len(matrix) != 36:
        return Orientation()
    a, b, _, c, d = (int(value) for value in np.frombuffer(matrix, np.int32)[:5])
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0)
