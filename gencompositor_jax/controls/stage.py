"""The scene, read and placed: everything before the network, with every check that needs no weights.

`preview` ends here, `compose` goes on from here. Every element is placed once, at the model's size.
"""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from gencompositor_jax import codec
from gencompositor_jax.arch import ModelArch
from gencompositor_jax.controls.conditions import Conditions, make_conditions
from gencompositor_jax.controls.element.loading import Element, Extend, Segmenter, fit_length, load_element
from gencompositor_jax.controls.geometry import window as windows
from gencompositor_jax.controls.geometry.paste_back import native_mask, paste_back
from gencompositor_jax.controls.geometry.placement import Anchor, place
from gencompositor_jax.controls.geometry.trajectory import Path, Trajectory, resolve_path
from gencompositor_jax.controls.geometry.view import View, identity_view, make_view, mask_to_model, to_model
from gencompositor_jax.controls.geometry.window import Framing, Window
from gencompositor_jax.controls.media.video import MediaLike, Video, probe, read_video
from gencompositor_jax.controls.scene import Scene, check_scene
from gencompositor_jax.errors import InputError

MASK_LEVEL = 128  # grey from which a pixel of a mask clip is inside
ENOUGH_TOKENS = (
    4.0  # an element whose longer side covers fewer of the model's tokens is looked at more closely
)

PathLike = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class Shot:
    """One layer, ready for the network. T, h, w are the model's."""

    window: Window  # the part of the background that the model sees
    view: View  # how it sees that part
    silhouette: np.ndarray  # bool [T, h, w]: what is to be generated, before inflation
    foreground: np.ndarray  # uint8 [T, h, w, 3]: the element centred on white; all white to remove something
    element: Element | None = None  # None: nothing is put in, something is removed
    path: Path | None = None  # in the background's pixels
    anchor: Anchor = "center"


@dataclasses.dataclass(frozen=True)
class Stage:
    """The background at its own size, and the layers that go in, the last one on top."""

    background: Video  # uint8 RGB [T, H, W, 3]
    shots: tuple[Shot, ...]
    arch: ModelArch  # the checkpoint's, at this clip's number of frames


def set_stage(scene: Scene, arch: ModelArch) -> Stage:
    """Reads and places everything a scene names. Raises InputError for all that can be wrong with it."""
    check_scene(scene)
    arch = arch_for(arch, scene.frames)
    background = read_video(
        scene.background, fps=scene.fps, start=scene.start, end=scene.end, frames=arch.frames
    )
    framing = scene.framing if scene.paste_back else "whole"
    shots = []
    for layer in scene.layers:
        element = read_element(layer.foreground, background, layer.extend, layer.key, layer.mask)
        how = layer.scales, layer.rotations, layer.anchor
        shots.append(make_shot(element, layer.trajectory, background.frames, arch, framing, *how))
    return Stage(background, tuple(shots), arch)


def arch_for(arch: ModelArch, frames: int | None) -> ModelArch:
    """The architecture at another number of frames (None: its own).

    Raises InputError where a clip of that length can't be encoded.
    """
    arch = dataclasses.replace(arch, frames=frames) if frames is not None else arch
    arch.check()
    codec.check_video_shape(arch.codec, (1, arch.frames, arch.height, arch.width, 3))
    return arch


def read_element(
    media: MediaLike,
    background: Video,
    extend: Extend = "error",
    key: str = "auto",
    mask: MediaLike | None = None,
    segmenter: Segmenter | None = None,
) -> Element:
    """The element of a clip, at the background's rate and with as many frames.

    A single picture has no motion to lose: it is held, whatever `extend` says.
    """
    count = len(background.frames)
    media = probe(media)
    if media.frames == 1:
        extend = "hold"
    needed = count / background.fps  # seconds; what comes later would only widen the element's canvas
    element = load_element(media, key=key, mask=mask, segmenter=segmenter, fps=background.fps, end=needed)
    return fit_length(element, count, extend)


def make_shot(
    element: Element,
    trajectory: Trajectory,
    background: np.ndarray,
    arch: ModelArch,
    framing: Framing = "auto",
    scales: Sequence[float] = (1.0,),
    rotations: Sequence[float] = (0.0,),
    anchor: Anchor = "center",
) -> Shot:
    """Places an element of T frames along its trajectory over a background, uint8 native [T, H, W, 3].

    framing: "whole" shows the model the whole background, "follow" a window that follows the element, "auto"
    such a window where the element would be too small in the whole.
    """
    frames, *size = background.shape[:3]
    tracked = background if trajectory.track else None
    path = resolve_path(trajectory, frames, (size[1], size[0]), scales, tracked, rotations)
    whole, model = (size[0], size[1]), (arch.height, arch.width)
    extent = max(element.frames.shape[1:3]) * path.scale.max()
    window = _window(path, anchor, element.frames.shape[1:3], extent, whole, arch, framing)
    view = make_view(window.size, model)
    try:
        placed = place(element, windows.shift(path, window), anchor, model, view)
    except InputError:
        place(element, path, anchor, whole, identity_view(whole))  # says the same in the background's pixels
        raise
    return Shot(window, view, placed.silhouette, placed.foreground, element, path, anchor)


