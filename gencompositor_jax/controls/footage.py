"""Footage: backgrounds, elements and masks, from files or from arrays, as a stage needs them."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from gencompositor_jax.arch import ModelArch
from gencompositor_jax.controls.element.element import Element
from gencompositor_jax.controls.element.loading import Extend, Segmenter, fit_length, load_element
from gencompositor_jax.controls.media.inputs import DEFAULT_FPS
from gencompositor_jax.controls.media.video import Media, MediaLike, Video, probe, read_video
from gencompositor_jax.controls.scene import Scene
from gencompositor_jax.controls.shot import ElementLayer
from gencompositor_jax.controls.stage import Stage, arch_for, make_stage
from gencompositor_jax.errors import InputError

MASK_LEVEL = 128  # grey from which a pixel of a mask clip is inside


def scene_stage(scene: Scene, arch: ModelArch, probed: Mapping[str, Media] | None = None) -> Stage:
    """Reads and places everything that a scene names.

    probed: what is known of its clips already, by their paths. Raises InputError for all that can be wrong.
    """
    arch, known = arch_for(arch, scene.frames), probed or {}

    def media(path: str) -> MediaLike:
        return known.get(path, path)

    background = load_background(media(scene.background), arch.frames, scene.fps, scene.start, scene.end)
    layers = [
        ElementLayer(
            fitting_element(
                media(layer.foreground),
                background,
                layer.extend,
                layer.key,
                None if layer.mask is None else media(layer.mask),
            ),
            layer.trajectory,
            layer.scales,
            layer.rotations,
            layer.anchor,
        )
        for layer in scene.layers
    ]
    return make_stage(background, layers, arch, scene.framing, scene.sampling.paste_back)


def load_background(
    given: MediaLike | Video | np.ndarray,
    frames: int,
    fps: float | None = None,
    start: float = 0.0,
    end: float | None = None,
) -> Video:
    """A background of so many frames: a file or folder (see `read_video`), or uint8 RGB [T, H, W, 3]."""
    if isinstance(given, np.ndarray):
        given = Video(given, fps or DEFAULT_FPS, "background")
    if not isinstance(given, Video):
        return read_video(given, fps=fps, start=start, end=end, frames=frames)
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
    given: MediaLike | Element | np.ndarray,
    background: Video,
    extend: Extend = "error",
    key: str = "auto",
    mask: MediaLike | None = None,
    segmenter: Segmenter | None = None,
) -> Element:
    """An element at the background's rate and with as many frames.

    given: a file or folder, cut out as `load_element` does, or uint8 straight-alpha RGBA [T, h, w, 4]. A
    single picture is held, whatever `extend` says.
    """
    count = len(background.frames)
    if isinstance(given, np.ndarray):
        given = _element_of(given)
    if not isinstance(given, Element):
        given = probe(given)
        if given.frames == 1:
            extend = "hold"
        seconds = count / background.fps  # later frames would only widen the element's canvas
        given = load_element(given, key=key, mask=mask, segmenter=segmenter, fps=background.fps, end=seconds)
    return fit_length(given, count, extend)


def load_mask(
    given: MediaLike | np.ndarray, background: Video, start: float = 0.0, end: float | None = None
) -> np.ndarray:
    """The mask of a removal, bool [T, H, W]: a clip, folder or picture of the background's size, white where
    something is to be removed, or an array of that shape.

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
        frames = np.repeat(read_video(given).frames, size[0], axis=0)
    else:
        frames = read_video(given, fps=background.fps, start=start, end=end, frames=size[0]).frames
    mask = frames.max(axis=-1) >= MASK_LEVEL
    if not mask.any():
        raise InputError(f"{given.path}: black in all {size[0]} frames; paint white what is to be removed")
    return np.asarray(mask)


def _element_of(pixels: np.ndarray) -> Element:
    if pixels.ndim != 4 or pixels.shape[-1] != 4 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise InputError(
            f"foreground: {pixels.dtype} {pixels.shape}; pass uint8 RGBA [frames, height, width, 4]"
        )
    if not pixels[..., 3].any():
        raise InputError("foreground: alpha is 0 everywhere, so there is no element")
    return Element(pixels, "foreground")
