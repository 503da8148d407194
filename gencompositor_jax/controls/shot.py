"""A shot: one layer at the model's size, what the network sees of it, and the way back to the background.

Native frames have the background's size [T, H, W], model frames the network's [T, h, w]. A window selects the
part of the background that the model sees, a view scales it.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from gencompositor_jax import codec
from gencompositor_jax.arch import ModelArch
from gencompositor_jax.controls.conditions import Conditions, make_conditions
from gencompositor_jax.controls.element.element import Cutout, Element
from gencompositor_jax.controls.geometry import path as paths
from gencompositor_jax.controls.geometry import window as windows
from gencompositor_jax.controls.geometry.detail import Detail, Fit
from gencompositor_jax.controls.geometry.easing import Easing
from gencompositor_jax.controls.geometry.offsets import no_offsets, whole_tokens
from gencompositor_jax.controls.geometry.paste_back import Transfer, make_transfer, native_mask, paste_back
from gencompositor_jax.controls.geometry.path import Path, held_outside, resolve_path
from gencompositor_jax.controls.geometry.placement import (
    Anchor,
    centred_foreground,
    check_visible,
    distance_from_centre,
    paste_of,
    silhouette,
)
from gencompositor_jax.controls.geometry.trajectory import Trajectory
from gencompositor_jax.controls.geometry.view import View, identity_view, make_view, mask_to_model, to_model
from gencompositor_jax.controls.geometry.window import Framing, Window
from gencompositor_jax.controls.media.frames import Frames, between, held, pieces, surrounded
from gencompositor_jax.errors import InputError
from gencompositor_jax.masks.inflation import inflate

# With framing "auto", an element whose longer side covers fewer of the model's tokens gets a window.
MIN_TOKENS = 4.0


@dataclasses.dataclass(frozen=True)
class ElementLayer:
    """An element, where it goes, and in which frames it is there: all else counts over these frames."""

    element: Cutout  # with as many frames as `layer_frames`
    trajectory: Trajectory
    scales: tuple[float, ...] = (1.0,)  # background pixels per element pixel, spread over its frames
    rotations: tuple[float, ...] = (0.0,)  # degrees counter-clockwise, spread likewise
    anchor: Anchor = "center"
    in_frame: int = 0  # of the clip
    out_frame: int | None = None  # the last one; None is the clip's
    easing: Easing = "linear"  # of its time


@dataclasses.dataclass(frozen=True)
class RemovalLayer:
    """What is to be removed."""

    mask: Frames  # bool native [T, H, W]


@dataclasses.dataclass(frozen=True)
class Shot:
    """One layer, ready for the network. A long clip's is used in pieces, whose frames are in memory."""

    window: Window
    view: View
    removed: Frames | None = None  # bool native [T, H, W], of a removal
    element: Cutout | None = None  # None for a removal
    path: Path | None = None  # in native pixels
    anchor: Anchor = "center"
    offsets: np.ndarray | None = None  # int32 [t, 2], of the foreground, for the layout `trajectory`
    rest: np.ndarray | None = None  # float [T, 2], where that shows the element; see `whole_tokens`

    @functools.cached_property
    def target_mask(self) -> np.ndarray:
        """What is to be generated, before inflation: bool [T, h, w]."""
        if self.path is None:
            return mask_to_model(windows.cut(np.asarray(self.removed), self.window), self.view)
        return silhouette(self._element, windows.shift(self.path, self.window), self.anchor, self.view)

    @functools.cached_property
    def foreground(self) -> np.ndarray:
        """The element centred on white, all white for a removal: uint8 [T, h, w, 3]."""
        if self.path is None:
            return np.full((len(self.window.origins), *self.view.model, 3), 255, np.uint8)
        moved = windows.shift(self.path, self.window)
        return centred_foreground(self._element, moved, self.view, self.rest)

    def paste(self, view: View) -> np.ndarray:
        """The placed element in the window, under a view of it: uint8 straight-alpha RGBA [T, h, w, 4]."""
        assert self.path is not None, "a removal has no element"
        return paste_of(self._element, windows.shift(self.path, self.window), self.anchor, view)

    @property
    def _element(self) -> Element:
        assert self.element is not None
        return Element(np.asarray(self.element.frames), self.element.name)


