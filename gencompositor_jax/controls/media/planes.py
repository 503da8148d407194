"""Decoded video frames as they are in the file: planes of samples, and R'G'B' from them and back.

    (1)  Y = Kr R + Kg G + Kb B,   Cb = (B - Y) / (2 - 2 Kb),   Cr = (R - Y) / (2 - 2 Kr)

with the matrices of ITU-T H.273. Values aren't clipped: what is darker than black or brighter than white in
a file of limited range is below 0 or above 1. Chroma samples are sited at the left edge of their pixels,
between rows (the default of H.264, annex E).
"""

from typing import Any, NamedTuple

import av
import cv2
import numpy as np

from gencompositor_jax.controls.media.display import EXACT

KR_KB = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}  # by H.273's number of the matrix
_FULL = 2  # FFmpeg's number of the full range
# Packed and semi-planar layouts, and a planar one with the same samples.
_PLANAR = {
    "rgb24": "gbrp",
    "bgr24": "gbrp",
    "bgr0": "gbrp",
    "rgb0": "gbrp",
    "rgba": "gbrap",
    "bgra": "gbrap",
    "argb": "gbrap",
    "abgr": "gbrap",
    "rgb48le": "gbrp16le",
    "rgb48be": "gbrp16le",
    "rgba64le": "gbrap16le",
    "rgba64be": "gbrap16le",
    "nv12": "yuv420p",
    "nv16": "yuv422p",
    "p010le": "yuv420p10le",
}


class Layout(NamedTuple):
    """What the planes of a video mean."""

    format: str  # FFmpeg's name of the planar layout
    bits: int
    steps: tuple[int, int]  # pixels per chroma sample, (across, down); (1, 1) without subsampling
    is_rgb: bool  # planes are G, B, R
    full: bool  # the range: black is 0
    matrix: int  # of YCbCr: a key of KR_KB

    @property
    def top(self) -> int:
        """The largest sample."""
        return (1 << self.bits) - 1


class Planes(NamedTuple):
    """One frame: uint8 or uint16 [h, w] per plane; a fourth is alpha."""

    layout: Layout
    samples: tuple[np.ndarray, ...]


def layout_of(frame: av.VideoFrame, matrix: int) -> Layout | None:
    """The layout of a decoded frame; None for one that isn't carried at its own depth (grey, palettes,
    floats, 4:1:1, less than 8 bits).
    """
    name = _PLANAR.get(frame.format.name, frame.format.name)
    form = av.VideoFormat(name, frame.width, frame.height)
    parts = form.components
    names = name.startswith(("yuv", "gbr"))
    if not names or len(parts) < 3 or "f" in name.removesuffix("le") or name.endswith("be"):
        return None
    across, down = (
        round(frame.width / max(1, parts[1].width)),
        round(frame.height / max(1, parts[1].height)),
    )
    if across > 2 or down > 2 or len({part.bits for part in parts[:3]}) > 1:
        return None
    is_rgb = name.startswith("gbr")
    full = is_rgb or name.startswith("yuvj") or int(frame.color_range) == _FULL
    return Layout(name, parts[0].bits, (1, 1) if is_rgb else (across, down), is_rgb, full, matrix)


def planes_of(frame: av.VideoFrame, layout: Layout) -> Planes:
    """A copy of a frame's samples."""
    if frame.format.name != layout.format:
        frame = frame.reformat(format=layout.format, interpolation=EXACT)
    kind = np.dtype("u1" if layout.bits <= 8 else "<u2")
    found = []
    for plane in frame.planes:
        rows = np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)
        found.append(rows[:, : plane.width].copy())
    return Planes(layout, tuple(found))


