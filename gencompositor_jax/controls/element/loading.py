"""The foreground element: extracted from its clip, cropped to its extent, with straight alpha."""

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeVar

import cv2
import numpy as np

from gencompositor_jax.controls.element.alpha import SAMPLES, AlphaKind, is_premultiplied, straight_alpha
from gencompositor_jax.controls.element.element import Cutout, Element
from gencompositor_jax.controls.element.keying import Found, check_key, key_frames, soft_edges
from gencompositor_jax.controls.element.screen import Screen, measure_screen, parse_key
from gencompositor_jax.controls.element.segmenters.request import check_inside, parse_segment
from gencompositor_jax.controls.media.frames import Computed, picked, pieces
from gencompositor_jax.controls.media.masks import open_mask
from gencompositor_jax.controls.media.video import Footage, Media, MediaLike, open_video, probe, read_video
from gencompositor_jax.errors import InputError, within

Extend = Literal["error", "loop", "hold"]
Segmenter = Callable[[np.ndarray], np.ndarray]  # frames uint8 [T, H, W, 3] -> masks bool [T, H, W]

_NOISE = 8  # alpha this close to 0 or 255 is rounded to it: coding noise


CutoutT = TypeVar("CutoutT", bound=Cutout)


def load_element(
    media: MediaLike,
    *,
    key: str = "auto",
    alpha: AlphaKind = "auto",
    mask: MediaLike | None = None,
    segment: str | None = None,
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
        key: "alpha" (the stream's own), "white", "green", "blue", any colour "#RRGGBB" of the
            background, or "auto": alpha if the stream has any that is not opaque everywhere, else
            the colour of the borders.
        alpha: whether colours are multiplied by the clip's own alpha; "auto": see `is_premultiplied`.
        mask: a clip, folder or image of the clip's size that is white where the element is. It is read
            at the same times as the clip; one image applies to all frames.
        segment: what to find in the clip, "auto", "point:x,y", "box:x,y,x,y" or words; see `segmented`.
        segmenter: any function from frames, uint8 RGB [T, H, W, 3], to masks, bool [T, H, W].
        fps, start, end, frames: which frames to read, as in `read_video`; None for `frames` reads all.

    Raises:
        InputError: what `read_video` refuses; more than one of key, mask, segment and segmenter; a mask that
            does not fit; no element, or one that the key would damage. The message says what was tried
            and what to pass.
    """
    footage = _checked(media, key, mask, segment, segmenter)
    video = read_video(
        footage, fps=fps, start=start, end=end, frames=frames, alpha=_own(key, mask, segment, segmenter)
    )
    method = _method(video, key, mask, segment, segmenter, start, end, alpha)
    cut = np.empty((*video.frames.shape[:3], 4), np.uint8)
    box = _canvas(video, method, cut)
    return Element(np.ascontiguousarray(cut[:, *box]), video.path, method.name, _corner(box), method.notes)


def open_element(
    media: MediaLike,
    *,
    key: str = "auto",
    alpha: AlphaKind = "auto",
    mask: MediaLike | None = None,
    segment: str | None = None,
    segmenter: Segmenter | None = None,
    fps: float | None = None,
    start: float = 0.0,
    end: float | None = None,
    frames: int | None = None,
) -> Cutout:
    """What `load_element` returns, with frames that are read and keyed when they are asked for.

    The clip is read once for its checks. A segmenter gets all frames at once, in memory.
    """
    footage = _checked(media, key, mask, segment, segmenter)
    video = open_video(
        footage, fps=fps, start=start, end=end, frames=frames, alpha=_own(key, mask, segment, segmenter)
    )
    method = _method(video, key, mask, segment, segmenter, start, end, alpha)
    box = _canvas(video, method)
    shape = len(video.frames), box[0].stop - box[0].start, box[1].stop - box[1].start, 4

    def make(first: int, stop: int) -> np.ndarray:
        return np.ascontiguousarray(method.cut(video.frames[first:stop], first)[0][:, *box])

    return Cutout(Computed(shape, make), video.path, method.name, _corner(box), method.notes)


class _Method(NamedTuple):
    """How an element is cut out of its clip."""

    name: str
    # Frames and the first one's index -> RGBA with straight alpha, and what a key found.
    cut: Callable[[np.ndarray, int], tuple[np.ndarray, Found | None]]
    screen: Screen | None = None
    notes: tuple[str, ...] = ()


def _own(key: str, mask: MediaLike | None, segment: str | None, segmenter: Segmenter | None) -> bool:
    """Whether the clip's own alpha may be used."""
    return mask is None and segment is None and segmenter is None and key in ("auto", "alpha")


def _checked(
    media: MediaLike, key: str, mask: MediaLike | None, segment: str | None, segmenter: Segmenter | None
) -> Media:
    """The probed clip, after what can be checked without its frames."""
    given = {
        f"key {key!r}": key != "auto",
        "a mask": mask is not None,
        f"segment {segment!r}": segment is not None,
        "a segmenter": segmenter is not None,
    }
    passed = [name for name, is_given in given.items() if is_given]
    if len(passed) > 1:
        raise InputError(f"{' and '.join(passed)} were given; pass one of them")
    if key not in ("auto", "alpha"):
        with within("key"):
            parse_key(key)
    media = probe(media)
    if key == "alpha" and not media.has_alpha:
        raise InputError(
            f"{media.path}: key alpha was tried, but it has no alpha channel ({media.codec}); "
            "pass --key white, green, blue or '#RRGGBB' for its background, or a mask clip (--mask)"
        )
    if mask is not None:
        _check_mask(probe(mask), media)
    if segment is not None:
        with within("segment"):
            check_inside(parse_segment(segment), media.width, media.height, str(media.path))
    return media


def _method(
    video: Footage,
    key: str,
    mask: MediaLike | None,
    segment: str | None,
    segmenter: Segmenter | None,
    start: float,
    end: float | None,
    alpha_kind: AlphaKind,
) -> _Method:
    """The method for a clip. All of its frames are read where they decide."""
    frames, name = video.frames, video.path
    if mask is not None:
        alpha = _mask_alpha(probe(mask), len(frames), video.fps, start, end, name)
        return _Method("mask", lambda part, first: (soft_edges(_rgb(part), alpha(first, len(part))), None))
    if segment is not None:
        # The networks are imported where they are asked for.
        from gencompositor_jax.controls.element.segmenters.segmenting import segmented

        rgb = Computed((*frames.shape[:3], 3), lambda first, stop: _rgb(frames[first:stop]))
        found = segmented(
            _rgb(frames) if isinstance(frames, np.ndarray) else rgb, parse_segment(segment), name
        )
        return _Method(
            found.method,
            lambda part, first: (found.frames[first : first + len(part)], None),
            notes=found.notes,
        )
    if segmenter is not None:
        masks = _segment(segmenter, np.asarray(frames)[..., :3], name)

        def by_masks(part: np.ndarray, first: int) -> tuple[np.ndarray, None]:
            return soft_edges(_rgb(part), _soften(masks[first : first + len(part)])), None

        return _Method("segmenter", by_masks)
    if frames.shape[-1] == 4:
        low, high, samples = 255, 0, []
        stride = max(1, int(np.prod(frames.shape[:3])) // SAMPLES)
        for part in pieces(frames):
            low, high = min(low, int(part[..., 3].min())), max(high, int(part[..., 3].max()))
            samples.append(part.reshape(-1, 4)[::stride])
        if key == "alpha" or low < 255 - _NOISE:
            _check_alpha(low, high, name)
            if alpha_kind == "auto":
                alpha_kind = "premultiplied" if is_premultiplied(np.concatenate(samples)) else "straight"
            return _Method("alpha", lambda part, _: (_own_alpha(straight_alpha(part, alpha_kind)), None))
    rgb = Computed((*frames.shape[:3], 3), lambda first, stop: _rgb(frames[first:stop]))
    screen = measure_screen(rgb, key, name)
    return _Method(screen.name, lambda part, _: key_frames(_rgb(part), screen), screen)


def _canvas(video: Footage, method: _Method, out: np.ndarray | None = None) -> tuple[slice, slice]:
    """Rows and columns of the bounding box of all that is not transparent in some frame.

    out: gets the frames, uint8 [T, H, W, 4]. Raises InputError where a key found no element.
    """
    extent = np.zeros(video.frames.shape[1:3], np.uint8)
    founds, first = [], 0
    for part in pieces(video.frames):
        cut, found = method.cut(part, first)
        extent = np.maximum(extent, cut[..., 3].max(axis=0))
        if out is not None:
            out[first : first + len(part)] = cut
        if found is not None:
            founds.append(found)
        first += len(part)
    if method.screen is not None:
        found = Found(*map(np.concatenate, zip(*founds, strict=True)))
        check_key(found, extent.size, method.screen, video.path)
    x, y, w, h = cv2.boundingRect(extent)
    return slice(y, y + h), slice(x, x + w)


def _corner(box: tuple[slice, slice]) -> tuple[int, int]:
    return box[1].start, box[0].start


def fit_length(element: CutoutT, frames: int, extend: Extend = "error") -> CutoutT:
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
            "a longer clip, or --extend loop or hold"
        )
    if have == frames:
        return element
    wanted = np.arange(frames)
    chosen = wanted % have if extend == "loop" else np.minimum(wanted, have - 1)
    if isinstance(element.frames, np.ndarray):
        return dataclasses.replace(element, frames=element.frames[chosen])
    return dataclasses.replace(element, frames=picked(element.frames, chosen))


def _check_alpha(low: int, high: int, name: str) -> None:
    if low >= 255 - _NOISE:
        raise InputError(
            f"{name}: key alpha was tried, but alpha is opaque everywhere; "
            "pass --key white, green, blue or '#RRGGBB' for its background, or a mask clip (--mask)"
        )
    if high <= _NOISE:
        raise InputError(f"{name}: key alpha was tried and no element was found: alpha is 0 everywhere")


def _own_alpha(frames: np.ndarray) -> np.ndarray:
    out, alpha = frames.copy(), frames[..., 3]
    out[..., 3] = np.where(alpha <= _NOISE, 0, np.where(alpha >= 255 - _NOISE, 255, alpha))
    return out


def _rgb(frames: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(frames[..., :3]) if frames.shape[-1] == 4 else frames


def _check_mask(mask: Media, clip: Media) -> None:
    if (mask.width, mask.height) != (clip.width, clip.height):
        raise InputError(
            f"{mask.path}: {mask.width}x{mask.height} pixels, {clip.path} has {clip.width}x{clip.height}; "
            "pass a mask clip of the same size"
        )


def _mask_alpha(
    mask: Media, frames: int, fps: float, start: float, end: float | None, clip: str
) -> Callable[[int, int], np.ndarray]:
    """From a mask clip: (index, count) -> float32 [count, H, W], 0..1."""
    still = mask.frames == 1
    values, soft = open_mask(mask) if still else open_mask(mask, fps, start, end)
    count = len(values)
    if count < frames and not still:
        raise InputError(
            f"{mask.path}: has {count} frames at {fps:g} fps, {clip} has {frames}: "
            f"pass --frames {count} or less, or a mask clip of the same length"
        )
    picture = np.asarray(values) if still else None

    def alpha(first: int, count: int) -> np.ndarray:
        part = values[first : first + count] if picture is None else np.repeat(picture, count, axis=0)
        found = part.astype(np.float32) / 255
        return found if soft else _soften(found > 0.5)

    return alpha


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
