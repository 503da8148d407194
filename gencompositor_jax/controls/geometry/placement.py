"""Placing the element: from its own pixels and a path to the target mask and the foreground.

The target mask is the element's own silhouette, scaled, rotated, put on the path and clipped at the frame's
edges. The foreground shows the same element, scaled and rotated alike, centred on white: mask and foreground
agree in size in every frame. (In the released implementation the mask is measured in the element's own pixels
while the foreground is squashed to a square of the frame's height, so the two are unrelated.)

Geometry: an element pixel p goes to the native pixel  path + scale * R(rotation) (p - anchor),  then through
the view to the model's frame.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np

from gencompositor_jax.controls.element.loading import Element
from gencompositor_jax.controls.geometry.trajectory import Path
from gencompositor_jax.controls.geometry.view import View, crop_content
from gencompositor_jax.errors import InputError

Anchor = Literal["center", "bottom"]

MAX_FRAMES_WIDE = 8.0  # an element drawn wider or taller than this many frames is taken for a mistake
MIN_VISIBLE = 4  # pixels of silhouette, in the best frame, below which nothing could be generated


@dataclasses.dataclass(frozen=True)
class Placed:
    """The element on its way through the frame, at the size of a view."""

    silhouette: np.ndarray  # bool [T, H, W]: at least half covered by the element
    foreground: np.ndarray  # uint8 [T, H, W, 3]: the same element centred on white, what the network sees
    paste: np.ndarray  # uint8 [T, H, W, 4]: the element in its place, straight alpha; for previews


def place(element: Element, path: Path, anchor: Anchor, size: tuple[int, int], view: View) -> Placed:
    """Draws the element along the path as a view shows it.

    Args:
        element: T frames, straight alpha.
        path: T positions in native background pixels; `scale` is native pixels per element pixel.
        anchor: which point of the element's canvas sits on the path: its centre, or the middle of its bottom
            edge. It turns about that point.
        size: (height, width) of the frames drawn, the view's.
        view: from native pixels to the frames drawn; `identity_view` draws at the native size.

    Raises InputError where the lengths differ, the element is more than 8 frames wide or tall, or never
    visible (outside the frame in every frame, or too small).
    """
    if anchor not in ("center", "bottom"):
        raise InputError(f"anchor {anchor!r}: pass 'center' or 'bottom'")
    if size != view.model:
        raise ValueError(f"size {size}: the view draws frames of {view.model}")
    frames = len(path.xy)
    if len(element.frames) != frames:
        raise InputError(
            f"{element.name}: {len(element.frames)} frames for a path of {frames}; "
            f"pass --frames {len(element.frames)} or extend the clip"
        )
    _check_size(element, path, view)
    h, w = element.frames.shape[1:3]
    centre = ((w - 1) / 2, (h - 1) / 2)
    pivot = centre if anchor == "center" else (centre[0], h - 0.5)
    middle = ((size[1] - 1) / 2, (size[0] - 1) / 2)

    foreground = np.full((frames, *size, 3), 255, np.uint8)
    paste = np.zeros((frames, *size, 4), np.uint8)
    for t in range(frames):
        linear = np.array(view.scale)[:, None] * path.scale[t] * rotation_matrix(path.rotation[t])
        target = view.matrix[:, :2] @ path.xy[t] + view.matrix[:, 2]
        premultiplied = _premultiply(element.frames[t])
        drawn, where = warp(premultiplied, _affine(linear, pivot, target), size)
        paste[t][where] = _straight(drawn)
        drawn, where = warp(premultiplied, _affine(linear, centre, middle), size)
        foreground[t][where] = np.rint(drawn[..., :3] + (255.0 - drawn[..., 3:])).clip(0, 255)
    silhouette = paste[..., 3] >= 128
    _check_visible(element, path, view, silhouette)
    return Placed(silhouette, foreground, paste)


def paste_over(background: np.ndarray, paste: np.ndarray) -> np.ndarray:
    """uint8 [T, H, W, 3] with the straight-alpha uint8 [T, H, W, 4] laid over it: plain pasting."""
    out = background.copy()
    for frame, layer in zip(out, paste, strict=True):
        alpha = layer[..., 3:].astype(np.float32) / 255
        frame[:] = np.rint(frame + alpha * (layer[..., :3].astype(np.float32) - frame))
    return out


def warp(
    premultiplied: np.ndarray, matrix: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, tuple[slice, slice]]:
    """Warps a premultiplied float32 RGBA picture [h, w, 4] (0..255) into a transparent frame, unaliased.

    `matrix` [2, 3] maps the picture's (x, y, 1) to the frame's (x, y); `size` is the frame's (height, width).
    Returns the part of the frame that the picture touches, float32 [b, a, 4], and the (rows, columns) it is;
    it is empty where the picture is outside.

    Where the picture shrinks, that part is drawn k times finer, with k such that nothing shrinks there, and
    averaged over k x k areas. The work grows with the picture and the frame, not with the scale.
    """
    h, w = premultiplied.shape[:2]
    # One pixel beyond the picture, because its edges fade out over it.
    corners = np.array([[-1, -1], [w, -1], [-1, h], [w, h]], np.float64)
    box = corners @ matrix[:, :2].T + matrix[:, 2]
    x0, y0 = (int(v) for v in np.floor(np.clip(box.min(0), 0, (size[1], size[0]))))
    x1, y1 = (int(v) for v in np.ceil(np.clip(box.max(0) + 1, 0, (size[1], size[0]))))
    where = slice(y0, y1), slice(x0, x1)
    if x1 <= x0 or y1 <= y0:
        return np.zeros((y1 - y0, x1 - x0, 4), np.float32), where
    smallest = np.linalg.svd(matrix[:, :2], compute_uv=False)[-1]
    k = max(1, math.ceil(min(1 / max(smallest, 1e-9), max(h, w)) - 1e-6))
    # A point x of the frame is k (x - x0 + 0.5) - 0.5 in the fine grid: edges of the box onto edges.
    fine = matrix * k
    fine[:, 2] += k * (0.5 - np.array([x0, y0])) - 0.5
    area = (x1 - x0) * k, (y1 - y0) * k
    drawn = cv2.warpAffine(premultiplied, fine, area, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    if k > 1:
        drawn = cv2.resize(drawn, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    return drawn, where


def rotation_matrix(degrees: float) -> np.ndarray:
    """[2, 2] turning counter-clockwise as seen on the screen, where y points down."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, s], [-s, c]])


