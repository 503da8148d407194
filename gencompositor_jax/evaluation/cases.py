"""A protocol's clips as compositing tasks: a background, an element and where it goes."""

from collections.abc import Container, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gencompositor_jax.controls.element.loading import Element
from gencompositor_jax.controls.footage import fitting_element, load_background
from gencompositor_jax.controls.geometry.path import resolve_path
from gencompositor_jax.controls.geometry.trajectory import from_points
from gencompositor_jax.controls.media.video import Video
from gencompositor_jax.controls.shot import ElementLayer
from gencompositor_jax.errors import InputError
from gencompositor_jax.evaluation import layouts, manifest
from gencompositor_jax.evaluation.layouts import ReferenceClip

FPS = 24.0  # of data sets of images, which state none


class Case(NamedTuple):
    """One composite to make. The background and the element have `frames` frames, of which `length` count."""

    name: str
    background: Video  # uint8 [frames, H, W, 3]
    layer: ElementLayer
    length: int


def harmonisation(folder: Path, clips: int | None, wanted: Container[str]) -> Iterator[Case]:
    """HYouTube: the composite's foreground, where its mask is, over the composite itself; of `wanted` clips.

    The data set has no scene without the element; the model's masked background is the composite, black in
    the inflated mask. Raises InputError for a folder without composites.
    """
    found = [clip for clip in layouts.reference_clips(folder, clips) if clip.name in wanted]
    for clip in found:
        if clip.composite is None or clip.mask is None:
            raise InputError(f"{folder}: {clip.name} has no composite, which is what is harmonised")
    for clip in found:
        assert clip.composite is not None and clip.mask is not None
        names = layouts.image_names(clip)
        composite = layouts.read_clip(clip.composite, names)
        mask = layouts.inside(layouts.read_clip(clip.mask, names), clip.mask)
        if mask.shape != composite.shape[:3]:
            raise InputError(f"{clip.mask}: its frames differ in number or size from {clip.composite}")
        yield case_of(clip, composite, mask)


def case_of(clip: ReferenceClip, composite: np.ndarray, mask: np.ndarray) -> Case:
    """The case of a composite, uint8 [T, H, W, 3], and its foreground's mask, bool [T, H, W]."""
    if not mask.any():
        raise InputError(f"{clip.mask}: is empty in all {len(mask)} frames")
    element, points = lifted(composite, mask)
    frames = clip_length(len(composite))
    layer = ElementLayer(
        Element(extended(element, frames), clip.name), from_points(extended(points, frames), timing="frames")
    )
    return Case(clip.name, Video(extended(composite, frames), FPS, clip.name), layer, len(composite))


def trajectories(folder: Path, clips: int | None, wanted: Container[str]) -> Iterator[Case]:
    """The `wanted` groups of a manifest. Raises InputError for files that can't be used."""
    groups, count = manifest.read_groups(folder)
    for group in (group for group in groups[:clips] if group.name in wanted):
        background = load_background(group.background, count, None, 0.0, None)
        element = fitting_element(group.foreground, background, "loop", group.key)
        frames = clip_length(count)
        # Over the frames that count, not over those that are added.
        tracked = background.frames if group.trajectory.track else None
        size = background.frames.shape[2], background.frames.shape[1]
        path = resolve_path(group.trajectory, count, size, (group.scale,), tracked, (group.rotation,))
        layer = ElementLayer(
            Element(extended(np.asarray(element.frames), frames), element.name, element.key),
            from_points(extended(path.xy, frames), timing="frames"),
            tuple(extended(path.scale, frames).tolist()),
            tuple(extended(path.rotation, frames).tolist()),
            group.anchor,
        )
        video = Video(extended(np.asarray(background.frames), frames), background.fps, background.path)
        yield Case(group.name, video, layer, count)


def lifted(composite: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pixels under a mask as an element, uint8 RGBA [T, h, w, 4], and its path [T, 2], in whole pixels.

    The canvas has the size of the largest bounding box. Frames without a mask are transparent and keep the
    point of the frame before (the first ones: of the first with a mask).
    """
    boxes: list[tuple[int, int, int, int] | None] = []
    for frame in mask:
        rows, columns = np.flatnonzero(frame.any(1)), np.flatnonzero(frame.any(0))
        box = (
            None
            if not len(rows)
            else (int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
        )
        boxes.append(box)
    known = [box for box in boxes if box is not None]
    height, width = max(b - t for t, b, _, _ in known), max(r - left for _, _, left, r in known)
    element = np.zeros((len(mask), height, width, 4), np.uint8)
    points = np.full((len(mask), 2), np.nan)
    for t, box in enumerate(boxes):
        if box is None:
            points[t] = points[t - 1] if t else np.nan
            continue
        top, bottom, left, right = box
        y, x = (height - (bottom - top)) // 2, (width - (right - left)) // 2
        part = element[t, y : y + bottom - top, x : x + right - left]
        part[..., :3] = composite[t, top:bottom, left:right]
        part[..., 3] = mask[t, top:bottom, left:right] * np.uint8(255)
        points[t] = left - x + (width - 1) / 2, top - y + (height - 1) / 2
    first = np.flatnonzero(~np.isnan(points[:, 0]))[0]
    points[:first] = points[first]
    return element, points


def clip_length(frames: int) -> int:
    """The smallest 4k + 1, 9 or more, that holds so many frames: lengths that every codec takes."""
    return max(9, -(-(frames - 1) // 4) * 4 + 1)


def extended(frames: np.ndarray, count: int) -> np.ndarray:
    """The last frame repeated up to `count` frames."""
    return np.concatenate([frames, np.repeat(frames[-1:], count - len(frames), axis=0)])
