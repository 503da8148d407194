"""The view: the map between the background's pixels and the model's frame, which keeps the aspect ratio.

The background is resized to the largest rectangle of its aspect ratio that fits into the model's frame (the
content) and centred; the rest is padded with the nearest edge pixel. (The released application stretches
every input to 720 x 480, which distorts the scene and the element.)

Pixel centres are at integers, so a frame of width w covers [-0.5, w - 0.5], and resizing maps edges to edges:
x_model = (x_native + 0.5) * scale - 0.5 + left. "Native" is the background's own size.
"""

import dataclasses

import cv2
import numpy as np

from gencompositor_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class View:
    """The map between native background pixels and the model's frame; sizes are (height, width)."""

    native: tuple[int, int]
    model: tuple[int, int]
    content: tuple[int, int]  # size of the resized background within the model's frame
    origin: tuple[int, int]  # (top, left) of the content within the model's frame

    @property
    def scale(self) -> tuple[float, float]:
        """(x, y) model pixels per native pixel; they differ because the content has whole pixels."""
        return self.content[1] / self.native[1], self.content[0] / self.native[0]

    @property
    def matrix(self) -> np.ndarray:
        """float64 [2, 3]: the affine map from native (x, y, 1) to model (x, y)."""
        (sx, sy), (top, left) = self.scale, self.origin
        return np.array([[sx, 0.0, 0.5 * sx - 0.5 + left], [0.0, sy, 0.5 * sy - 0.5 + top]])


def make_view(native_size: tuple[int, int], model_size: tuple[int, int]) -> View:
    """The view of a background of `native_size` in a frame of `model_size`, both (height, width).

    InputError if a size is not positive, or the background so narrow that its content has no pixel.
    """
    (nh, nw), (mh, mw) = native_size, model_size
    if min(nh, nw, mh, mw) < 1:
        raise InputError(
            f"background of {nw}x{nh} pixels for a model of {mw}x{mh}: both sizes must be positive"
        )
    scale = min(mh / nh, mw / nw)
    content = (min(mh, round(nh * scale)), min(mw, round(nw * scale)))
    if min(content) < 1:
        raise InputError(
            f"background of {nw}x{nh} pixels: too narrow for a model of {mw}x{mh}; crop it first"
        )
    origin = ((mh - content[0]) // 2, (mw - content[1]) // 2)
    return View((nh, nw), (mh, mw), content, origin)


def identity_view(size: tuple[int, int]) -> View:
    """The identity map, for drawing at the background's own size."""
    return View(size, size, size, (0, 0))


def to_model(frames: np.ndarray, view: View) -> np.ndarray:
    """uint8 [T, H, W, C] native -> uint8 [T, h, w, C] of the model."""
    (mh, mw), (ch, cw), (top, left) = view.model, view.content, view.origin
    out = np.empty((len(frames), mh, mw, frames.shape[-1]), frames.dtype)
    for frame, target in zip(frames, out, strict=True):
        content = _resize(frame, (ch, cw))
        border = (top, mh - ch - top, left, mw - cw - left)
        target[:] = cv2.copyMakeBorder(content, *border, cv2.BORDER_REPLICATE).reshape(target.shape)
    return out


def from_model(frames: np.ndarray, view: View) -> np.ndarray:
    """uint8 [T, h, w, C] of the model -> uint8 [T, H, W, C] native, without the padding."""
    content = crop_content(frames, view)
    out = np.empty((len(frames), *view.native, frames.shape[-1]), frames.dtype)
    for frame, target in zip(content, out, strict=True):
        target[:] = _resize(frame, view.native).reshape(target.shape)
    return out


def mask_to_model(masks: np.ndarray, view: View) -> np.ndarray:
    """bool [T, H, W] native -> bool [T, h, w]: a model pixel is inside if any part of it is.

    This keeps thin parts. The padding is outside.
    """
    (ch, cw), (top, left) = view.content, view.origin
    out = np.zeros((len(masks), *view.model), bool)
    for mask, target in zip(masks, out, strict=True):
        covered = cv2.resize(mask.astype(np.float32), (cw, ch), interpolation=cv2.INTER_AREA)
        target[top : top + ch, left : left + cw] = covered > 1e-6
    return out


def crop_content(frames: np.ndarray, view: View) -> np.ndarray:
    """[T, h, w, ...] of the model -> the content [T, ch, cw, ...]."""
    (ch, cw), (top, left) = view.content, view.origin
    return frames[:, top : top + ch, left : left + cw]


def points_to_model(points: np.ndarray, view: View) -> np.ndarray:
    """[..., 2] native (x, y) -> (x, y) in the model's frame."""
    return points @ view.matrix[:, :2].T + view.matrix[:, 2]


def _resize(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A frame [H, W, C] at (height, width): area average when shrinking, bicubic when enlarging."""
    if frame.shape[:2] == size:
        return frame
    rule = cv2.INTER_AREA if size[0] <= frame.shape[0] and size[1] <= frame.shape[1] else cv2.INTER_CUBIC
    return cv2.resize(frame, (size[1], size[0]), interpolation=rule)
