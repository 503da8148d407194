"""A shot: one layer at the model's size, what the network sees of it, and the way back to the background.

Native frames have the background's size [T, H, W], model frames the network's [T, h, w]. A window selects the
part of the background that the model sees, a view scales it.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from gencompositor_jax.arch import ModelArch
from gencompositor_jax.controls.conditions import Conditions, make_conditions
from gencompositor_jax.controls.element.element import Element
from gencompositor_jax.controls.geometry import window as windows
from gencompositor_jax.controls.geometry.detail import Detail
from gencompositor_jax.controls.geometry.offsets import no_offsets, whole_tokens
from gencompositor_jax.controls.geometry.paste_back import make_transfer, native_mask, paste_back
from gencompositor_jax.controls.geometry.placement import (
    Anchor,
    centred_foreground,
    distance_from_centre,
    paste_of,
    trajectory_to_mask,
)
from gencompositor_jax.controls.geometry.trajectory import Path, Trajectory, resolve_path
from gencompositor_jax.controls.geometry.view import View, identity_view, make_view, mask_to_model, to_model
from gencompositor_jax.controls.geometry.window import Framing, Window
from gencompositor_jax.errors import InputError

# With framing "auto", an element whose longer side covers fewer of the model's tokens gets a window.
MIN_TOKENS = 4.0


@dataclasses.dataclass(frozen=True)
class ElementLayer:
    """An element of T frames, and where it goes."""

    element: Element
    trajectory: Trajectory
    scales: tuple[float, ...] = (1.0,)  # background pixels per element pixel, key frames spread over the clip
    rotations: tuple[float, ...] = (0.0,)  # degrees counter-clockwise, spread likewise
    anchor: Anchor = "center"


@dataclasses.dataclass(frozen=True)
class RemovalLayer:
    """What is to be removed."""

    mask: np.ndarray  # bool native [T, H, W]


@dataclasses.dataclass(frozen=True)
class Shot:
    """One layer, ready for the network."""

    window: Window
    view: View
    target_mask: np.ndarray  # bool [T, h, w]: what is to be generated, before inflation
    foreground: np.ndarray  # uint8 [T, h, w, 3]: the element centred on white; all white for a removal
    element: Element | None = None  # None for a removal
    path: Path | None = None  # in native pixels
    anchor: Anchor = "center"
    offsets: np.ndarray | None = None  # int32 [t, 2], of the foreground, for the layout `trajectory`


def element_shot(layer: ElementLayer, background: np.ndarray, arch: ModelArch, framing: Framing) -> Shot:
    """Places an element along its trajectory over a background, uint8 native [T, H, W, 3].

    Raises InputError where the element is never visible, or the trajectory can't be resolved.
    """
    frames, *native = background.shape[:3]
    element, anchor = layer.element, layer.anchor
    tracked = background if layer.trajectory.track else None
    size = native[1], native[0]
    path = resolve_path(layer.trajectory, frames, size, layer.scales, tracked, layer.rotations)
    canvas = element.frames.shape[1], element.frames.shape[2]
    window = _window(path, anchor, canvas, max(canvas) * path.scale.max(), tuple(native), arch, framing)
    view, moved = make_view(window.size, (arch.height, arch.width)), windows.shift(path, window)
    try:
        mask = trajectory_to_mask(element, moved, anchor, view)
    except InputError:
        trajectory_to_mask(element, path, anchor, identity_view(tuple(native)))  # an error in native pixels
        raise
    shift, offsets = None, None
    if arch.offset_cell is not None:
        distance = distance_from_centre(element, moved, anchor, view)
        offsets, shift = whole_tokens(distance, arch.offset_cell)
    foreground = centred_foreground(element, moved, view, shift)
    return Shot(window, view, mask, foreground, element, path, anchor, offsets)


def removal_shot(layer: RemovalLayer, arch: ModelArch, framing: Framing) -> Shot:
    """Removes what a mask covers: the foreground is white, as in the release."""
    mask = layer.mask
    rows, columns = np.flatnonzero(mask.any(axis=(0, 2))), np.flatnonzero(mask.any(axis=(0, 1)))
    box = np.array([(columns[0], rows[0]), (columns[-1], rows[-1])], np.float64)
    path = Path(np.repeat(box.mean(0, keepdims=True), len(mask), 0), np.ones(len(mask)), np.zeros(len(mask)))
    size = int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)
    native = mask.shape[1], mask.shape[2]
    window = _window(path, "center", size, max(size), native, arch, framing)
    view = make_view(window.size, (arch.height, arch.width))
    target = mask_to_model(windows.cut(mask, window), view)
    offsets = None if arch.offset_cell is None else no_offsets(arch.latent_shape[0])
    return Shot(window, view, target, np.full((*target.shape, 3), 255, np.uint8), offsets=offsets)


def shown(shot: Shot, frames: np.ndarray) -> np.ndarray:
    """The part of native frames, uint8 [T, H, W, 3], that the model sees: uint8 [T, h, w, 3]."""
    return to_model(windows.cut(frames, shot.window), shot.view)


def conditions(shot: Shot, seen: np.ndarray, arch: ModelArch) -> Conditions:
    """The network's inputs for a shot over `seen`, uint8 model frames [T, h, w, 3]."""
    return make_conditions(seen, shot.target_mask, shot.foreground, arch.inflation, shot.offsets)


