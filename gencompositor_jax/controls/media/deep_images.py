"""Images at their own depth: 8 and 16 bits in PNG and TIFF, 8 bits in others.

Those of 16 bits are read by OpenCV, since Pillow has no 16-bit colours.
"""

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image

from gencompositor_jax.controls.media.image_files import read_pages
from gencompositor_jax.controls.media.inputs import check_size
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import read_bytes

DEEP = (".png", ".tif", ".tiff")
_PNG = b"\x89PNG\r\n\x1a\n"
_COLOUR = (b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"mDCV", b"cLLI")  # chunks that say what values mean
_MOST = 2**31  # bytes of a file


def depth_of(path: Path) -> np.dtype:
    """uint8, uint16 or float32: of an image's values, from its header. InputError where it can't be read."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".png":
            with path.open("rb") as file:
                head = file.read(26)
            return np.dtype(np.uint16 if head[:8] == _PNG and head[24] == 16 else np.uint8)
        if suffix in DEEP:
            with Image.open(path) as image:
                tags = getattr(image, "tag_v2", {})
                bits, kinds = tags.get(258, (8,)), tags.get(339, (1,))  # BitsPerSample, SampleFormat
                if max(kinds) == 3:
                    return np.dtype(np.float32)
                return np.dtype(np.uint16 if max(bits) > 8 else np.uint8)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: is damaged ({error}): export it again") from error
    return np.dtype(np.uint8)


def read(path: Path) -> np.ndarray:
    """uint8 or uint16 [H, W, 3], or [H, W, 4] with straight alpha; grey is repeated."""
    if path.suffix.lower() not in DEEP:
        return next(read_pages(path, iter([0]), alpha=False))
    coded = np.frombuffer(read_bytes(path, _MOST), np.uint8)
    pixels = cv2.imdecode(coded, cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{path}: can't be read at its own depth: export it as 8 or 16 bits per channel")
    check_size(path, pixels.shape[1], pixels.shape[0])
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def coded(suffix: str, pixels: np.ndarray, colour: bytes = b"") -> bytes:
    """A PNG or TIFF file of uint8 or uint16 [H, W, 3 or 4], with the chunks of `colour_chunks` in a PNG."""
    if suffix != ".png":
        return _tiff(pixels)
    done, data = cv2.imencode(
        suffix, cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR)
    )
    assert done
    found, header = data.tobytes(), len(_PNG) + 25  # with the chunk IHDR
    return found[:header] + colour + found[header:]


def _tiff(pixels: np.ndarray) -> bytes:
    """By FFmpeg, which states that a fourth channel is straight alpha; OpenCV doesn't."""
    layout = {3: ("rgb24", "rgb48le"), 4: ("rgba", "rgba64le")}[pixels.shape[2]][pixels.dtype == np.uint16]
    context = av.CodecContext.create("tiff", "w")
    context.height, context.width = pixels.shape[:2]
    context.pix_fmt, context.time_base, context.options = layout, Fraction(1), {"compression_algo": "lzw"}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), layout)
    return b"".join(bytes(packet) for packet in (*context.encode(frame), *context.encode(None)))


def colour_chunks(path: Path) -> bytes:
    """The chunks of a PNG that say what its values mean, as they are; empty for other files."""
    if path.suffix.lower() != ".png":
        return b""
    found = b""
    with path.open("rb") as file:
        if file.read(8) != _PNG:
            return b""
        while len(head := file.read(8)) == 8:
            size, kind = struct.unpack(">I4s", head)
            if kind == b"IDAT" or size > 1 << 24:
                break
            rest = file.read(size + 4)
            if kind in _COLOUR and rest[size:] == struct.pack(">I", zlib.crc32(kind + rest[:size])):
                found += head + rest
    return found