def removal_shot(mask: np.ndarray, arch: ModelArch, framing: Framing = "auto") -> Shot:
    """Nothing goes in where `mask`, bool native [T, H, W], is True: the foreground is white."""
    rows, columns = np.flatnonzero(mask.any(axis=(0, 2))), np.flatnonzero(mask.any(axis=(0, 1)))
    box = np.array([(columns[0], rows[0]), (columns[-1], rows[-1])], np.float64)
    path = Path(np.repeat(box.mean(0, keepdims=True), len(mask), 0), np.ones(len(mask)), np.zeros(len(mask)))
    height, width = int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)
    whole = mask.shape[1], mask.shape[2]
    window = _window(path, "center", (height, width), max(height, width), whole, arch, framing)
    view = make_view(window.size, (arch.height, arch.width))
    silhouette = mask_to_model(windows.cut(mask, window), view)
    return Shot(window, view, silhouette, np.full((*silhouette.shape, 3), 255, np.uint8))


def shown(shot: Shot, frames: np.ndarray) -> np.ndarray:
    """uint8 native [T, H, W, 3] -> uint8 [T, h, w, 3]: what the model sees of them for one layer."""
    return to_model(windows.cut(frames, shot.window), shot.view)


def conditions(stage: Stage, shot: Shot, seen: np.ndarray) -> Conditions:
    """The network's inputs for one layer over `seen`, uint8 [T, h, w, 3] of the model's size."""
    return make_conditions(seen, shot.silhouette, shot.foreground, stage.arch.inflation)


def put_in(
    shot: Shot, frames: np.ndarray, generated: np.ndarray, inside: np.ndarray, feather: float
) -> tuple[np.ndarray, np.ndarray]:
    """The model's frames, uint8 [T, h, w, 3], laid over `frames`, uint8 native [T, H, W, 3].

    inside: bool [T, h, w], what was generated. Returns the result and the native mask bool [T, H, W]; outside
    it the result equals `frames`.
    """
    parts, mask = paste_back(windows.cut(frames, shot.window), generated, inside, shot.view, feather)
    nothing = np.zeros(frames.shape[:3], bool)
    return windows.put_back(frames, parts, shot.window), windows.put_back(nothing, mask, shot.window)


def mask_in_background(shot: Shot, inside: np.ndarray, native_size: tuple[int, int]) -> np.ndarray:
    """bool [T, h, w] of the model -> bool [T, H, W]: the pixels of the background that it stands for."""
    parts = np.stack([native_mask(frame, shot.view) for frame in inside])
    return windows.put_back(np.zeros((len(inside), *native_size), bool), parts, shot.window)


def pasted(shot: Shot, native_size: tuple[int, int]) -> np.ndarray | None:
    """uint8 RGBA [T, H, W, 4]: the element, if there is one, where it belongs at the background's size."""
    if shot.element is None or shot.path is None:
        return None
    view = identity_view(native_size)
    return place(shot.element, shot.path, shot.anchor, native_size, view).paste


def read_mask(
    media: MediaLike, background: Video, start: float = 0.0, end: float | None = None
) -> np.ndarray:
    """bool [T, H, W] from a clip, folder or picture of the background's size, white where something goes.

    A clip follows the background by time and is trimmed alike; a single picture serves all frames.
    """
    media = probe(media)
    count, height, width = background.frames.shape[:3]
    if (media.width, media.height) != (width, height):
        raise InputError(
            f"{media.path}: {media.width}x{media.height} pixels, the background has {width}x{height}; "
            "pass a mask of the same size"
        )
    if media.frames == 1:
        frames = np.repeat(read_video(media).frames, count, axis=0)
    else:
        frames = read_video(media, fps=background.fps, start=start, end=end, frames=count).frames
    mask = frames.max(axis=-1) >= MASK_LEVEL
    if not mask.any():
        raise InputError(f"{media.path}: black in all {count} frames; paint white what is to be removed")
    return mask


def _window(
    path: Path,
    anchor: Anchor,
    size: Sequence[int],
    extent: float,
    whole: tuple[int, int],
    arch: ModelArch,
    framing: Framing,
) -> Window:
    """The window of a layer: canvas `size` (height, width), longer side `extent` native pixels as drawn."""
    model = arch.height, arch.width
    token = arch.codec.space_factor * arch.backbone.patch
    small = extent * min(make_view(whole, model).scale) < ENOUGH_TOKENS * token
    if framing == "follow" or (framing == "auto" and small):
        return windows.window_around(path, anchor, (size[0], size[1]), whole, model)
    return Window(np.zeros((len(path.xy), 2), int), whole)
