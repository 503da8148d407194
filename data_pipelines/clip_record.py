"""One clip as one record: sampled, resized and encoded beforehand, so that reading it is cheap.

A record's bytes, numbers little-endian (see the table in docs/data.md):

    8 bytes   "GENCLIP" and the format version, one byte each
    uint32    length of the header
    header    JSON: name, caption, fps, frames, height, width, mask_is, foreground_box, moments_shape, parts
    parts     one after the other, as the header's `parts` lists them: [name, length in bytes]

Parts: `target`, `background` (may be empty) and `foreground` are JPEG pictures (uint32 lengths of all frames,
then the pictures); `mask` is zlib over the bits [T, H, W], first pixel in the highest bit; moments are raw
float16. Only the parts that an example needs are decoded.
"""

import dataclasses
import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any, Literal

import cv2
import numpy as np

from gencompositor_jax.arch import Inflation, ModelArch
from gencompositor_jax.data_pipelines.foreground_fit import element_box
from gencompositor_jax.data_pipelines.source import ClipArrays
from gencompositor_jax.errors import InputError
from gencompositor_jax.masks.inflation import inflate

VERSION = 1  # of the format; raise it when old records can't be read any more
MAGIC = b"GENCLIP" + bytes([VERSION])
QUALITY = 90  # of JPEG, 4:4:4: about 44 dB, well above the quality of source videos and of the VAE
MARGIN = 4  # pixels around the element's box

MaskIs = Literal["region", "silhouette"]
Moments = Literal["target_moments", "background_moments"]


@dataclasses.dataclass(frozen=True)
class Record:
    """An encoded clip of T frames, H x W pixels.

    `mask_is` is the kind of mask: "region", a target region that is inflated already, or "silhouette", the
    element's silhouette, which is inflated when it is read, with the model's settings. `foreground_box` (top,
    left, height, width) is where the foreground's pictures belong on white, of height 0 without an element.
    Moments are the VAE's mean and logarithm of variance, float16 of `moments_shape` [t, h, w, 2C]; empty if
    they weren't computed.
    """

    name: str
    caption: str
    fps: float
    frames: int
    height: int
    width: int
    mask_is: MaskIs
    foreground_box: tuple[int, int, int, int]
    target: bytes
    background: bytes
    foreground: bytes
    mask: bytes
    moments_shape: tuple[int, int, int, int] = (0, 0, 0, 0)
    target_moments: bytes = b""
    background_moments: bytes = b""


BYTES = tuple(f.name for f in dataclasses.fields(Record) if f.type is bytes)
FACTS = tuple(f.name for f in dataclasses.fields(Record) if f.type is not bytes)


def encode(
    *,
    name: str,
    caption: str,
    fps: float,
    target: np.ndarray,
    background: np.ndarray | None,
    foreground: np.ndarray,
    mask: np.ndarray,
    mask_is: MaskIs,
    quality: int = QUALITY,
) -> Record:
    """A record of uint8 videos [T, H, W, 3] and a bool mask [T, H, W], all of one shape.

    Args:
        name: for messages; unique in its data set.
        caption: may be empty.
        fps: frames per second of the frames given.
        target: the ground truth.
        background: the scene without the element; None: no removal samples from this clip.
        foreground: the element on white; only its box is stored.
        mask: the target region or the silhouette.
        mask_is: which of the two.
        quality: of JPEG, 1 to 100.
    """
    frames, height, width, _ = target.shape
    box = _with_margin(element_box(foreground), (height, width))
    top, left, rows, columns = box
    crop = foreground[:, top : top + rows, left : left + columns]
    return Record(
        name=name,
        caption=caption,
        fps=float(fps),
        frames=frames,
        height=height,
        width=width,
        mask_is=mask_is,
        foreground_box=box,
        target=_pack_pictures(target, quality),
        background=b"" if background is None else _pack_pictures(background, quality),
        foreground=_pack_pictures(crop, quality) if rows else b"",
        mask=zlib.compress(np.packbits(mask).tobytes()),
    )


def with_moments(record: Record, target: np.ndarray, background: np.ndarray | None) -> Record:
    """The record with the VAE's moments [t, h, w, 2C] of its target and, if it has one, its background."""
    arrays = [np.ascontiguousarray(a, np.float16) for a in (target, background) if a is not None]
    if (background is None) != (not record.background) or arrays[0].shape != arrays[-1].shape:
        raise ValueError(f"{record.name}: pass moments of target and background, of one shape")
    t, h, w, channels = arrays[0].shape
    return dataclasses.replace(
        record,
        moments_shape=(t, h, w, channels),
        target_moments=arrays[0].tobytes(),
        background_moments=arrays[1].tobytes() if background is not None else b"",
    )


def decode(record: Record, inflation: Inflation, removal: bool) -> ClipArrays:
    """The clip's arrays; see `data_pipelines.source.ClipSource.read`.

    A record without a background is read as a composite even if `removal` is True. Raises InputError, naming
    the record, if a part is damaged.
    """
    removal = removal and bool(record.background)
    target = pictures(record, "background" if removal else "target")
    mask = mask_of(record)
    arrays = {
        "target": target,
        "scene": target,
        "foreground": np.full_like(target, 255) if removal else foreground_of(record),
        "mask": inflate(mask, inflation) if record.mask_is == "silhouette" else mask,
    }
    moments: Moments = "background_moments" if removal else "target_moments"
    if getattr(record, moments):
        arrays["target_moments"] = moments_of(record, moments)
    return arrays