def frame_of(planes: Planes) -> av.VideoFrame:
    """The frame for an encoder."""
    height, width = planes.samples[0].shape
    frame = av.VideoFrame(width, height, planes.layout.format)
    for plane, samples in zip(frame.planes, planes.samples, strict=True):
        rows = np.zeros((plane.height, plane.line_size // samples.itemsize), samples.dtype)
        rows[:, : plane.width] = samples
        plane.update(rows.tobytes())
    return frame


def to_rgb(planes: Planes, box: tuple[slice, slice] = (slice(None), slice(None))) -> np.ndarray:
    """R'G'B' of a part: float32 [h, w, 3], 0..1 from black to white. Its corner is on a chroma sample."""
    layout = planes.layout
    first, *others = (
        plane[_coarser(box, steps)].astype(np.float32) for plane, steps in _with_steps(planes, layout)
    )
    if layout.is_rgb:
        return np.stack([others[1], first, others[0]], axis=-1) / layout.top
    luma, (zero, span) = first, _scale(layout, luma=False)
    y = (luma - _scale(layout, luma=True)[0]) / _scale(layout, luma=True)[1]
    cb, cr = (_up((chroma - zero) / span, layout.steps, y.shape) for chroma in others)
    kr, kb = KR_KB[layout.matrix]
    red, blue = y + (2 - 2 * kr) * cr, y + (2 - 2 * kb) * cb
    return np.stack([red, (y - kr * red - kb * blue) / (1 - kr - kb), blue], axis=-1)


def with_rgb(
    planes: Planes,
    box: tuple[slice, slice],
    values: np.ndarray,
    inside: np.ndarray,
    kept: np.ndarray,
) -> tuple[Planes, np.ndarray]:
    """The frame with R'G'B' float32 [h, w, 3] where `inside`, bool [h, w], of a part is set.

    A chroma sample changes if all of its pixels are inside, so what belongs to a pixel outside stays bit for
    bit. kept: float32 [h, w], the fraction of the plate that is visible, with which the finer chroma that
    pixels don't have is kept. Returns also which pixels were clipped, bool [h, w].
    """
    layout, kind = planes.layout, planes.samples[0].dtype
    samples = [plane.copy() for plane in planes.samples]
    clipped = np.zeros(inside.shape, bool)

    def put(index: int, steps: tuple[int, int], new: np.ndarray, where: np.ndarray) -> np.ndarray:
        part = samples[index][_coarser(box, steps)]
        beyond = where & ((new < -0.5) | (new >= layout.top + 0.5))
        part[where] = np.rint(np.clip(new[where], 0, layout.top)).astype(kind)
        return beyond

    if layout.is_rgb:
        for index, channel in enumerate((1, 2, 0)):
            clipped |= put(index, (1, 1), values[..., channel] * layout.top, inside)
        return Planes(layout, tuple(samples)), clipped
    kr, kb = KR_KB[layout.matrix]
    zero, span = _scale(layout, luma=True)
    y = values @ np.array([kr, 1 - kr - kb, kb], np.float32)
    clipped |= put(0, (1, 1), zero + span * y, inside)
    zero, span = _scale(layout, luma=False)
    whole = _all(inside, layout.steps)
    share = _down(kept, layout.steps)
    for index, (channel, k) in enumerate(((2, kb), (0, kr)), 1):
        before = samples[index][_coarser(box, layout.steps)].astype(np.float32)
        residual = before - _down(_up(before, layout.steps, inside.shape), layout.steps)
        new = zero + span * _down((values[..., channel] - y) / (2 - 2 * k), layout.steps)
        put(index, layout.steps, new + share * residual, whole)
    return Planes(layout, tuple(samples)), clipped


def box_around(inside: np.ndarray, margin: int = 4) -> tuple[slice, slice] | None:
    """The rows and columns around what is set, bool [H, W], with corners on chroma samples; None if nothing
    is.
    """
    if not inside.any():
        return None
    x, y, width, height = cv2.boundingRect(inside.astype(np.uint8))
    top, left = (max(0, at - margin) // 2 * 2 for at in (y, x))
    return slice(top, min(y + height + margin, len(inside))), slice(
        left, min(x + width + margin, inside.shape[1])
    )


def _with_steps(planes: Planes, layout: Layout) -> list[tuple[np.ndarray, tuple[int, int]]]:
    return list(zip(planes.samples[:3], ((1, 1), layout.steps, layout.steps), strict=True))


def _coarser(box: tuple[slice, slice], steps: tuple[int, int]) -> tuple[slice, slice]:
    """A part of the pixels as that of the chroma samples."""

    def divided(part: slice, by: int) -> slice:
        return part if part.start is None else slice(part.start // by, -(-part.stop // by))

    return divided(box[0], steps[1]), divided(box[1], steps[0])


def _scale(layout: Layout, luma: bool) -> tuple[float, float]:
    """(the sample of 0, samples from 0 to 1)."""
    unit = 1 << (layout.bits - 8)
    if luma:
        return (0, layout.top) if layout.full else (16 * unit, 219 * unit)
    return 128 * unit, layout.top if layout.full else 224 * unit


def _up(chroma: np.ndarray, steps: tuple[int, int], shape: tuple[int, ...]) -> np.ndarray:
    """Samples at the pixels: [h, w] -> `shape`."""
    across, down = steps
    if across == 2:
        after = np.concatenate([chroma[:, 1:], chroma[:, -1:]], axis=1)
        chroma = np.stack([chroma, (chroma + after) / 2], axis=2).reshape(len(chroma), -1)
    if down == 2:
        above, below = np.concatenate([chroma[:1], chroma[:-1]]), np.concatenate([chroma[1:], chroma[-1:]])
        chroma = np.stack([0.75 * chroma + 0.25 * above, 0.75 * chroma + 0.25 * below], axis=1)
        chroma = chroma.reshape(-1, chroma.shape[-1])
    return chroma[: shape[0], : shape[1]]


def _down(values: np.ndarray, steps: tuple[int, int]) -> np.ndarray:
    """[h, w] at the chroma samples."""
    across, down = steps
    values = np.pad(values, ((0, len(values) % down), (0, values.shape[1] % across)), mode="edge")
    if down == 2:
        values = (values[::2] + values[1::2]) / 2
    if across == 2:
        before = np.concatenate([values[:, :1], values[:, 1:-1:2]], axis=1)
        values = (before + 2 * values[:, ::2] + values[:, 1::2]) / 4
    return values


def _all(inside: np.ndarray, steps: tuple[int, int]) -> np.ndarray:
    """Whether all pixels of a chroma sample are set."""
    across, down = steps
    padding: Any = ((0, len(inside) % down), (0, inside.shape[1] % across))
    whole = np.pad(inside, padding, mode="edge")
    return np.asarray(whole.reshape(len(whole) // down, down, -1, across).all(axis=(1, 3)))
