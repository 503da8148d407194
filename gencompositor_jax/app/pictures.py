"""Frames as the browser shows them: JPEG, WebP or PNG, never enlarged."""

from typing import Literal, get_args

import cv2
import numpy as np

from gencompositor_jax.errors import InputError

Format = Literal["jpeg", "webp", "png"]
FORMATS: tuple[Format, ...] = get_args(Format)

_QUALITY = {
    "jpeg": (cv2.IMWRITE_JPEG_QUALITY, 90),
    "webp": (cv2.IMWRITE_WEBP_QUALITY, 90),
    "png": (cv2.IMWRITE_PNG_COMPRESSION, 3),
}
_SQUARE, _LIGHT, _DARK = 8, 204, 153  # pixels, and the two greys of what is transparent


def encoded(image: np.ndarray, width: int, kind: Format) -> bytes:
    """A frame, uint8 [H, W, 3] or straight-alpha [H, W, 4], at most `width` pixels wide.

    JPEG has no alpha: it shows it over grey squares. WebP of a frame with alpha is lossless.
    """
    image = fitted(image, width)
    if image.shape[-1] == 4 and kind == "jpeg":
        image = over_squares(image)
    flags = _QUALITY[kind] if kind != "webp" or image.shape[-1] == 3 else (cv2.IMWRITE_WEBP_QUALITY, 101)
    order = cv2.COLOR_RGBA2BGRA if image.shape[-1] == 4 else cv2.COLOR_RGB2BGR
    done, data = cv2.imencode(f".{kind}", cv2.cvtColor(image, order), flags)
    if not done:
        raise InputError(f"format: {kind}: a frame of {image.shape[1]}x{image.shape[0]} pixels has none")
    return data.tobytes()


def fitted(image: np.ndarray, width: int) -> np.ndarray:
    """A frame reduced to at most `width` pixels of width; colours of transparent pixels don't bleed."""
    height, own = image.shape[:2]
    if own <= width:
        return image
    size = width, max(1, round(height * width / own))
    if image.shape[-1] == 3:
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    values = image.astype(np.float32)
    values[..., :3] *= values[..., 3:] / 255
    small = cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    colours = small[..., :3] * (255 / np.maximum(small[..., 3:], 1e-3))
    return np.rint(np.concatenate([colours, small[..., 3:]], axis=-1)).clip(0, 255).astype(np.uint8)


def over_squares(image: np.ndarray) -> np.ndarray:
    """Straight-alpha uint8 [H, W, 4] over grey squares: uint8 [H, W, 3]."""
    rows, columns = (np.arange(n) // _SQUARE % 2 for n in image.shape[:2])
    below = np.where(rows[:, None] == columns, _LIGHT, _DARK).astype(np.float32)[..., None]
    alpha = image[..., 3:].astype(np.float32) / 255
    return np.rint(below + alpha * (image[..., :3] - below)).astype(np.uint8)


def check_frame(t: int, frames: int) -> None:
    """Raises InputError unless a clip of so many frames has frame t."""
    if not 0 <= t < frames:
        raise InputError(f"frame: {t}; the clip has the frames 0 to {frames - 1}")
