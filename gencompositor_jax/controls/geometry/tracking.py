"""Following one point of the background: Lucas-Kanade on image pyramids, checked forth and back."""

import cv2
import numpy as np

from gencompositor_jax.errors import InputError

GRID = 9  # side of the grid of points around the click that are followed together
SPACING = 2.0  # pixels between them
WINDOW = 21  # side of Lucas-Kanade's window in pixels
LEVELS = 4  # of the pyramid above the picture itself: follows steps of some hundred pixels
ROUND_TRIP = 0.7  # pixels a point may miss its start by when it is followed forth and back
KEEP = 0.3  # share of the grid (what of it lies in the frame) that must survive the round trip
MIN_TEXTURE = 1.0  # squared grey levels per pixel: the gradient that noise of about two grey levels makes


def track_point(frames: np.ndarray, xy: tuple[float, float]) -> tuple[np.ndarray, int | None, str]:
    """Follows the point `xy` of the first frame through uint8 RGB frames [T, H, W, 3].

    Returns the positions float64 [T, 2], the first frame in which the point was lost (None if never; it then
    stays at its last position), and a sentence that says so. Raises InputError where the point is outside the
    frame or nothing around it can be followed (no texture).
    """
    height, width = frames.shape[1:3]
    if not (np.isfinite(xy).all() and 0 <= xy[0] < width and 0 <= xy[1] < height):
        raise InputError(f"track:{xy[0]:g},{xy[1]:g}: outside the background of {width}x{height} pixels")
    before = cv2.cvtColor(frames[0], cv2.COLOR_RGB2GRAY)
    _check_texture(before, xy)
    out = np.repeat(np.array([xy], np.float64), len(frames), axis=0)
    for t in range(1, len(frames)):
        after = cv2.cvtColor(frames[t], cv2.COLOR_RGB2GRAY)
        moved, reason = _step(before, after, out[t - 1])
        if moved is None:
            x, y = out[t - 1]
            out[t:] = out[t - 1]
            lost = f"track:{xy[0]:g},{xy[1]:g} was lost in frame {t} of 0..{len(frames) - 1} ({reason})"
            return out, t, f"{lost}; it stays at {x:.0f},{y:.0f}"
        out[t:] = moved
        before = after
    return out, None, f"track:{xy[0]:g},{xy[1]:g} was followed through all {len(frames)} frames"


def _step(before: np.ndarray, after: np.ndarray, xy: np.ndarray) -> tuple[np.ndarray | None, str]:
    """Where the point of one grey frame is in the next; (None, reason) where that can't be said."""
    height, width = before.shape
    start = _grid(xy)
    start = start[((start >= 0) & (start < (width, height))).all(axis=1)]
    forth, found = _flow(before, after, start)
    back, returned = _flow(after, before, forth)
    good = found & returned & (np.linalg.norm(back - start, axis=1) < ROUND_TRIP)
    if good.sum() < KEEP * len(start):
        return None, "the points around it don't lead back to it"
    moved = xy + np.median(
        (forth - start)[good], axis=0
    )  # robust where part of the grid is on something else
    if not (0 <= moved[0] < width and 0 <= moved[1] < height):
        return None, "it left the frame"
    return moved, ""


def _flow(before: np.ndarray, after: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 [n, 2] where each point goes, bool [n] whether it was found."""
    guess, window = np.empty_like(points), (WINDOW, WINDOW)
    moved, found, _ = cv2.calcOpticalFlowPyrLK(before, after, points, guess, winSize=window, maxLevel=LEVELS)
    return np.asarray(moved), np.asarray(found)[:, 0] > 0


def _check_texture(grey: np.ndarray, xy: tuple[float, float]) -> None:
    """Lucas-Kanade needs gradients in two directions, or the point slides along an edge.

    So the smaller eigenvalue of the patch's structure tensor must stand above what noise makes.
    """
    patch = _patch(grey, np.array(xy))
    dy, dx = np.gradient(patch)
    tensor = np.array([[(dx * dx).mean(), (dx * dy).mean()], [(dx * dy).mean(), (dy * dy).mean()]])
    if np.linalg.eigvalsh(tensor)[0] < MIN_TEXTURE:
        raise InputError(
            f"track:{xy[0]:g},{xy[1]:g}: the background is flat or a straight edge there, nothing to follow; "
            "choose a corner or a textured spot"
        )


def _grid(xy: np.ndarray) -> np.ndarray:
    """float32 [GRID², 2]: the points around `xy` that are followed with it."""
    offsets = (np.arange(GRID) - (GRID - 1) / 2) * SPACING
    return (np.stack(np.meshgrid(offsets, offsets), axis=-1).reshape(-1, 2) + xy).astype(np.float32)


def _patch(grey: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """float32 [WINDOW, WINDOW] around a point, edges repeated, between pixels interpolated."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    maps = [(offsets + c).astype(np.float32) for c in xy]
    x, y = np.meshgrid(*maps)
    return cv2.remap(grey, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
