"""Footage: backgrounds, elements and masks, from files or from arrays, as a stage needs them."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gencompositor_jax.arch import ModelArch
from gencompositor_jax.controls.element.alpha import AlphaKind
from gencompositor_jax.controls.element.element import Cutout, Element
from gencompositor_jax.controls.element.loading import (
    Extend,
    Segmenter,
    fit_length,
    load_element,
    open_element,
)
from gencompositor_jax.controls.media.frames import Computed, Frames, pieces
from gencompositor_jax.controls.media.inputs import DEFAULT_FPS, check_size
from gencompositor_jax.controls.media.masks import open_mask, read_mask
from gencompositor_jax.controls.media.ranges import seconds_of
from gencompositor_jax.controls.media.video import (
    Footage,
    Media,
    MediaLike,
    Video,
    open_video,
    probe,
    probed,
    read_video,
)
from gencompositor_jax.controls.plate.plate import open_plate
from gencompositor_jax.controls.scene import Layer, Scene
from gencompositor_jax.controls.shot import ElementLayer, RemovalLayer, layer_frames
from gencompositor_jax.controls.stage import Stage, arch_for, make_stage
from gencompositor_jax.errors import InputError, within

# A clip, what happens where it is too short, and the frame of the result in which it begins.
Lasting = tuple[MediaLike | Cutout | np.ndarray, Extend, int]

ReadBackground = Callable[..., Footage]  # with the arguments of `load_background`
ReadElement = Callable[..., Cutout]  # with the arguments of `load_element`

MASK_LEVEL = 128  # grey from which a pixel of a mask clip is inside


def scene_stage(
    scene: Scene,
    arch: ModelArch,
    probed: Mapping[str, Media] | None = None,
    read_background: ReadBackground | None = None,
    read_element: ReadElement | None = None,
) -> Stage:
    """Reads and places everything that a scene names.

    probed: what is known of its clips already, by their paths. read_background, read_element: in place of
    `load_background` and `load_element`, for whoever keeps what they return. Raises InputError for all that
    can be wrong.
    """
    media = {path: probe(path, scene.gaps) for path in scene.clips if path not in (probed or {})}
    media.update(probed or {})
    scene = timed(scene, media)
    elements, times = elements_of(scene, media), (scene.fps, scene.start, scene.end)
    background, window = clip_to_fill(
        media[scene.background],
        arch,
        elements,
        scene.frames,
        *times,
        colour=scene.plate_colour,
        read=read_background,
    )
    layers: list[ElementLayer | RemovalLayer] = []
    if scene.remove is not None:
        layers.append(RemovalLayer(load_mask(media[scene.remove], background, scene.start, scene.end)))
    for i, layer in enumerate(scene.layers):
        with within(f"layers[{i}]"):
            own = layer_frames(layer.in_frame, layer.out_frame, len(background.frames))
        element = fitting_element(
            media[layer.foreground],
            background,
            layer.extend,
            frames=len(own),
            read=read_element,
            **cut_of(layer, media),
        )
        layers.append(
            ElementLayer(
                element,
                layer.trajectory,
                layer.scales,
                layer.rotations,
                layer.anchor,
                layer.in_frame,
                layer.out_frame,
                layer.easing,
            )
        )
    return make_stage(background, layers, window, scene.framing, scene.sampling.paste_back)


def timed(scene: Scene, media: Mapping[str, Media]) -> Scene:
    """The scene with start and end in seconds in place of its range; media: its probed clips by paths."""
    if scene.range is None:
        return scene
    with within("background"):
        start, end = seconds_of(media[scene.background], scene.range, scene.fps)
    return dataclasses.replace(scene, range=None, start=start, end=end)


def frames_of(scene: Scene, media: Mapping[str, Media]) -> int:
    """Frames of a scene's result. media: its probed clips by their paths."""
    if scene.frames is not None:
        return scene.frames
    scene = timed(scene, media)
    return shortest(media[scene.background], elements_of(scene, media), scene.fps, scene.start, scene.end)


def elements_of(scene: Scene, media: Mapping[str, Media]) -> list[Lasting]:
    """The elements of a scene that say how long it is, for `shortest`; media: its probed clips by paths."""
    return [
        (media[layer.foreground], layer.extend, layer.in_frame)
        for layer in scene.layers
        if layer.out_frame is None
    ]


def cut_of(layer: Layer, media: Mapping[str, Media]) -> dict[str, Any]:
    """How a layer's element is cut out of its clip: arguments of `load_element`.

    media: the probed clips by their paths.
    """
    return {
        "key": layer.key,
        "alpha": layer.alpha,
        "mask": None if layer.mask is None else media[layer.mask],
        "segment": layer.segment,
    }


def clip_to_fill(
    given: MediaLike | Video | np.ndarray,
    arch: ModelArch,
    elements: Sequence[Lasting] = (),
    frames: int | None = None,
    fps: float | None = None,
    start: float = 0.0,
    end: float | None = None,
    colour: str | None = None,
    read: ReadBackground | None = None,
) -> tuple[Footage, ModelArch]:
    """The background of a composite, and the architecture for a clip of its length.

    frames: of the composite; None is `shortest`. read: in place of `load_background`, whose arguments the
    others are.
    """
    given = probed(given)
    if frames is None:
        frames = shortest(given, elements, fps, start, end)
    window = arch_for(arch, frames)
    read = read or load_background
    return read(given, frames, fps, start, end, window=window.frames, colour=colour), window


