"""What is salient in a clip, by a network that sees each frame in several ways, and small objects larger."""

import cv2
import numpy as np

from gencompositor_jax.controls.element.segmenters.u2net import SIDE, saliency
from gencompositor_jax.controls.media.frames import Frames

HALF = 128  # of 255: probability 1/2
_GAMMA = 0.6  # brightens: dark clothes before a dark ground
_BELOW = 1 / 3  # of the height, added below: people are often cut off there
_STEP = 4  # every so many frames are enough to find where the object is
_MARGIN = 0.3  # of the object's box, on each side, that the second look has around it
_WHOLE = 0.7  # fraction of the frame from which a second look would show the same
_NEAR = 6  # frames before and after whose boxes a second look includes, so that it moves smoothly
_AGREE = 0.6  # intersection over union of both looks from which the second one is believed


def salient_maps(frames: Frames, size: tuple[int, int]) -> np.ndarray:
    """Probabilities 0..255, uint8 [T, h, w] with (h, w) = size, of uint8 RGB frames [T, H, W, 3].

    A second look shows small objects larger. It is used for the whole clip, or, if it finds something else
    than the first one, not at all.
    """
    count, height, width = frames.shape[:3]
    some = np.unique([*range(0, count, _STEP), count - 1])
    first = np.stack([look(frames[int(t)], size) for t in some])
    boxes = _boxes(first, some, (count, height, width))
    if boxes is not None:
        second = np.zeros((count, *size), np.uint8)
        scale = np.array([size[1] / width, size[0] / height])
        for t, (box, frame) in enumerate(zip(boxes, frames, strict=True)):
            x0, y0, x1, y1 = box
            left, top = np.floor([x0, y0] * scale).astype(int)
            right, bottom = np.ceil([x1, y1] * scale).astype(int)
            second[t, top:bottom, left:right] = look(frame[y0:y1, x0:x1], (bottom - top, right - left))
        if _agree(first, second[some]):
            return second
    out = np.zeros((count, *size), np.uint8)
    out[some] = first
    for t in sorted(set(range(count)) - set(some.tolist())):
        out[t] = look(frames[t], size)
    return out


def look(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Probabilities 0..255, uint8 [h, w], for uint8 RGB [H, W, 3]: the largest of four views.

    The small network misses a part of many objects in one view, and seldom adds something: so the views are
    as they are, mirrored, brighter, and with more below.
    """
    plain = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    brighter = np.rint(255 * (np.arange(256) / 255) ** _GAMMA).astype(np.uint8)[plain]
    more = cv2.copyMakeBorder(plain, 0, round(SIDE * _BELOW), 0, 0, cv2.BORDER_REPLICATE)
    more = cv2.resize(more, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    seen = saliency(np.stack([plain, plain[:, ::-1], brighter, more]))
    lower = cv2.resize(seen[3], (SIDE, round(SIDE * (1 + _BELOW))), interpolation=cv2.INTER_LINEAR)[:SIDE]
    best = np.max([seen[0], seen[1][:, ::-1], seen[2], lower], axis=0)
    return np.rint(255 * cv2.resize(best, size[::-1], interpolation=cv2.INTER_LINEAR)).astype(np.uint8)


def _agree(first: np.ndarray, second: np.ndarray) -> bool:
    one, two = first >= HALF, second >= HALF
    both, either = (one & two).sum((1, 2)), (one | two).sum((1, 2))
    seen = either > 0
    return bool(seen.any() and np.median(both[seen] / either[seen]) >= _AGREE)


def _boxes(maps: np.ndarray, times: np.ndarray, native: tuple[int, int, int]) -> np.ndarray | None:
    """Per frame the pixels of a second look: left, top, right, bottom, int [T, 4]; None if it needs none.

    maps: uint8 [n, h, w] of the frames `times` [n] of a clip of shape (T, H, W).
    """
    count, height, width = native
    scale = np.array([width / maps.shape[2], height / maps.shape[1]] * 2)
    found = np.full((len(maps), 4), np.nan)
    for i, each in enumerate(maps):
        x, y, w, h = cv2.boundingRect((each >= HALF).view(np.uint8))
        if w:
            margin = _MARGIN * max(w, h)
            found[i] = np.array([x - margin, y - margin, x + w + margin, y + h + margin]) * scale
    known = ~np.isnan(found[:, 0])
    if not known.any():
        return None
    all_times = np.arange(count)
    every = np.stack([np.interp(all_times, times[known], side) for side in found[known].T], axis=1)
    padded = np.pad(every, ((_NEAR, _NEAR), (0, 0)), mode="edge")
    near = np.lib.stride_tricks.sliding_window_view(padded, 2 * _NEAR + 1, axis=0)
    boxes = np.concatenate([np.floor(near[:, :2].min(-1)), np.ceil(near[:, 2:].max(-1))], axis=1)
    boxes = np.clip(boxes, 0, np.array([width, height] * 2)).astype(int)
    covered = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / (width * height)
    return boxes if np.median(covered) < _WHOLE else None
