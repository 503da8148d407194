"""Mask clips: one value per pixel, from whatever a program writes a mask as."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from gencompositor_jax.controls.media.decoding import decoded
from gencompositor_jax.controls.media.frames import Frames
from gencompositor_jax.controls.media.images import ImageSequence, read_mask_frames
from gencompositor_jax.controls.media.video import Chosen, Media, choose, in_order
from gencompositor_jax.errors import InputError

VISIBLE = 8  # of 255: alpha up to it is coding noise
_EVEN = 16  # of 255: colours that differ less are one colour
_BLACK, _WHITE = 16, 240  # of 255: values beyond them are black and white in compressed video


class Mask(NamedTuple):
    """The values of a mask clip."""

    values: Frames  # uint8 [T, H, W], 255 inside
    soft: bool  # whether there are values between black and white


def open_mask(
    media: Media,
    fps: float | None = None,
    start: float = 0.0,
    end: float | None = None,
    frames: int | None = None,
) -> Mask:
    """A mask, read once now and again when its values are asked for; which frames: see `read_video`.

    If the shape is in alpha and what is visible has one colour, alpha is the mask; else the brightest channel
    times alpha is. Values of 0 and 1 in 8-bit files, and of up to 255 in 16-bit files, are scaled. Soft
    values stay. Raises InputError if it is black in all frames.
    """
    chosen = choose(media, fps, start, end, frames, False)
    kind = _Kind(chosen)
    for values, alpha in _raw(chosen, 0):
        kind.see(values, alpha)
    kind.settle()
    shape = (len(chosen.indices), media.height, media.width)
    made = in_order(shape, lambda first: (kind.mask(*raw) for raw in _raw(chosen, first)))
    brightest, soft = 0, False
    for used in kind.used:
        levels = kind.levels(used)
        brightest = max(brightest, int(levels.max(initial=0)))
        soft = soft or bool(((levels > 0) & (levels < 255)).any())
    if brightest < 128:
        raise InputError(
            f"{media.path}: the mask is black in all {shape[0]} frames (at most {brightest} of 255): paint "
            "white what is meant"
        )
    return Mask(made, soft)


def read_mask(
    media: Media,
    fps: float | None = None,
    start: float = 0.0,
    end: float | None = None,
    frames: int | None = None,
) -> np.ndarray:
    """The values of `open_mask` in memory: uint8 [T, H, W]."""
    return np.asarray(open_mask(media, fps, start, end, frames).values)


class _Kind:
    """How the frames of a clip are masks, which all of them decide."""

    def __init__(self, chosen: Chosen) -> None:
        media = chosen.media
        jpeg = isinstance(media, ImageSequence) and media.images[0].suffix.lower() in (".jpg", ".jpeg")
        self._noisy = jpeg or not isinstance(media, ImageSequence)
        self._darkest, self._brightest, self._clear = 65535, 0, False
        self._grey, self._cover = np.zeros(65536, bool), np.zeros(256, bool)  # the values that occur
        self._by_alpha = False
        self.used: list[np.ndarray] = []  # the values that decide, of each kind

    def see(self, values: np.ndarray, alpha: np.ndarray | None) -> None:
        """Notes the values of a frame."""
        seen = values if alpha is None else values[alpha > VISIBLE]
        self._grey |= np.bincount(seen.ravel(), minlength=65536) > 0
        if alpha is not None:
            self._cover |= np.bincount(alpha.ravel(), minlength=256) > 0
            self._clear = self._clear or bool(alpha.min() < 255 - VISIBLE)
        if seen.size:
            self._darkest = min(self._darkest, int(seen.min()))
            self._brightest = max(self._brightest, int(seen.max()))

    def settle(self) -> None:
        """Decides."""
        self._by_alpha = self._clear and self._brightest - self._darkest <= _EVEN * 257
        grey, cover = np.flatnonzero(self._grey), np.flatnonzero(self._cover)
        self.used = [cover] if self._by_alpha else [grey]

    def mask(self, values: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
        """A frame's mask, uint8 [H, W]."""
        if self._by_alpha and alpha is not None:
            return self.levels(alpha)
        levels = self.levels(values)
        if alpha is not None and self._clear:
            levels = (levels * (alpha.astype(np.uint16) + 1) >> 8).astype(np.uint8)
        return levels

    def levels(self, values: np.ndarray) -> np.ndarray:
        """Values of the deciding kind as 0..255."""
        if self._by_alpha:
            out = values.astype(np.uint8)
        elif self._brightest in (1, 257):  # label 1, in 16 or in 8 bits
            out = np.where(values > 0, 255, 0).astype(np.uint8)
        else:  # 8-bit values in 16 bits, or all of 16 bits
            out = (values if self._brightest <= 255 else values >> 8).astype(np.uint8)
        if self._noisy:
            stretched = (np.arange(256) - _BLACK) * (255 / (_WHITE - _BLACK))
            out = np.rint(stretched.clip(0, 255)).astype(np.uint8)[out]
        return out


def _raw(chosen: Chosen, first: int) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Values, uint16 [H, W], and alpha, uint8 [H, W] or None, from frame `first` on."""
    media, indices = chosen.media, chosen.indices[first:]
    if isinstance(media, ImageSequence):
        yield from read_mask_frames(media, indices.tolist())
        return
    for pixels in decoded(media, indices, alpha=media.has_alpha):
        alpha = pixels[..., 3] if media.has_alpha else None
        yield pixels[..., :3].max(axis=-1).astype(np.uint16) * 257, alpha
