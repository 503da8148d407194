"""Cutting an element out of its clip by what it is: from a request to frames with alpha."""

import dataclasses
import tempfile
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from gencompositor_jax.controls.element.segmenters import grabcut, grounding, matting, sam2, stored
from gencompositor_jax.controls.element.segmenters.request import Auto, Box, Point, Request, Words
from gencompositor_jax.controls.element.segmenters.salient import HALF, look, salient_maps
from gencompositor_jax.controls.element.segmenters.steady import steadied
from gencompositor_jax.controls.element.segmenters.subject import check_found, several, subjects
from gencompositor_jax.controls.media.frames import Computed, Frames, pieces
from gencompositor_jax.controls.media.spool import Spool
from gencompositor_jax.errors import InputError

SIDE = 512  # pixels of the longer side of the frames in which elements are found
LEAST = 0.6  # fraction of the first frame's area below which a part of an element may be lost
REACH = 3.0  # pixels of those frames, on both sides of a mask's outline, in which its edge may be


class Segmented(NamedTuple):
    """An element with straight alpha in the frames of its clip, and how it was found."""

    frames: Frames  # uint8 RGBA [T, H, W, 4]; in a temporary file if the clip's are not in memory
    method: str
    notes: tuple[str, ...] = ()  # sentences for the user


class _Maps(NamedTuple):
    """Probabilities 0..255 that pixels are of the element, uint8 [T, h, w]; the network; notes."""

    values: np.ndarray
    network: str
    notes: tuple[str, ...] = ()


def segmented(frames: Frames, request: Request, name: str) -> Segmented:
    """Cuts the element out of uint8 RGB frames [T, H, W, 3], which are read several times.

    Raises InputError where something that is needed isn't installed or stored, before the frames are read,
    and where no element is found. name: the clip's, for messages.
    """
    matting.check_installed()
    if isinstance(request, Words):
        _check_stored(request)
    small = _reduced(frames)
    if isinstance(request, Auto):
        found = _salient(frames, small, name)
    elif isinstance(request, Words):
        found = _described(frames, small, request, name)
    else:
        found = _pointed(frames, small, request, name)
    if not (found.values >= HALF).any():
        raise InputError(f"{name}: segment {request} was tried and found nothing; pass another point or box")
    cut = _cut(frames, found.values)
    return Segmented(cut, f"segment {request}: {found.network}", found.notes)


def _salient(frames: Frames, small: np.ndarray, name: str) -> _Maps:
    maps = subjects(steadied(salient_maps(frames, small.shape[1:3]), small))
    check_found(maps, name)
    note = several(maps, (frames.shape[1], frames.shape[2]))
    return _Maps(maps, "U^2-Net-p", () if note is None else (f"{name}: {note}",))


def _pointed(frames: Frames, small: np.ndarray, request: Point | Box, name: str) -> _Maps:
    folder = stored.find(stored.SAM2)
    if folder is not None:
        stored.check_installed()
        model = sam2.load(folder)
        maps = sam2.followed(model, frames, request, small.shape[1:3])
        return _Maps(maps, stored.SAM2.title, lost(maps, name))
    scale = small.shape[2] / frames.shape[2]
    salient = look(small[0], small.shape[1:3]) >= HALF
    maps = grabcut.followed(small, _scaled(request, scale), salient)
    note = (
        f"{name}: no weights of SAM 2 in {stored.places(stored.SAM2)}, so {request} was cut out by GrabCut "
        "and followed by optical flow"
    )
    notes = (note, *lost(maps, name))
    return _Maps(steadied(maps, small), "GrabCut and optical flow, no weights of SAM 2", notes)


def _described(frames: Frames, small: np.ndarray, request: Words, name: str) -> _Maps:
    detector = grounding.load(_folder(stored.GROUNDING_DINO))
    found = grounding.find(detector, frames, request.text)
    if found is None:
        raise InputError(
            f"{name}: segment {request} was tried and nothing like it was found; say it otherwise, or pass "
            "--segment point:x,y or box:x,y,x,y"
        )
    notes: tuple[str, ...] = ()
    if found.others:
        notes = (f"{name}: {found.others} more match {request}; the best, {found.box}, was cut out",)
    model = sam2.load(_folder(stored.SAM2))
    maps = sam2.followed(model, frames, found.box, small.shape[1:3], found.frame)
    return _Maps(maps, f"{stored.GROUNDING_DINO.title} and {stored.SAM2.title}", notes)


def lost(maps: np.ndarray, name: str) -> tuple[str, ...]:
    """A note where much less is found than in the first frame, though nothing of it is at the border."""
    found = maps >= HALF
    area = found.sum(axis=(1, 2))
    border = np.concatenate([found[:, :2].any(axis=1), found[:, -2:].any(axis=1)], axis=1).any(axis=1)
    border |= found[:, :, :2].any(axis=(1, 2)) | found[:, :, -2:].any(axis=(1, 2))
    inside = np.where(border, area[0], area)
    worst = int(inside.argmin())
    if inside[worst] >= LEAST * area[0]:
        return ()
    return (
        f"{name}: in frame {worst} only {inside[worst] / area[0]:.0%} of the element's first area was found: "
        "look at it by --save-element; a fast element is followed better at its clip's own rate",
    )


def _check_stored(request: Words) -> None:
    for model in (stored.GROUNDING_DINO, stored.SAM2):
        if stored.find(model) is None:
            raise InputError(
                f"segment {request}: words need the weights of {model.title}, which aren't in "
                f"{stored.places(model)}; pass auto, point:x,y or box:x,y,x,y, or store them there"
            )
    stored.check_installed()


def _folder(model: stored.Stored) -> Path:
    found = stored.find(model)
    assert found is not None  # checked
    return found


def _scaled(request: Point | Box, scale: float) -> Point | Box:
    numbers = {key: (value + 0.5) * scale - 0.5 for key, value in dataclasses.asdict(request).items()}
    return dataclasses.replace(request, **numbers)


def _reduced(frames: Frames) -> np.ndarray:
    """The frames with a longer side of at most `SIDE` pixels."""
    height, width = frames.shape[1:3]
    scale = min(1.0, SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    out = np.empty((len(frames), size[1], size[0], 3), np.uint8)
    for t, frame in enumerate(frames):
        out[t] = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return out


def _cut(frames: Frames, maps: np.ndarray) -> Frames:
    """RGBA from probabilities 0..255, uint8 [T, h, w]."""
    count, height, width = frames.shape[:3]
    shape = count, height, width, 4
    reach = REACH * max(height, width) / max(maps.shape[1:3])

    def cut(first: int, stop: int) -> np.ndarray:
        out = np.empty((stop - first, *shape[1:]), np.uint8)
        for t, frame in enumerate(frames[first:stop]):
            found = cv2.resize(maps[first + t], (width, height), interpolation=cv2.INTER_LINEAR)
            out[t] = matting.matte(frame, found.astype(np.float32) / 255, reach)
        return out

    made = Computed(shape, cut)
    if isinstance(frames, np.ndarray):
        return np.asarray(made)
    kept = Spool(shape, np.uint8, Path(tempfile.gettempdir()))
    for part in pieces(made):
        kept.append(part)
    return kept
