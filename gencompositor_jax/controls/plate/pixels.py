"""One frame of a plate in the values of its file: what the edit is carried onto, and what is written.

Every kind of frame has R'G'B' (or linear light) as floats in a part of it, and makes a new frame with other
values where something is edited; all other values are the file's, bit for bit.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np

from gencompositor_jax.controls.media import planes as video_planes
from gencompositor_jax.controls.media.exr import Exr
from gencompositor_jax.controls.media.planes import Planes

Box = tuple[slice, slice]  # rows and columns


class PlateFrame(Protocol):
    """A frame of [H, W] pixels."""

    @property
    def is_subsampled(self) -> bool:
        """Whether several pixels share a chroma sample."""

    def rgb(self, box: Box) -> np.ndarray:
        """The plate's own values in a part: float32 [h, w, 3], 0..1 but for what is beyond."""

    def with_rgb(
        self, box: Box, values: np.ndarray, inside: np.ndarray, kept: np.ndarray
    ) -> tuple["PlateFrame", np.ndarray]:
        """The frame with `values`, float32 [h, w, 3], where `inside`, bool [h, w], is set in a part.

        kept: float32 [h, w], the fraction of the plate that stays visible. Returns also which pixels were
        clipped to what the file's values can hold, bool [h, w].
        """


class ImageFrame(NamedTuple):
    """Of PNG, TIFF and other images."""

    pixels: np.ndarray  # uint8 or uint16 [H, W, 3], or [H, W, 4] with alpha, which is kept

    @property
    def is_subsampled(self) -> bool:
        """See `PlateFrame`."""
        return False

    def rgb(self, box: Box) -> np.ndarray:
        """See `PlateFrame`."""
        return self.pixels[box][..., :3].astype(np.float32) / np.iinfo(self.pixels.dtype).max

    def with_rgb(
        self, box: Box, values: np.ndarray, inside: np.ndarray, kept: np.ndarray
    ) -> tuple["ImageFrame", np.ndarray]:
        """See `PlateFrame`."""
        top = np.iinfo(self.pixels.dtype).max
        new, out = values * top, self.pixels.copy()
        out[box][..., :3][inside] = np.rint(np.clip(new[inside], 0, top))
        return ImageFrame(out), inside & ((new < -0.5) | (new >= top + 0.5)).any(axis=-1)


class ExrFrame(NamedTuple):
    """Of EXR images: all channels but the colours, and the attributes, are kept."""

    exr: Exr

    @property
    def is_subsampled(self) -> bool:
        """See `PlateFrame`."""
        return False

    def rgb(self, box: Box) -> np.ndarray:
        """See `PlateFrame`. 0 outside the data window; what isn't finite is the largest half, or 0."""
        rows, columns = box
        out = np.zeros((rows.stop - rows.start, columns.stop - columns.start, 3), np.float32)
        own, there = _common(self.exr, box)
        for channel in range(3):
            name = self.exr.colours[channel % len(self.exr.colours)]
            out[there][..., channel] = self.exr.channels[name][own]
        most = float(np.finfo(np.float16).max)
        return np.nan_to_num(out, nan=0.0, posinf=most, neginf=-most)

    def with_rgb(
        self, box: Box, values: np.ndarray, inside: np.ndarray, kept: np.ndarray
    ) -> tuple["ExrFrame", np.ndarray]:
        """See `PlateFrame`. A data window that lacks some of `inside` is enlarged to the picture."""
        own, there = _common(self.exr, box)
        covered = np.zeros(inside.shape, bool)
        covered[there] = True
        exr = self.exr if not (inside & ~covered).any() else _enlarged(self.exr)
        own, there = _common(exr, box)
        channels = dict(exr.channels)
        if exr.colours == ("Y",):
            channels |= dict.fromkeys("RGB", channels.pop("Y"))
        most = float(np.finfo(channels["R"].dtype).max)
        for channel, name in enumerate("RGB"):
            new = channels[name].copy()
            new[own][inside[there]] = np.clip(values[there][..., channel][inside[there]], -most, most)
            channels[name] = new
        return ExrFrame(exr._replace(channels=channels)), inside & (np.abs(values) > most).any(axis=-1)

    def placed(self, box: Box, values: np.ndarray) -> np.ndarray:
        """A channel of the data window, float16, with values [h, w] in a part of the picture, 0 elsewhere."""
        out = np.zeros(self.exr.channels[self.exr.colours[0]].shape, np.float16)
        own, there = _common(self.exr, box)
        out[own] = values[there]
        return out


class VideoFrame(NamedTuple):
    """Of videos."""

    planes: Planes

    @property
    def is_subsampled(self) -> bool:
        """See `PlateFrame`."""
        return self.planes.layout.steps != (1, 1)

    def rgb(self, box: Box) -> np.ndarray:
        """See `PlateFrame`; the part begins at even rows and columns."""
        return video_planes.to_rgb(self.planes, box)

    def with_rgb(
        self, box: Box, values: np.ndarray, inside: np.ndarray, kept: np.ndarray
    ) -> tuple["VideoFrame", np.ndarray]:
        """See `PlateFrame`."""
        new, clipped = video_planes.with_rgb(self.planes, box, values, inside, kept)
        return VideoFrame(new), clipped


def _common(exr: Exr, box: Box) -> tuple[Box, Box]:
    """What the data window and a part of the picture have in common: in channels, and in the part."""
    own, there = [], []
    for part, start, length in zip(box, exr.at[::-1], exr.channels[exr.colours[0]].shape, strict=True):
        first, stop = max(part.start, start), min(part.stop, start + length)
        stop = max(first, stop)
        own.append(slice(first - start, stop - start))
        there.append(slice(first - part.start, stop - part.start))
    return (own[0], own[1]), (there[0], there[1])


def _enlarged(exr: Exr) -> Exr:
    """The image with a data window that has all of the picture; new pixels are 0."""
    (width, height), (x, y) = exr.size, exr.at
    rows, columns = exr.channels[exr.colours[0]].shape
    margins = (max(0, y), max(0, height - y - rows)), (max(0, x), max(0, width - x - columns))
    channels = {name: np.pad(pixels, margins) for name, pixels in exr.channels.items()}
    rows, columns = channels[exr.colours[0]].shape
    at = (x - margins[1][0], y - margins[0][0])
    left, top = (int(side) for side in np.asarray(exr.header["displayWindow"][0]))
    corner: Any = np.array([at[0] + left, at[1] + top], np.int32)
    header = exr.header | {"dataWindow": (corner, corner + np.array([columns - 1, rows - 1], np.int32))}
    return Exr(channels, header, exr.size, at)
