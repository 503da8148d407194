"""Checkerboards: the squares by which programs show transparency, drawn into a picture by mistake."""

import numpy as np

_NEUTRAL = 12  # 8-bit levels between the channels of a grey
_APART = (8, 130)  # 8-bit levels between the two greys
_PLAIN = 0.9  # fraction of the edge's pixels that have one of the two greys
_MIN_SQUARES = 4  # along an edge
_MIN_SIDE = 3  # pixels; smaller squares are a texture


def checkerboard(frame: np.ndarray) -> tuple[tuple[int, int, int], tuple[int, int, int]] | None:
    """The two greys of a checkerboard, the lighter first, if it fills the borders of uint8 RGB [H, W, 3].

    None unless two greys alternate in squares of one size along at least two of the four edges.
    """
    edges = [_squares(edge.astype(np.int16)) for edge in (frame[0], frame[-1], frame[:, 0], frame[:, -1])]
    found = [edge for edge in edges if edge is not None]
    if len(found) < 2:
        return None
    light, dark = (int(np.median([greys[i] for greys in found])) for i in (0, 1))
    return (light, light, light), (dark, dark, dark)


def _squares(edge: np.ndarray) -> tuple[float, float] | None:
    """The two greys that alternate along an edge, int [N, 3]; None if none do."""
    grey = edge[np.ptp(edge, axis=-1) <= _NEUTRAL].mean(axis=-1)
    if len(grey) < _PLAIN * len(edge):
        return None
    if np.ptp(grey) < _APART[0]:
        return None
    middle = (grey.min() + grey.max()) / 2
    light, dark = np.median(grey[grey >= middle]), np.median(grey[grey < middle])
    if not _APART[0] <= light - dark <= _APART[1]:
        return None
    plain = np.minimum(np.abs(grey - light), np.abs(grey - dark)) <= (light - dark) / 4
    changes = np.flatnonzero(np.diff(grey >= middle))
    sides = np.diff(changes)
    if plain.mean() < _PLAIN or len(changes) < _MIN_SQUARES:
        return None
    if np.median(sides) < _MIN_SIDE:
        return None
    # An element that touches the edge interrupts the squares.
    regular = np.abs(sides - np.median(sides)) <= 1
    return (float(light), float(dark)) if regular.mean() >= 0.75 else None