class Result(NamedTuple):
    """A layer in the background."""

    frames: np.ndarray  # uint8 native [T, H, W, 3]; outside the mask as before
    mask: np.ndarray  # bool native [T, H, W]
    transferred: float  # share of the element that has its own pixels, 0 to 1; 0 for a removal


def put_back(
    shot: Shot,
    frames: np.ndarray,
    generated: np.ndarray,
    inside: np.ndarray,
    arch: ModelArch,
    feather: float,
    detail: Detail = "auto",
) -> Result:
    """Composites generated model frames, uint8 [T, h, w, 3], over native frames, uint8 [T, H, W, 3].

    inside: bool [T, h, w], what was generated. detail: "element" takes the element's own pixels in the
    model's light, "model" the model's, "auto" the element's where the model drew the same.
    """
    below = windows.cut(frames, shot.window)
    transfer, share = None, 0.0
    if shot.element is not None and shot.path is not None and detail != "model":
        moved, whole = windows.shift(shot.path, shot.window), identity_view(shot.window.size)
        small, large = (paste_of(shot.element, moved, shot.anchor, view) for view in (shot.view, whole))
        seen = to_model(below, shot.view)
        transfer = make_transfer(seen, generated, inside, (small, large), arch.cell[1], detail)
        if transfer is not None:
            alpha = small[..., 3] * inside
            share = float((transfer.fit.trust * alpha).sum() / alpha.sum())
    parts, mask = paste_back(below, generated, inside, shot.view, feather, transfer)
    nothing = np.zeros(frames.shape[:3], bool)
    return Result(
        windows.put_back(frames, parts, shot.window), windows.put_back(nothing, mask, shot.window), share
    )


def mask_in_background(shot: Shot, inside: np.ndarray, native: tuple[int, int]) -> np.ndarray:
    """A mask of the model, bool [T, h, w], in native pixels: bool [T, H, W]."""
    parts = np.stack([native_mask(frame, shot.view) for frame in inside])
    return windows.put_back(np.zeros((len(inside), *native), bool), parts, shot.window)


def plain_paste(shot: Shot, native: tuple[int, int]) -> np.ndarray | None:
    """The element where it goes, uint8 straight-alpha RGBA [T, H, W, 4]; None for a removal."""
    if shot.element is None or shot.path is None:
        return None
    return paste_of(shot.element, shot.path, shot.anchor, identity_view(native))


def _window(
    path: Path,
    anchor: Anchor,
    canvas: tuple[int, int],
    extent: float,
    native: tuple[int, ...],
    arch: ModelArch,
    framing: Framing,
) -> Window:
    """What the model sees for a canvas (height, width) whose longer side is drawn `extent` native pixels
    long.
    """
    whole, model = (native[0], native[1]), (arch.height, arch.width)
    small = extent * min(make_view(whole, model).scale) < MIN_TOKENS * arch.cell[1]
    if framing == "follow" or (framing == "auto" and small):
        return windows.window_around(path, anchor, canvas, whole, model)
    return Window(np.zeros((len(path.xy), 2), int), whole)
