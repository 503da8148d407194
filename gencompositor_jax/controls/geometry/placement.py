"""The input transformation of the paper: from an element and its path to target mask and foreground.

An element pixel p is mapped to the background pixel

    (1)  q = path + scale R(rotation) (p - anchor)

and by the view to the model's frame. The target mask is the element's silhouette under (1); the foreground is
the element at the same scale and rotation, centred on white. (The released implementation measures the mask
in the element's own pixels and squashes the foreground to a square of the frame's height, so their sizes are
unrelated.)
"""

import math
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np

from gencompositor_jax.controls.element.element import Cutout, Element
from gencompositor_jax.controls.geometry.path import Path, piece
from gencompositor_jax.controls.geometry.view import View, crop_content, points_to_model
from gencompositor_jax.controls.media.frames import pieces
from gencompositor_jax.errors import InputError

Anchor = Literal["center", "bottom"]

MAX_FRAMES_WIDE = 8.0  # an element wider or taller than this many frames is refused
OPAQUE = 128  # alpha from which a pixel of the placed element is in its silhouette
MIN_VISIBLE = 4  # pixels of silhouette, in the frame with most, below which the element is refused
SEEN = 13  # the same for parts that are translucent
_EDGE = 5  # pixels; translucent parts that are narrower are an antialiased or blurred edge


def trajectory_to_mask(element: Element, path: Path, anchor: Anchor, view: View) -> np.ndarray:
    """The target mask of the paper's input transformation, before inflation: bool [T, h, w].

    A pixel is inside where the element, scaled, rotated and moved along the path, covers at least half of it,
    and where a translucent part of it (smoke, glass) is visible; see `silhouette_of`.

    Args:
        element: T frames, straight alpha.
        path: T positions in pixels of the view's background; `scale` is background pixels per element pixel.
        anchor: the point of the element's canvas that follows the path and that it rotates about: its centre,
            or the middle of its bottom edge.
        view: from background pixels to the (h, w) pixels of the model; `identity_view` keeps them.

    InputError if the lengths differ, the element is more than 8 frames wide or tall, or it is visible in no
    frame (outside in every frame, or too small).
    """
    mask = silhouette(element, path, anchor, view)
    check_visible(element, path, anchor, view)
    return mask


def silhouette(element: Element, path: Path, anchor: Anchor, view: View) -> np.ndarray:
    """`trajectory_to_mask` also where the element isn't visible: of a piece of a clip."""
    return silhouette_of(paste_of(element, path, anchor, view)[..., 3])


def silhouette_of(alpha: np.ndarray) -> np.ndarray:
    """What of an element counts as visible: alpha, uint8 [T, h, w] -> bool [T, h, w].

    Alpha of `OPAQUE` or more, and alpha of `SEEN` or more in parts that are at least `_EDGE` pixels wide and
    high; in frames without an opaque pixel, all of `SEEN` or more.
    """
    solid = alpha >= OPAQUE
    square = np.ones((_EDGE, _EDGE), np.uint8)
    for cover, inside in zip(alpha, solid, strict=True):
        faint = (cover >= SEEN) & ~inside
        if not inside.any():
            inside |= faint
        elif faint.any():
            parts = cv2.morphologyEx(faint.view(np.uint8), cv2.MORPH_OPEN, square, borderValue=0)
            inside |= parts.view(bool)
    return np.asarray(solid)


