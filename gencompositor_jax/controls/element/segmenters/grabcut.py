"""The object at a point or in a box, without a network: GrabCut, carried from frame to frame by flow.

Rother, Kolmogorov and Blake, GrabCut: Interactive foreground extraction using iterated graph cuts, 2004. What
has the colours of the object and touches it is taken for a part of it.
"""

import cv2
import numpy as np

from gencompositor_jax.controls.element.segmenters.request import Box, Point
from gencompositor_jax.controls.element.segmenters.steady import Flow, pulled

_SEED = 0.02  # of the shorter side: radius around a point that is certainly inside
_AROUND = 0.2  # likewise, of what may be inside where nothing salient is at the point
_FILLED = 0.2  # fraction of a box from which what is salient in it is taken for its object
_BAND = 0.02  # of the longer side: how far an outline may differ from where the flow carries it
_FIRST, _NEXT = 5, 2  # iterations


def followed(frames: np.ndarray, request: Point | Box, salient: np.ndarray) -> np.ndarray:
    """Masks 0 or 255, uint8 [T, h, w], of uint8 RGB frames [T, h, w, 3].

    request: in pixels of these frames. salient: bool [h, w], what a network finds in the first one: the
    first guess at the object.
    """
    flow, mask = Flow(), _cut(frames[0], _start(frames.shape[1:3], request, salient), _FIRST)
    out = [mask]
    for last, frame in zip(frames, frames[1:], strict=False):
        there, _ = flow.between(frame, last)
        carried = pulled(mask.astype(np.float32), there) >= 0.5
        mask = _cut(frame, _near(carried), _NEXT) if carried.any() else carried
        out.append(mask)
    return 255 * np.stack(out).astype(np.uint8)


def _start(size: tuple[int, ...], request: Point | Box, salient: np.ndarray) -> np.ndarray:
    """GrabCut's labels of the first frame."""
    height, width = size
    labels = np.full((height, width), cv2.GC_BGD, np.uint8)
    if isinstance(request, Box):
        left, top = max(0, round(request.left)), max(0, round(request.top))
        box = np.s_[top : max(top + 1, round(request.bottom)), left : max(left + 1, round(request.right))]
        labels[box] = cv2.GC_PR_FGD
        if salient[box].mean() >= _FILLED:
            labels[box] = np.where(salient[box], cv2.GC_PR_FGD, cv2.GC_PR_BGD)
        if not (labels == cv2.GC_BGD).any():
            labels[0], labels[-1], labels[:, 0], labels[:, -1] = [cv2.GC_BGD] * 4
        return labels
    x, y = min(round(request.x), width - 1), min(round(request.y), height - 1)
    labels[:] = cv2.GC_PR_BGD
    labels[0], labels[-1], labels[:, 0], labels[:, -1] = [cv2.GC_BGD] * 4
    _, parts = cv2.connectedComponents(salient.view(np.uint8))
    if parts[y, x] > 0:
        labels[parts == parts[y, x]] = cv2.GC_PR_FGD
    else:
        cv2.circle(labels, (x, y), round(_AROUND * min(size)), cv2.GC_PR_FGD, -1)
    cv2.circle(labels, (x, y), max(1, round(_SEED * min(size))), cv2.GC_FGD, -1)
    return labels


def _near(carried: np.ndarray) -> np.ndarray:
    """GrabCut's labels around a mask of the last frame that the flow has carried to this one."""
    radius = max(2, round(_BAND * max(carried.shape)))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    inside = carried.view(np.uint8)
    labels = np.where(carried, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[cv2.erode(inside, disc) > 0] = cv2.GC_FGD
    labels[cv2.dilate(inside, disc) == 0] = cv2.GC_BGD
    return labels


def _cut(frame: np.ndarray, labels: np.ndarray, iterations: int) -> np.ndarray:
    """The object, bool [h, w]: of its parts those that are large or certain."""
    wanted = labels.copy()
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    # Its Gaussian mixtures begin with k-means, which draws from OpenCV's generator.
    cv2.setRNGSeed(0)
    cv2.grabCut(frame, labels, (0, 0, 1, 1), background, foreground, iterations, cv2.GC_INIT_WITH_MASK)
    inside = cv2.medianBlur(((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8), 5)
    _, parts, stats, _ = cv2.connectedComponentsWithStats(inside)
    areas = stats[:, cv2.CC_STAT_AREA]
    certain = np.unique(parts[(wanted == cv2.GC_FGD) & (inside > 0)])
    if not len(certain):
        certain = np.flatnonzero(areas[1:] >= areas[1:].max(initial=0) * 0.3) + 1
    return np.isin(parts, certain[certain > 0])