def shortest(
    background: MediaLike | Video | np.ndarray,
    elements: Sequence[Lasting] = (),
    fps: float | None = None,
    start: float = 0.0,
    end: float | None = None,
) -> int:
    """Frames of a result for which no number is given: those of the background, or of a shorter element that
    is not to be extended. Reads no frames.
    """
    if isinstance(background, np.ndarray):
        count, rate = len(background) if background.ndim else 1, fps or DEFAULT_FPS
    else:
        clip: Footage
        if isinstance(background, Video):
            clip = background
        else:
            clip = open_video(background, fps=fps, start=start, end=end)
        count, rate = len(clip.frames), clip.fps
    for given, extend, begins in elements:
        if extend != "error":
            continue
        if isinstance(given, Cutout | np.ndarray):
            own = len(given.frames if isinstance(given, Cutout) else given)
        else:
            given = probe(given)
            if given.frames == 1:  # a picture is held
                continue
            own = len(open_video(given, fps=rate, end=count / rate).frames)
        count = min(count, begins + own)
    return count


def load_background(
    given: MediaLike | Video | np.ndarray,
    frames: int,
    fps: float | None = None,
    start: float = 0.0,
    end: float | None = None,
    window: int | None = None,
    colour: str | None = None,
) -> Footage:
    """A background of so many frames: a file or folder (see `read_video`), or uint8 RGB [T, H, W, 3].

    window: a file with more frames is read as they are asked for, and once now to find damage; None reads it
    into memory. colour: what a file's values mean, a name of `plate.colour`; None is what it states.
    """
    if isinstance(given, np.ndarray):
        given = Video(given, fps or DEFAULT_FPS, "background")
    if not isinstance(given, Video):
        given = probe(given)
        trim: Any = {"fps": fps, "start": start, "end": end, "frames": frames}
        whole = window is None or frames <= window
        if whole and colour is None:
            return read_video(given, **trim)
        if colour is None:
            footage = open_video(given, **trim)
        else:
            footage = open_plate(given, **trim, colour=colour).working()
        if whole:
            check_size(given.path, given.width, given.height, frames)
            return Video(np.asarray(footage.frames), footage.fps, footage.path)
        for _ in pieces(footage.frames):
            pass
        return footage
    pixels = given.frames
    if pixels.ndim != 4 or pixels.shape[-1] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise InputError(
            f"background: {pixels.dtype} {pixels.shape}; pass uint8 RGB [frames, height, width, 3]"
        )
    if len(pixels) < frames:
        raise InputError(
            f"background: {len(pixels)} frames, {frames} are needed; pass frames={len(pixels)} or less, or a "
            "longer clip"
        )
    return dataclasses.replace(given, frames=pixels[:frames])


def fitting_element(
    given: MediaLike | Cutout | np.ndarray,
    background: Footage,
    extend: Extend = "error",
    key: str = "auto",
    mask: MediaLike | None = None,
    segmenter: Segmenter | None = None,
    alpha: AlphaKind = "auto",
    segment: str | None = None,
    frames: int | None = None,
    read: ReadElement | None = None,
) -> Cutout:
    """An element at the background's rate and with `frames` frames, or as many as it; in memory if it is.

    given: a file or folder, cut out as `load_element` does, or uint8 straight-alpha RGBA [T, h, w, 4]. A
    single picture is held, whatever `extend` says. read: in place of `load_element`.
    """
    count = len(background.frames) if frames is None else frames
    if isinstance(given, np.ndarray):
        given = _element_of(given)
    if not isinstance(given, Cutout):
        given = probe(given)
        if given.frames == 1:
            extend = "hold"
        seconds = count / background.fps  # later frames would only widen the element's canvas
        # A picture is keyed once.
        whole = given.frames == 1 or isinstance(background.frames, np.ndarray)
        read = read or (load_element if whole else open_element)
        given = read(
            given,
            key=key,
            alpha=alpha,
            mask=mask,
            segment=segment,
            segmenter=segmenter,
            fps=background.fps,
            end=seconds,
        )
    if len(given.frames) == 1 and extend == "hold":
        held = np.broadcast_to(np.asarray(given.frames), (count, *given.frames.shape[1:]))
        return dataclasses.replace(given, frames=held)
    return fit_length(given, count, extend)


def load_mask(
    given: MediaLike | np.ndarray, background: Footage, start: float = 0.0, end: float | None = None
) -> Frames:
    """The mask of a removal, bool [T, H, W]: a clip, folder or picture of the background's size, white where
    something is to be removed, or an array of that shape. In memory if the background is.

    A clip follows the background by time and is trimmed like it; a single picture serves all frames.
    """
    size = background.frames.shape[:3]
    if isinstance(given, np.ndarray):
        if given.shape != size or not given.any():
            raise InputError(
                f"mask: {given.shape}, {int(given.sum())} pixels set; pass {size} with some of them set"
            )
        return given.astype(bool)
    given = probe(given)
    if (given.height, given.width) != size[1:]:
        raise InputError(
            f"{given.path}: {given.width}x{given.height} pixels, the background has {size[2]}x{size[1]}; "
            "pass a mask of the same size"
        )
    if given.frames == 1:
        return np.broadcast_to(read_mask(given) >= MASK_LEVEL, size)
    values = open_mask(given, background.fps, start, end, size[0]).values
    mask = Computed(size, lambda first, stop: np.asarray(values[first:stop] >= MASK_LEVEL), bool)
    return np.asarray(mask) if isinstance(background.frames, np.ndarray) else mask


def _element_of(pixels: np.ndarray) -> Element:
    if pixels.ndim != 4 or pixels.shape[-1] != 4 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise InputError(
            f"foreground: {pixels.dtype} {pixels.shape}; pass uint8 RGBA [frames, height, width, 4]"
        )
    if not pixels[..., 3].any():
        raise InputError("foreground: alpha is 0 everywhere, so there is no element")
    return Element(pixels, "foreground")
