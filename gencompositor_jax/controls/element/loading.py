"""The foreground element: extracted from its clip, cropped to its extent, with straight alpha."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import cv2
import numpy as np

from gencompositor_jax.controls.element.element import Element
from gencompositor_jax.controls.element.keying import key_out, measure_screen, parse_key, soft_edges
from gencompositor_jax.controls.media.video import Media, MediaLike, probe, read_video
from gencompositor_jax.errors import InputError

Extend = Literal["error", "loop", "hold"]
Segmenter = Callable[[np.ndarray], np.ndarray]  # frames uint8 [T, H, W, 3] -> masks bool [T, H, W]

_NOISE = 8  # alpha this close to 0 or 255 is rounded to it: coding noise
_MASK_BLACK, _MASK_WHITE = 16, 240  # the same for mask clips, which are video in limited range


def load_element(
    media: MediaLike,
    *,
    key: str = "auto",
    mask: MediaLike | None = None,
    segmenter: Segmenter | None = None,
    fps: float | None = None,
    start: float = 0.0,
    end: float | None = None,
    frames: int | None = None,
) -> Element:
    """Read a clip and extract its element.

    The canvas is the union of the element's bounding boxes over all frames read, so the element moves on its
    canvas as in the clip.

    Args:
        media: a video, a folder of images, or one image: its path, or the result of `probe`.
        key: "alpha" (the stream's own, straight), "white", "green", "blue", any colour "#RRGGBB" of the
            background, or "auto": alpha if the stream has any that is not opaque everywhere, else
            the colour of the borders.
        mask: a clip, folder or image of the clip's size that is white where the element is. It is read
            at the same times as the clip; one image applies to all frames.
        segmenter: any function from frames, uint8 RGB [T, H, W, 3], to masks, bool [T, H, W].
        fps, start, end, frames: which frames to read, as in `read_video`; None for `frames` reads all.

    Raises:
        InputError: what `read_video` refuses; more than one of key, mask and segmenter; a mask that
            does not fit; no element, or one that the key would damage. The message says what was tried
            and what to pass.
    """
    given = {f"key {key!r}": key != "auto", "a mask": mask is not None, "a segmenter": segmenter is not None}
    passed = [name for name, is_given in given.items() if is_given]
    if len(passed) > 1:
        raise InputError(f"{' and '.join(passed)} were given; pass one of them")
    if key not in ("auto", "alpha"):
        parse_key(key)
    media = probe(media)
    if key == "alpha" and not media.has_alpha:
        raise InputError(
            f"{media.path}: key alpha was tried, but it has no alpha channel ({media.codec}); "
            "pass --key white, green, blue or '#RRGGBB' for its background, or a mask clip (--mask)"
        )
    if mask is not None:
        mask = probe(mask)
        _check_mask(mask, media)
    own = not passed or key == "alpha"
    video = read_video(media, fps=fps, start=start, end=end, frames=frames, alpha=own)
    rgb = np.ascontiguousarray(video.frames[..., :3]) if video.frames.shape[-1] == 4 else video.frames
    if mask is not None:
        cut, key = soft_edges(rgb, _mask_alpha(mask, len(rgb), video.fps, start, end, video.path)), "mask"
    elif segmenter is not None:
        cut, key = soft_edges(rgb, _soften(_segment(segmenter, rgb, video.path))), "segmenter"
    elif video.frames.shape[-1] == 4 and (key == "alpha" or video.frames[..., 3].min() < 255 - _NOISE):
        cut, key = _own_alpha(video.frames, video.path), "alpha"
    else:
        screen = measure_screen(rgb, key, video.path)
        cut, key = key_out(rgb, screen, video.path), screen.name
    return Element(_crop(cut), video.path, key)


def fit_length(element: Element, frames: int, extend: Extend = "error") -> Element:
    """The element with exactly `frames` frames: the first ones, or extended if there are too few.

    Args:
        element: T frames.
        frames: how many are needed, at least 1.
        extend: "error" refuses a shorter element, "loop" repeats it, "hold" repeats its last frame.

    Raises:
        InputError: it is too short and `extend` is "error", or an argument is out of range.
    """
    have = len(element.frames)
    if frames < 1:
        raise InputError(f"frames={frames}: pass at least 1")
    if extend not in ("error", "loop", "hold"):
        raise InputError(f"extend={extend!r}: known are 'error', 'loop' and 'hold'")
    if have < frames and extend == "error":
        raise InputError(
            f"{element.name}: has {have} frames, {frames} are needed: pass --frames {have} or less, "
            "a longer clip, or extend='loop' or 'hold'"
        )
    wanted = np.arange(frames)
    chosen = wanted % have if extend == "loop" else np.minimum(wanted, have - 1)
    return dataclasses.replace(element, frames=element.frames[chosen])


def _own_alpha(frames: np.ndarray, name: str) -> np.ndarray:
    alpha = frames[..., 3]
    if alpha.min() >= 255 - _NOISE:
        raise InputError(
            f"{name}: key alpha was tried, but alpha is opaque everywhere; "
            "pass --key white, green, blue or '#RRGGBB' for its background, or a mask clip (--mask)"
        )
    if alpha.max() <= _NOISE:
        raise InputError(f"{name}: key alpha was tried and no element was found: alpha is 0 everywhere")
    out = frames.copy()
    out[..., 3] = np.where(alpha <= _NOISE, 0, np.where(alpha >= 255 - _NOISE, 255, alpha))
    return out


def _check_mask(mask: Media, clip: Media) -> None:
    if (mask.width, mask.height) != (clip.width, clip.height):
        raise InputError(
            f"{mask.path}: {mask.width}x{mask.height} pixels, {clip.path} has {clip.width}x{clip.height}; "
            "pass a mask clip of the same size"
        )


def _mask_alpha(
    mask: Media, frames: int, fps: float, start: float, end: float | None, clip: str
) -> np.ndarray:
    """float32 [frames, H, W], 0..1, from a mask clip."""
    still = mask.frames == 1
    video = read_video(mask) if still else read_video(mask, fps=fps, start=start, end=end)
    grey = video.frames[:frames].max(axis=-1)  # a mask painted in any colour
    if still:
        grey = np.repeat(grey, frames, axis=0)
    if len(grey) < frames:
        raise InputError(
            f"{video.path}: has {len(grey)} frames at {fps:g} fps, {clip} has {frames}: "
            f"pass --frames {len(grey)} or less, or a mask clip of the same length"
        )
    if grey.max() < 128:
        raise InputError(
            f"{video.path}: the mask was tried and no element was found: it is black in all frames; "
            "paint white where the element is"
        )
    alpha = np.clip((grey.astype(np.float32) - _MASK_BLACK) / (_MASK_WHITE - _MASK_BLACK), 0, 1)
    return alpha if ((alpha > 0) & (alpha < 1)).any() else _soften(alpha > 0.5)


def _segment(segmenter: Segmenter, frames: np.ndarray, name: str) -> np.ndarray:
    masks = np.asarray(segmenter(frames))
    if masks.shape != frames.shape[:3] or masks.dtype != np.bool_:
        raise InputError(
            f"segmenter: {masks.dtype} {masks.shape} for {name}; it must return bool {frames.shape[:3]}"
        )
    if not masks.any():
        raise InputError(f"{name}: the segmenter was tried and no element was found; pass --key or --mask")
    return masks


def _soften(masks: np.ndarray) -> np.ndarray:
    """Binary masks, bool [T, H, W] -> alpha, float32 0..1: a soft edge of two pixels on the same outline."""
    return np.stack([cv2.GaussianBlur(m.astype(np.float32), (5, 5), 0.8) for m in masks])


def _crop(cut: np.ndarray) -> np.ndarray:
    """uint8 [T, H, W, 4] -> [T, h, w, 4]: the bounding box of all that is not transparent in some frame."""
    x, y, w, h = cv2.boundingRect(cut[..., 3].max(axis=0))
    return np.ascontiguousarray(cut[:, y : y + h, x : x + w])