def check_visible(element: Cutout, path: Path, anchor: Anchor, view: View) -> None:
    """Raises the InputErrors of `trajectory_to_mask`; reads the element up to where it is visible."""
    _check(element, path, view)
    visible, most, first = 0, 0, 0
    for frames in pieces(element.frames):
        part = slice(first, first + len(frames))
        mask = silhouette(Element(frames, element.name), piece(path, part), anchor, view)
        if crop_content(mask, view).sum(axis=(1, 2)).max() >= MIN_VISIBLE:
            return
        visible = max(visible, int(silhouette_of(frames[..., 3]).sum(axis=(1, 2)).max()))
        most = max(most, int(frames[..., 3].max()))
        first += len(frames)
    h, w = element.frames.shape[1:3]
    scale = float(path.scale.max())
    area = scale**2 * math.prod(view.scale) * visible
    if visible == 0:
        raise InputError(
            f"{element.name}: its alpha is at most {most / 255:.2g}, so it is nearly invisible; raise it in "
            "the clip"
        )
    if area < MIN_VISIBLE:
        raise InputError(
            f"{element.name} ({w}x{h} pixels): at scale {scale:g} it covers {area:.2g} visible pixels of "
            f"the model's {view.model[1]}x{view.model[0]} frame; pass a larger --scale"
        )
    (x0, y0), (x1, y1) = path.xy.min(axis=0), path.xy.max(axis=0)
    raise InputError(
        f"trajectory: x {x0:.0f}..{x1:.0f}, y {y0:.0f}..{y1:.0f} keeps the element outside the "
        f"{view.native[1]}x{view.native[0]} background in every frame; pass points inside"
    )


def centred_foreground(
    element: Element, path: Path, view: View, shift: np.ndarray | None = None
) -> np.ndarray:
    """The foreground video of the network, uint8 [T, h, w, 3]: the element centred on white.

    Scaled and rotated as in `trajectory_to_mask`, so that the mask and the foreground agree in size. shift:
    [T, 2], (x, y) in the model's pixels from the centre, or None; see `offsets.whole_tokens`.
    """
    _check(element, path, view)
    (h, w), (rows, columns) = element.frames.shape[1:3], view.model
    out = np.full((len(element.frames), rows, columns, 3), 255, np.uint8)
    pivot, centre = ((w - 1) / 2, (h - 1) / 2), ((columns - 1) / 2, (rows - 1) / 2)
    for t, frame in enumerate(element.frames):
        target = centre if shift is None else np.add(centre, shift[t])
        drawn, where = warp(_premultiply(frame), _affine(_linear(path, view, t), pivot, target), view.model)
        out[t][where] = np.rint(drawn[..., :3] + (255.0 - drawn[..., 3:])).clip(0, 255)
    return out


def distance_from_centre(element: Cutout, path: Path, anchor: Anchor, view: View) -> np.ndarray:
    """[T, 2], (x, y) in the model's pixels: from the frame's centre, where `centred_foreground` shows the
    centre of the element's canvas, to where that is in the target.
    """
    h, rows, columns = element.frames.shape[1], *view.model
    up = np.array([0.0, 0.0 if anchor == "center" else -h / 2])
    rise = np.stack([_linear(path, view, t) @ up for t in range(len(path.xy))])
    return points_to_model(path.xy, view) + rise - ((columns - 1) / 2, (rows - 1) / 2)


def paste_of(element: Element, path: Path, anchor: Anchor, view: View) -> np.ndarray:
    """The element moved along the path, uint8 straight-alpha RGBA [T, h, w, 4]; see `trajectory_to_mask`."""
    if anchor not in ("center", "bottom"):
        raise InputError(f"anchor {anchor!r}: pass 'center' or 'bottom'")
    _check(element, path, view)
    h, w = element.frames.shape[1:3]
    pivot = ((w - 1) / 2, (h - 1) / 2 if anchor == "center" else h - 0.5)
    out = np.zeros((len(element.frames), *view.model, 4), np.uint8)
    for t, frame in enumerate(element.frames):
        target = points_to_model(path.xy[t], view)
        drawn, where = warp(_premultiply(frame), _affine(_linear(path, view, t), pivot, target), view.model)
        out[t][where] = _straight(drawn)
    return out


def paste_over(background: np.ndarray, paste: np.ndarray) -> np.ndarray:
    """uint8 [T, H, W, 3] with the straight-alpha uint8 [T, H, W, 4] over it: plain alpha compositing."""
    out = background.copy()
    for frame, layer in zip(out, paste, strict=True):
        alpha = layer[..., 3:].astype(np.float32) / 255
        frame[:] = np.rint(frame + alpha * (layer[..., :3].astype(np.float32) - frame))
    return out


