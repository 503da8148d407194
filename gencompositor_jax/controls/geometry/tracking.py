"""Tracking one point of the background: Lucas-Kanade on image pyramids with a forward-backward check."""

import cv2
import numpy as np

from gencompositor_jax.controls.media.frames import Frames
from gencompositor_jax.errors import InputError

GRID = 9  # side of the grid of points around the given one that are tracked with it
SPACING = 2.0  # pixels between them
WINDOW = 21  # side of Lucas-Kanade's window in pixels
LEVELS = 4  # of the pyramid above full resolution: covers motion of some hundred pixels per frame
ROUND_TRIP = 0.7  # largest forward-backward error, in pixels
KEEP = 0.3  # fraction of the grid's points inside the frame that must pass the check
MIN_TEXTURE = 1.0  # squared grey levels per pixel: the gradient of noise of about two grey levels


def track_point(frames: Frames, xy: tuple[float, float]) -> tuple[np.ndarray, int | None, str]:
    """Track the point `xy` of the first frame through uint8 RGB frames [T, H, W, 3].

    Returns the positions float64 [T, 2], the first frame in which the point was lost (None if never; after it
    the last position is kept), and a sentence for the user. InputError if the point is outside the frame or
    has no texture around it.
    """
    height, width = frames.shape[1:3]
    if not (np.isfinite(xy).all() and 0 <= xy[0] < width and 0 <= xy[1] < height):
        raise InputError(f"track:{xy[0]:g},{xy[1]:g}: outside the background of {width}x{height} pixels")
    out = np.repeat(np.array([xy], np.float64), len(frames), axis=0)
    before: np.ndarray | None = None
    for t, frame in enumerate(frames):
        after = np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY))
        if before is None:
            _check_texture(after, xy)
            before = after
            continue
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
    """The position in the next grey frame; (None, reason) if the point is lost."""
    height, width = before.shape
    start = _grid(xy)
    start = start[((start >= 0) & (start < (width, height))).all(axis=1)]
    forward, found = _flow(before, after, start)
    back, returned = _flow(after, before, forward)
    good = found & returned & (np.linalg.norm(back - start, axis=1) < ROUND_TRIP)
    if good.sum() < KEEP * len(start):
        return None, "the forward-backward check failed"
    moved = xy + np.median((forward - start)[good], axis=0)  # robust if part of the grid is on another object
    if not (0 <= moved[0] < width and 0 <= moved[1] < height):
        return None, "it left the frame"
    return moved, ""


def _flow(before: np.ndarray, after: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 [n, 2] the points in the next frame, bool [n] whether they were found."""
    guess, window = np.empty_like(points), (WINDOW, WINDOW)
    moved, found, _ = cv2.calcOpticalFlowPyrLK(before, after, points, guess, winSize=window, maxLevel=LEVELS)
    return np.asarray(moved), np.asarray(found)[:, 0] > 0


def _check_texture(grey: np.ndarray, xy: tuple[float, float]) -> None:
    """InputError if the smaller eigenvalue of the patch's structure tensor is below that of noise.

    Lucas-Kanade needs gradients in two directions; else the point slides along an edge.
    """
    patch = _patch(grey, np.array(xy))
    dy, dx = np.gradient(patch)
    tensor = np.array([[(dx * dx).mean(), (dx * dy).mean()], [(dx * dy).mean(), (dy * dy).mean()]])
    if np.linalg.eigvalsh(tensor)[0] < MIN_TEXTURE:
        raise InputError(
            f"track:{xy[0]:g},{xy[1]:g}: flat or a straight edge there, can't be tracked; "
            "pass a corner or a textured point"
        )


def _grid(xy: np.ndarray) -> np.ndarray:
    """float32 [GRID², 2]: the points around `xy` that are tracked with it."""
    offsets = (np.arange(GRID) - (GRID - 1) / 2) * SPACING
    return (np.stack(np.meshgrid(offsets, offsets), axis=-1).reshape(-1, 2) + xy).astype(np.float32)


def _patch(grey: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """float32 [WINDOW, WINDOW] around a point, interpolated linearly, with replicated edges."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    maps = [(offsets + c).astype(np.float32) for c in xy]
    x, y = np.meshgrid(*maps)
    return cv2.remap(grey, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