def piece(shot: Shot, part: slice) -> Shot:
    """The shot in some of the frames, which are read. Its offsets stay those of the whole."""
    return dataclasses.replace(
        shot,
        window=windows.piece(shot.window, part),
        removed=None if shot.removed is None else shot.removed[part],
        element=None if shot.element is None else Element(shot.element.frames[part], shot.element.name),
        path=None if shot.path is None else paths.piece(shot.path, part),
        rest=None if shot.rest is None else shot.rest[part],
    )


def layer_frames(in_frame: int, out_frame: int | None, frames: int) -> range:
    """The frames of a clip of `frames` frames in which a layer is there.

    Raises InputError where the clip doesn't have its first or last one.
    """
    for name, value in (("in_frame", in_frame), ("out_frame", out_frame)):
        if value is not None and not 0 <= value < frames:
            raise InputError(f"{name}: {value}, the clip has the frames 0 to {frames - 1}")
    last = frames - 1 if out_frame is None else out_frame
    if last < in_frame:
        raise InputError(f"out_frame: {last} is before in_frame, {in_frame}")
    return range(in_frame, last + 1)


def element_shot(layer: ElementLayer, background: Frames, arch: ModelArch, framing: Framing) -> Shot:
    """Places an element along its trajectory over a background, uint8 native [T, H, W, 3].

    Raises InputError where the element is never visible, or the trajectory can't be resolved.
    """
    frames, *native = background.shape[:3]
    own, anchor = layer_frames(layer.in_frame, layer.out_frame, frames), layer.anchor
    tracked = between(background, own.start, own.stop) if layer.trajectory.track else None
    size = native[1], native[0]
    path = resolve_path(
        layer.trajectory, len(own), size, layer.scales, tracked, layer.rotations, layer.easing
    )
    element = layer.element
    if len(own) != frames:
        if len(element.frames) != len(own):
            raise InputError(
                f"{element.name}: {len(element.frames)} frames for a layer of {len(own)}; pass --frames "
                f"{len(element.frames)} or extend the clip"
            )
        path, shown = held_outside(path, own.start, frames), surrounded(element.frames, own.start, frames)
        in_memory = isinstance(background, np.ndarray)
        element = dataclasses.replace(element, frames=np.asarray(shown) if in_memory else shown)
    canvas = element.frames.shape[1], element.frames.shape[2]
    window = _window(path, anchor, canvas, max(canvas) * path.scale.max(), tuple(native), arch, framing)
    view, moved = make_view(window.size, (arch.height, arch.width)), windows.shift(path, window)
    try:
        check_visible(element, moved, anchor, view)
    except InputError:
        check_visible(
            element, path, anchor, identity_view((native[0], native[1]))
        )  # an error in native pixels
        raise
    shot = Shot(window, view, element=element, path=path, anchor=anchor)
    if arch.offset_cell is None:
        return shot
    distance = distance_from_centre(element, moved, anchor, view)
    length = codec.padded_frames(arch.codec, frames)
    offsets, rest = whole_tokens(held(distance, length), arch.offset_cell)
    return dataclasses.replace(shot, offsets=offsets, rest=rest[:frames])


