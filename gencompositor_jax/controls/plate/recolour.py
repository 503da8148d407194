"""A plate in another colour, for files: EXR images for linear light, 16 bits for all other colours."""

import dataclasses
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from gencompositor_jax.controls.media import hdr
from gencompositor_jax.controls.media.colour import UNSPECIFIED
from gencompositor_jax.controls.media.exr import Exr
from gencompositor_jax.controls.plate.colour import TAGS, Convert, PlateColour, conversion
from gencompositor_jax.controls.plate.pixels import Box, ExrFrame, ImageFrame, PlateFrame, VideoFrame
from gencompositor_jax.controls.plate.plate import AP0, AP1, Plate

TOP = 65535  # of 16 bits
_LEVEL = 0.5 / 255  # values beyond 0..1 by more are counted as clipped


def recoloured(plate: Plate, colour: PlateColour) -> Plate:
    """The plate in another colour; itself where it has that one, but for the tags of a video."""
    if colour.name == plate.colour.name:
        return dataclasses.replace(plate, is_named=True)
    depth = (plate.depth if plate.is_exr else "half") if colour.is_linear else "16"
    convert = conversion(plate.colour, colour)

    def from_frame(first: int) -> Iterator[PlateFrame]:
        for frame in plate.from_frame(first):
            yield in_colour(frame, whole_of(frame, plate.shape[1:]), convert, colour)[0]

    return dataclasses.replace(
        plate,
        depth=depth,
        colour=colour,
        from_frame=from_frame,
        layout=None,
        tags=None,
        is_named=True,
        chunks=_chunk(colour),
    )


def whole_of(frame: PlateFrame, size: tuple[int, ...]) -> np.ndarray:
    """The values of a whole frame of [H, W] pixels: float32 [H, W, 3]."""
    return frame.rgb((slice(0, size[0]), slice(0, size[1])))


def with_part(values: np.ndarray, box: Box, part: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """`values`, [H, W, 3], with those of a part, [h, w, 3], where `inside`, bool [h, w], is set."""
    values[box][inside] = part[inside]
    return values


def in_colour(
    frame: PlateFrame, values: np.ndarray, convert: Convert, colour: PlateColour
) -> tuple[ExrFrame | ImageFrame, int]:
    """A frame in another colour, and how many pixels were clipped to what its values can hold.

    Args:
        values: float32 [H, W, 3], its own values, which may be finer than those of the file.
        convert: from these to `colour`.
        colour: linear light becomes an EXR image, all others 16 bits, clipped to 0..1.

    Alpha stays, multiplied into the light of EXR; so do an EXR image's other channels and attributes in EXR.
    """
    if colour.is_linear and isinstance(frame, ExrFrame):
        return _exr_in_colour(frame.exr, convert, colour)
    alpha, new = _alpha(frame), convert(values)
    if colour.is_linear:
        channels = {name: new[..., i] for i, name in enumerate("RGB")}
        if alpha is not None:
            channels = {name: light * alpha for name, light in channels.items()} | {"A": alpha}
        most = float(np.finfo(np.float16).max)
        clipped = int((np.abs(new) > most).any(axis=-1).sum())
        halves = {name: np.clip(each, -most, most).astype(np.float16) for name, each in channels.items()}
        height, width = new.shape[:2]
        window = np.array([(0, 0), (width - 1, height - 1)], np.int32)
        header = {"displayWindow": tuple(window), "dataWindow": tuple(window)} | _chromaticities(colour)
        return ExrFrame(Exr(halves, header, (width, height), (0, 0))), clipped
    clipped = int(((new < -_LEVEL) | (new > 1 + _LEVEL)).any(axis=-1).sum())
    pixels = np.rint(np.clip(new, 0, 1) * TOP).astype(np.uint16)
    if alpha is not None:
        pixels = np.concatenate([pixels, np.rint(alpha[..., None] * TOP).astype(np.uint16)], axis=-1)
    return ImageFrame(pixels), clipped


def _exr_in_colour(exr: Exr, convert: Convert, colour: PlateColour) -> tuple[ExrFrame, int]:
    """All of the data window; other channels and attributes stay."""
    names, most = exr.colours, float(np.finfo(exr.dtype).max)
    light = np.stack([exr.channels[names[i % len(names)]] for i in range(3)], axis=-1).astype(np.float32)
    found = convert(np.nan_to_num(light, nan=0.0))
    new, clipped = np.clip(found, -most, most), int((np.abs(found) > most).any(axis=-1).sum())
    channels = {name: pixels for name, pixels in exr.channels.items() if name not in names}
    channels |= {name: new[..., i].astype(exr.dtype) for i, name in enumerate("RGB")}
    header = {name: value for name, value in exr.header.items() if name != "chromaticities"}
    header |= _chromaticities(colour)
    return ExrFrame(exr._replace(channels=channels, header=header)), clipped


def _alpha(frame: PlateFrame) -> np.ndarray | None:
    """float32 [H, W], 0..1; None without, and of EXR, whose light is already multiplied with it."""
    if isinstance(frame, ImageFrame) and frame.pixels.shape[2] == 4:
        return frame.pixels[..., 3].astype(np.float32) / np.iinfo(frame.pixels.dtype).max
    if isinstance(frame, VideoFrame) and len(frame.planes.samples) == 4:
        return frame.planes.samples[3].astype(np.float32) / frame.planes.layout.top
    return None


def _chromaticities(colour: PlateColour) -> dict[str, Any]:
    """The attribute of EXR that says which primaries light has; nothing for those that aren't known."""
    known: dict[str, Any] = {"ACEScg": AP1, "ACES2065-1": AP0}
    of_light = {"linear": "bt709", "Linear Rec.709 (sRGB)": "bt709", "Linear P3-D65": "p3"}
    of_light["Linear Rec.2020"] = "bt2020"
    if colour.name in of_light:
        primaries: Any = of_light[colour.name]
        known[colour.name] = (*np.ravel(hdr.CHROMATICITIES[primaries]), *hdr.D65)
    found = known.get(colour.name)
    return {} if found is None else {"chromaticities": tuple(float(each) for each in found)}


def _chunk(colour: PlateColour) -> bytes:
    """The chunk cICP of a PNG with these values; empty where H.273 has no number for them."""
    if colour.name not in TAGS or colour.tags.transfer in UNSPECIFIED:
        return b""
    found = b"cICP" + bytes((colour.tags.primaries, colour.tags.transfer, 0, 1))
    return struct.pack(">I", 4) + found + struct.pack(">I", zlib.crc32(found))