def _affine(
    linear: np.ndarray, pivot: tuple[float, float], target: Sequence[float] | np.ndarray
) -> np.ndarray:
    """[2, 3]: p -> target + linear (p - pivot)."""
    return np.concatenate([linear, (np.asarray(target) - linear @ np.asarray(pivot))[:, None]], axis=1)


def _premultiply(rgba: np.ndarray) -> np.ndarray:
    """uint8 straight -> float32 premultiplied: hidden colours of clear pixels can't bleed into the edges."""
    out = rgba.astype(np.float32)
    out[..., :3] *= out[..., 3:] / 255
    return out


def _straight(premultiplied: np.ndarray) -> np.ndarray:
    alpha = premultiplied[..., 3:]
    colour = premultiplied[..., :3] * (255 / np.maximum(alpha, 1e-3))
    out = np.concatenate([np.where(alpha >= 0.5, colour, 0), alpha], axis=-1)
    return np.rint(out).clip(0, 255).astype(np.uint8)


def _check_size(element: Element, path: Path, view: View) -> None:
    h, w = element.frames.shape[1:3]
    largest = float(path.scale.max())
    finite = all(np.isfinite(values).all() for values in (path.xy, path.scale, path.rotation))
    if not finite or path.scale.min() <= 0:
        raise InputError("trajectory: positions and rotations must be finite, scales finite and above 0")
    if max(largest * h / view.native[0], largest * w / view.native[1]) > MAX_FRAMES_WIDE:
        fit = min(view.native[0] / h, view.native[1] / w)
        raise InputError(
            f"scale {largest:g}: {element.name} ({w}x{h} pixels) would be more than {MAX_FRAMES_WIDE:g} "
            f"frames large; it fits into the {view.native[1]}x{view.native[0]} background at {fit:.3g}"
        )


def _check_visible(element: Element, path: Path, view: View, silhouette: np.ndarray) -> None:
    if crop_content(silhouette, view).sum(axis=(1, 2)).max(initial=0) >= MIN_VISIBLE:
        return
    h, w = element.frames.shape[1:3]
    scale = float(path.scale.max())
    area = scale**2 * math.prod(view.scale) * (element.frames[..., 3] >= 128).sum(axis=(1, 2)).max()
    if area < MIN_VISIBLE:
        raise InputError(
            f"{element.name} ({w}x{h} pixels): at scale {scale:g} it covers {area:.2g} solid pixels of "
            f"the model's {view.model[1]}x{view.model[0]} frame; pass a larger --scale"
        )
    (x0, y0), (x1, y1) = path.xy.min(axis=0), path.xy.max(axis=0)
    raise InputError(
        f"trajectory: x {x0:.0f}..{x1:.0f}, y {y0:.0f}..{y1:.0f} keeps the element outside the "
        f"{view.native[1]}x{view.native[0]} background in every frame; pass points inside"
    )