def removal_shot(layer: RemovalLayer, arch: ModelArch, framing: Framing) -> Shot:
    """Removes what a mask covers: the foreground is white, as in the release."""
    count, *native = layer.mask.shape
    covered = np.zeros(native, bool)
    for part in pieces(layer.mask):
        covered |= part.any(axis=0)
    rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
    box = np.array([(columns[0], rows[0]), (columns[-1], rows[-1])], np.float64)
    path = Path(np.repeat(box.mean(0, keepdims=True), count, 0), np.ones(count), np.zeros(count))
    size = int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)
    window = _window(path, "center", size, max(size), tuple(native), arch, framing)
    view = make_view(window.size, (arch.height, arch.width))
    if arch.offset_cell is None:
        return Shot(window, view, layer.mask)
    length = codec.padded_frames(arch.codec, count)
    return Shot(window, view, layer.mask, offsets=no_offsets((length - 1) // arch.codec.time_factor + 1))


def shown(shot: Shot, frames: np.ndarray) -> np.ndarray:
    """The part of native frames, uint8 [T, H, W, 3], that the model sees: uint8 [T, h, w, 3]."""
    return to_model(windows.cut(frames, shot.window), shot.view)


def conditions(shot: Shot, seen: np.ndarray, arch: ModelArch) -> Conditions:
    """The network's inputs for a shot over `seen`, uint8 model frames [T, h, w, 3].

    Raises InputError where nothing is left to be generated.
    """
    return make_conditions(seen, shot.target_mask, shot.foreground, arch.inflation, shot.offsets)


def inflated_mask(shot: Shot, arch: ModelArch) -> np.ndarray:
    """What is to be generated, bool [T, h, w]; empty where that is nothing."""
    return inflate(shot.target_mask, arch.inflation)


class Result(NamedTuple):
    """A layer in the background."""

    frames: np.ndarray  # uint8 native [T, H, W, 3]; outside the mask as before
    mask: np.ndarray  # bool native [T, H, W]
    transferred: float  # share of the element that has its own pixels, 0 to 1; 0 for a removal
    fit: Fit | None  # where its own pixels come from; None where nothing is transferred


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
    if shot.element is not None and detail != "model":
        pastes = shot.paste(shot.view), shot.paste(identity_view(shot.window.size))
        seen = to_model(below, shot.view)
        transfer = make_transfer(seen, generated, inside, pastes, arch.cell[1], detail)
        if transfer is not None:
            alpha = pastes[0][..., 3] * inside
            share = float((transfer.fit.trust * alpha).sum() / alpha.sum())
    result, mask = pasted(shot, frames, generated, inside, feather, transfer)
    return Result(result, mask, share, None if transfer is None else transfer.fit)


def pasted(
    shot: Shot,
    frames: np.ndarray,
    generated: np.ndarray,
    inside: np.ndarray,
    feather: float,
    transfer: Transfer | None,
) -> tuple[np.ndarray, np.ndarray]:
    """`put_back` with a transfer that is known: frames and mask, at the background's size."""
    parts, mask = paste_back(
        windows.cut(frames, shot.window), generated, inside, shot.view, feather, transfer
    )
    nothing = np.zeros(frames.shape[:3], bool)
    return windows.put_back(frames, parts, shot.window), windows.put_back(nothing, mask, shot.window)


def pasted_over(
    shot: Shot, frames: np.ndarray, generated: np.ndarray, inside: np.ndarray, feather: float, fit: Fit | None
) -> np.ndarray:
    """`put_back` with a fit that is known, over uint8 frames or float32 ones in the same levels."""
    transfer = None if fit is None else Transfer(fit, shot.paste(identity_view(shot.window.size)))
    return pasted(shot, frames, generated, inside, feather, transfer)[0]


def mask_in_background(shot: Shot, inside: np.ndarray, native: tuple[int, int]) -> np.ndarray:
    """A mask of the model, bool [T, h, w], in native pixels: bool [T, H, W]."""
    parts = np.stack([native_mask(frame, shot.view) for frame in inside])
    return windows.put_back(np.zeros((len(inside), *native), bool), parts, shot.window)


def plain_paste(shot: Shot, native: tuple[int, int]) -> np.ndarray | None:
    """The element where it goes, uint8 straight-alpha RGBA [T, H, W, 4]; None for a removal."""
    if shot.path is None:
        return None
    return dataclasses.replace(shot, window=whole_window(len(shot.path.xy), native)).paste(
        identity_view(native)
    )


def whole_window(frames: int, native: tuple[int, int]) -> Window:
    """The whole background in every frame."""
    return Window(np.zeros((frames, 2), int), native)


def covers(shots: Sequence[Shot], mask: Frames) -> Iterator[np.ndarray]:
    """`cover` of every frame; mask: bool native [T, H, W], what was generated."""
    for t, inside in enumerate(mask):
        yield cover(shots, t, inside)


def cover(shots: Sequence[Shot], t: int, inside: np.ndarray) -> np.ndarray:
    """What is opaque in native frame t, float32 [H, W], 0..1: the elements' alpha, and what was removed.

    inside: bool native [H, W], the mask, outside which it is 0.
    """
    found = np.full(inside.shape, float(any(shot.path is None for shot in shots)), np.float32)
    for paste in pastes(shots, t, (inside.shape[0], inside.shape[1])):
        found = np.maximum(found, paste[..., 3].astype(np.float32) / 255)
    return found * inside


def pastes(shots: Sequence[Shot], t: int, native: tuple[int, int]) -> Iterator[np.ndarray]:
    """The elements where they go in native frame t: uint8 straight-alpha RGBA [H, W, 4]."""
    for shot in shots:
        if shot.path is not None:
            paste = plain_paste(piece(shot, slice(t, t + 1)), native)
            assert paste is not None
            yield paste[0]


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
    return whole_window(len(path.xy), whole)
