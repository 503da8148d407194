"""The released application's trajectory and target mask, reimplemented for comparison."""

from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np


def released_points(clicks: np.ndarray, frames: int = 100) -> np.ndarray:
    """Linear interpolation between clicks, int [n >= 2, 2] -> int [frames, 2].

    Each of the n - 1 segments gets frames // (n - 1) points, the last one also the remainder. A segment
    includes both of its ends, so inner clicks occur twice, and coordinates are truncated. With more clicks
    than frames all segments but the last are empty.
    """
    segments = len(clicks) - 1
    counts = [frames // segments] * (segments - 1)
    counts.append(frames - sum(counts))
    parts = [
        (start + np.arange(m)[:, None] / max(m - 1, 1) * (end - start)).astype(int)
        for start, end, m in zip(clicks[:-1], clicks[1:], counts, strict=True)
    ]
    return np.concatenate(parts)


def released_mask(
    foreground: np.ndarray,
    points: np.ndarray,
    size: tuple[int, int],
    scales: Sequence[float | None] = (1.0,),
    anchor: Literal["center", "bottom"] = "center",
) -> np.ndarray:
    """The target mask, bool [M, H, W] (recorded case: tests/golden/movemask).

    Per frame: grey <= 250, the external contour of the largest area, scaled about its truncated centroid,
    rounded, moved to the point and filled.

    Args:
        foreground: uint8 RGB [M, h, w, 3], the element on white.
        points: int [M, 2], (x, y) per frame.
        size: (height, width) of the background.
        scales: one scale (the release's script), or up to five keys spread over the clip (its application).
            Keys that are None or 0 are dropped, and the last valid key is repeated in their stead.
        anchor: whether the centre of the bounding box or the middle of its bottom edge is at the point.
    """
    count = min(len(foreground), len(points))
    scale = _scale_per_frame(scales, count)
    out = np.zeros((count, *size), bool)
    for t in range(count):
        dark = (cv2.cvtColor(foreground[t], cv2.COLOR_RGB2GRAY) <= 250).astype(np.uint8)
        contours, _ = cv2.findContours(dark, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        if not contours:
            continue
        contour = _scaled(max(contours, key=cv2.contourArea), scale[t])
        x, y, w, h = cv2.boundingRect(contour)
        cx, cy = (int(v) for v in points[t])
        corner = (cx - w // 2, cy - h // 2 if anchor == "center" else cy - h)
        canvas = np.zeros(size, np.uint8)
        cv2.fillPoly(canvas, [contour + np.array(corner, np.int32) - np.array([x, y], np.int32)], 1)
        out[t] = canvas > 0
    return out


def _scale_per_frame(scales: Sequence[float | None], count: int) -> np.ndarray:
    valid = [s for s in scales if s] or [1.0]
    keys = valid + [valid[-1]] * (len(scales) - len(valid))
    if len(keys) == 1:
        return np.full(count, keys[0])
    at = [int(i * (count - 1) / (len(keys) - 1)) for i in range(len(keys))]
    return np.interp(np.arange(count), at, keys)


def _scaled(contour: np.ndarray, scale: float) -> np.ndarray:
    moments = cv2.moments(contour)
    # A contour without area has no centroid; the release's script divides by zero here.
    if scale == 1.0 or moments["m00"] == 0:
        return contour
    centre = np.array([int(moments["m10"] / moments["m00"]), int(moments["m01"] / moments["m00"])])
    return np.rint(scale * (contour - centre) + centre).astype(np.int32)