def pictures(record: Record, part: Literal["target", "background"]) -> np.ndarray:
    """uint8 [T, H, W, 3] of one part; InputError if it is damaged."""
    out = np.empty((record.frames, record.height, record.width, 3), np.uint8)
    return _unpack_pictures(record, part, out)


def foreground_of(record: Record) -> np.ndarray:
    """uint8 [T, H, W, 3]: the element on white."""
    out = np.full((record.frames, record.height, record.width, 3), 255, np.uint8)
    top, left, rows, columns = record.foreground_box
    if rows:
        _unpack_pictures(record, "foreground", out[:, top : top + rows, left : left + columns])
    return out


def mask_of(record: Record) -> np.ndarray:
    """bool [T, H, W], as stored."""
    shape = (record.frames, record.height, record.width)
    count = int(np.prod(shape))
    try:
        bits = np.frombuffer(zlib.decompress(record.mask), np.uint8)
        return np.unpackbits(bits, count=count).view(bool).reshape(shape)
    except (zlib.error, ValueError) as error:
        raise _damaged(record, "mask") from error


def moments_of(record: Record, part: Moments) -> np.ndarray:
    """float16 [t, h, w, 2C] of one part."""
    try:
        return np.frombuffer(getattr(record, part), np.float16).reshape(record.moments_shape)
    except ValueError as error:
        raise _damaged(record, part) from error


def to_bytes(record: Record) -> bytes:
    """The record's bytes, in the format above."""
    facts: dict[str, Any] = {name: getattr(record, name) for name in FACTS}
    facts["parts"] = [[name, len(getattr(record, name))] for name in BYTES]
    header = json.dumps(facts).encode()
    return b"".join(
        [MAGIC, struct.pack("<I", len(header)), header, *(getattr(record, name) for name in BYTES)]
    )


def from_bytes(data: bytes) -> Record:
    """Inverse of `to_bytes`. Raises InputError for other data, or another version."""
    if data[:7] != MAGIC[:7]:
        raise InputError("isn't a clip: pass a data set made by gencompositor data build")
    if data[7:8] != MAGIC[7:]:
        raise InputError(
            f"is a clip of version {data[7]}, this release reads version {VERSION}: build the data set again"
        )
    try:
        (length,) = struct.unpack_from("<I", data, 8)
        facts = json.loads(data[12 : 12 + length])
        parts, at = {}, 12 + length
        for name, size in facts.pop("parts"):
            parts[name] = data[at : at + size]
            at += size
        if at != len(data):
            raise ValueError(f"{len(data)} bytes instead of {at}")
        return from_facts({**facts, **parts})
    except (ValueError, TypeError, KeyError, struct.error) as error:
        raise InputError(f"is a damaged clip ({error}): build the data set again") from error


def from_facts(fields: Mapping[str, Any]) -> Record:
    """A record from plain values: lists become tuples. Raises TypeError for unknown or missing names."""
    box, shape = (tuple(int(v) for v in fields[name]) for name in ("foreground_box", "moments_shape"))
    return Record(**{**fields, "foreground_box": box, "moments_shape": shape})


def check_fits(record: Record, arch: ModelArch) -> None:
    """Raise InputError if a record isn't of the model's frames and size."""
    have = f"{record.frames} frames, {record.height} pixels high and {record.width} wide"
    want = f"--frames {arch.frames} --height {arch.height} --width {arch.width}"
    if (record.frames, record.height, record.width) != (arch.frames, arch.height, arch.width):
        raise InputError(f"holds clips of {have}, not of the model's size: build it again with {want}")


def _with_margin(box: tuple[int, int, int, int] | None, size: tuple[int, int]) -> tuple[int, int, int, int]:
    if box is None:
        return 0, 0, 0, 0
    top, left = max(0, box[0] - MARGIN), max(0, box[1] - MARGIN)
    bottom, right = min(size[0], box[0] + box[2] + MARGIN), min(size[1], box[1] + box[3] + MARGIN)
    return top, left, bottom - top, right - left


def _pack_pictures(frames: np.ndarray, quality: int) -> bytes:
    options = (
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    )
    coded = [cv2.imencode(".jpg", cv2.cvtColor(f, cv2.COLOR_RGB2BGR), options)[1].tobytes() for f in frames]
    return struct.pack(f"<{len(coded)}I", *map(len, coded)) + b"".join(coded)


def _unpack_pictures(record: Record, part: str, out: np.ndarray) -> np.ndarray:
    """Decode a part into `out` [T, h, w, 3], and return it."""
    data: bytes = getattr(record, part)
    count = len(out)
    if len(data) < 4 * count:
        raise _damaged(record, part)
    at = 4 * count
    for length, frame in zip(struct.unpack_from(f"<{count}I", data), out, strict=True):
        coded = np.frombuffer(data, np.uint8, max(0, min(length, len(data) - at)), at)
        picture = cv2.imdecode(coded, cv2.IMREAD_COLOR_RGB) if len(coded) else None
        if picture is None or picture.shape != frame.shape:
            raise _damaged(record, part)
        frame[:] = picture
        at += length
    return out


def _damaged(record: Record, part: str) -> InputError:
    return InputError(f"clip {record.name!r}: its {part} is damaged: build the data set again")
