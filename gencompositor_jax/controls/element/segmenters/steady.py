"""Maps of a clip made steady in time: each is averaged with its neighbours' along the optical flow."""

from typing import Any

import cv2
import numpy as np

from gencompositor_jax.controls.media.frames import Frames

TRUST = 8.0  # weight of the running average, against 1 for a frame's own map
_ROUND_TRIP = 1.0  # pixels of forward-backward error beyond which flow isn't trusted
_COLOUR = 24.0  # 8-bit levels between a pixel and where it comes from, likewise


class Flow:
    """Dense optical flow (DIS: Kroeger et al., ECCV 2016) between frames of one size."""

    def __init__(self) -> None:
        self._dis: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def between(self, to: np.ndarray, of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where each pixel of frame `to` is in frame `of`, both uint8 RGB [h, w, 3].

        Returns float32 [h, w, 2], x and y in pixels of `of`, and how far that can be trusted, float32
        [h, w], 0 to 1.
        """
        first, second = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (to, of))
        forth = self._dis.calc(first, second, None)
        back = self._dis.calc(second, first, None)
        height, width = first.shape
        there = forth + np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
        error = np.linalg.norm(forth + pulled(back, there), axis=-1) / _ROUND_TRIP
        colour = np.abs(to.astype(np.float32) - pulled(of.astype(np.float32), there)).max(-1) / _COLOUR
        limits = np.array([width - 1, height - 1])
        inside = ((there >= 0) & (there <= limits)).all(-1)
        return there, inside * np.exp(-(error**2) - colour**2).astype(np.float32)


def pulled(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Values, float32 [h, w] or [h, w, n], at the positions of `Flow.between`; 0 outside."""
    x, y = there[..., 0], there[..., 1]
    return np.asarray(cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT))


def steadied(maps: np.ndarray, frames: Frames) -> np.ndarray:
    """Maps uint8 [T, h, w] of frames uint8 RGB [T, h, w, 3], averaged along the flow, likewise uint8.

    With m a map and w the warp to its frame, a running average a = (m + k w(a)) / (1 + k) goes through the
    clip forwards and backwards; the result is the mean of both. k is `TRUST` where the flow is consistent
    and 0 where it isn't, as at what appears.
    """
    if len(maps) == 1:
        return maps
    flow = Flow()
    forwards = _averaged(maps, frames, flow, range(len(maps)))
    backwards = _averaged(maps, frames, flow, range(len(maps) - 1, -1, -1))
    return ((forwards.astype(np.uint16) + backwards + 1) // 2).astype(np.uint8)


def _averaged(maps: np.ndarray, frames: Frames, flow: Flow, order: range) -> np.ndarray:
    out = np.empty_like(maps)
    average, last = maps[order[0]].astype(np.float32), None
    for t in order:
        frame, own = np.asarray(frames[t]), maps[t].astype(np.float32)
        if last is not None:
            there, trust = flow.between(frame, last)
            weight = TRUST * trust
            own = (own + weight * pulled(average, there)) / (1 + weight)
        average, last = own, frame
        out[t] = np.rint(average)
    return out
