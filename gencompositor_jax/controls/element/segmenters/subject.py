"""What a network found in a clip: whether it is one subject, and what to say where it isn't."""

import cv2
import numpy as np

from gencompositor_jax.controls.element.segmenters.salient import HALF
from gencompositor_jax.errors import InputError

_NOTHING = 3e-4  # fraction of the frame below which nothing was found
_EVERYTHING = 0.97  # and from which all of it was
_SUBJECT = 0.3  # parts from this fraction of a frame's largest part on are subjects, smaller ones are not,
_OFTEN = 0.5  # and there are several if they are there in this fraction of the frames
_JOINED = 0.01  # of the longer side: parts that are nearer to each other are one

REMEDIES = "pass --segment point:x,y or box:x,y,x,y on it, --key, or a mask clip (--mask)"


def subjects(maps: np.ndarray) -> np.ndarray:
    """Maps uint8 [T, h, w] with 0 where small parts are, and where nothing is nearer than they."""
    out = np.zeros_like(maps)
    for t, each in enumerate(maps):
        labels, areas = _parts(each)
        if len(areas):
            kept = np.isin(labels, np.flatnonzero(areas >= _SUBJECT * areas.max()) + 1)
            near, far = (
                cv2.distanceTransform((~part).view(np.uint8), cv2.DIST_L2, 3)
                for part in (kept, (labels > 0) & ~kept)
            )
            out[t] = np.where(far < near, 0, each) if ((labels > 0) & ~kept).any() else each
    return out


def check_found(maps: np.ndarray, name: str) -> None:
    """Raises InputError where maps uint8 [T, h, w] have no subject in any frame, or nothing but it in all."""
    covered = (maps >= HALF).mean((1, 2))
    if covered.max() < _NOTHING:
        raise InputError(f"{name}: segment auto was tried and nothing salient was found; {REMEDIES}")
    if covered.min() >= _EVERYTHING:
        raise InputError(f"{name}: segment auto was tried and no background was found; {REMEDIES}")


def several(maps: np.ndarray, native: tuple[int, int]) -> str | None:
    """A sentence for the user if maps uint8 [T, h, w] show several subjects in most frames, else None.

    It names a pixel of each in the first such frame of size (H, W).
    """
    first, times, seen = "", 0, 0
    for each in maps:
        labels, areas = _parts(each)
        if not len(areas):
            continue
        seen += 1
        large = np.flatnonzero(areas >= _SUBJECT * areas.max())
        times += len(large) > 1
        if len(large) > 1 and not first:
            scale = np.array([native[1] / maps.shape[2], native[0] / maps.shape[1]])
            order = large[np.argsort(-areas[large])][:4]
            middles = (_middle((labels == i + 1) & (each >= HALF)) * scale for i in order)
            first = ", ".join(f"{x:.0f},{y:.0f}" for x, y in middles)
    if seen == 0 or times < _OFTEN * seen:
        return None
    return f"several salient objects, at {first}; all are kept: --segment point:x,y cuts out one of them"


def _parts(each: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels, int [h, w], 0 outside; and the area of each part from label 1 on."""
    inside = (each >= HALF).view(np.uint8)
    radius = max(1, round(_JOINED * max(each.shape) / 2))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    count, labels = cv2.connectedComponents(cv2.dilate(inside, disc))
    labels[inside == 0] = 0
    return labels, np.bincount(labels.ravel(), minlength=count)[1:]


def _middle(part: np.ndarray) -> np.ndarray:
    """A pixel well inside a part, bool [h, w]: x, y."""
    depth = cv2.distanceTransform(np.pad(part, 1).view(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return np.array([x, y])