def warp(
    premultiplied: np.ndarray, matrix: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, tuple[slice, slice]]:
    """Warp a premultiplied float32 RGBA image [h, w, 4] (0..255) into a transparent frame, antialiased.

    `matrix` [2, 3] maps the image's (x, y, 1) to the frame's (x, y); `size` is the frame's (height, width).
    Returns the image's bounding box in the frame, float32 [b, a, 4], and the (rows, columns) of it; empty if
    the image is outside.

    If the image shrinks, it is drawn at k times the resolution, with k such that it doesn't shrink there, and
    averaged over k x k pixels. The cost grows with the image and the frame, not with the scale.
    """
    h, w = premultiplied.shape[:2]
    # One pixel beyond the image, over which interpolation fades its edges out.
    corners = np.array([[-1, -1], [w, -1], [-1, h], [w, h]], np.float64)
    box = corners @ matrix[:, :2].T + matrix[:, 2]
    x0, y0 = (int(v) for v in np.floor(np.clip(box.min(0), 0, (size[1], size[0]))))
    x1, y1 = (int(v) for v in np.ceil(np.clip(box.max(0) + 1, 0, (size[1], size[0]))))
    where = slice(y0, y1), slice(x0, x1)
    if x1 <= x0 or y1 <= y0:
        return np.zeros((y1 - y0, x1 - x0, 4), np.float32), where
    smallest = np.linalg.svd(matrix[:, :2], compute_uv=False)[-1]
    k = max(1, math.ceil(min(1 / max(smallest, 1e-9), max(h, w)) - 1e-6))
    # A point x of the frame is k (x - x0 + 0.5) - 0.5 in the fine grid, which maps edges to edges.
    fine = matrix * k
    fine[:, 2] += k * (0.5 - np.array([x0, y0])) - 0.5
    area = (x1 - x0) * k, (y1 - y0) * k
    drawn = cv2.warpAffine(premultiplied, fine, area, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    if k > 1:
        drawn = cv2.resize(drawn, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    return drawn, where


def rotation_matrix(degrees: float) -> np.ndarray:
    """[2, 2]: counter-clockwise as seen on the screen, where y points down."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, s], [-s, c]])


def _linear(path: Path, view: View, t: int) -> np.ndarray:
    """[2, 2]: from element pixels to the view's pixels at frame t."""
    return np.array(view.scale)[:, None] * path.scale[t] * rotation_matrix(path.rotation[t])


def _affine(
    linear: np.ndarray, pivot: tuple[float, float], target: Sequence[float] | np.ndarray
) -> np.ndarray:
    """[2, 3]: p -> target + linear (p - pivot)."""
    return np.concatenate([linear, (np.asarray(target) - linear @ np.asarray(pivot))[:, None]], axis=1)


def _premultiply(rgba: np.ndarray) -> np.ndarray:
    """uint8 straight alpha -> float32 premultiplied, so that transparent pixels' colours don't bleed."""
    out = rgba.astype(np.float32)
    out[..., :3] *= out[..., 3:] / 255
    return out


def _straight(premultiplied: np.ndarray) -> np.ndarray:
    alpha = premultiplied[..., 3:]
    colour = premultiplied[..., :3] * (255 / np.maximum(alpha, 1e-3))
    out = np.concatenate([np.where(alpha >= 0.5, colour, 0), alpha], axis=-1)
    return np.rint(out).clip(0, 255).astype(np.uint8)


def _check(element: Cutout, path: Path, view: View) -> None:
    """InputError if the element can't follow the path: lengths, finite numbers, size."""
    frames, h, w = element.frames.shape[:3]
    if frames != len(path.xy):
        raise InputError(
            f"{element.name}: {frames} frames for a path of {len(path.xy)}; pass --frames {frames} or "
            "extend the clip"
        )
    largest = float(path.scale.max())
    finite = all(np.isfinite(values).all() for values in (path.xy, path.scale, path.rotation))
    if not finite or path.scale.min() <= 0:
        raise InputError("trajectory: positions and rotations must be finite, scales finite and above 0")
    if max(largest * h / view.native[0], largest * w / view.native[1]) > MAX_FRAMES_WIDE:
        fit = min(view.native[0] / h, view.native[1] / w)
        raise InputError(
            f"scale {largest:g}: {element.name} ({w}x{h} pixels) would cover more than {MAX_FRAMES_WIDE:g} "
            f"frames; it fits into the {view.native[1]}x{view.native[0]} background at {fit:.3g}"
        )
