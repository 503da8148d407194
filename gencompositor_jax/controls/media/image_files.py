"""One image file: its header, and its pixels in the working space. EXR by FFmpeg, all others by Pillow."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.video.plane import VideoPlane
from PIL import Image, ImageOps, UnidentifiedImageError

from gencompositor_jax.controls.media import hdr
from gencompositor_jax.controls.media.colour import Colour, Tags, colour_of
from gencompositor_jax.controls.media.inputs import check_size
from gencompositor_jax.errors import InputError

EXR = ".exr"
_ORIENTATION = 0x0112  # the Exif tag; values 5 to 8 swap width and height
_ANIMATED = ("WEBP", "PNG", "TIFF", "AVIF", "GIF")  # formats whose further images are frames
_HEAD = 1 << 16  # bytes of a file in which its colour is stated
_PEAK = 1000.0  # cd/m2 of HDR images: the same for all of a sequence
_OVER = 2.0  # the largest value of a float picture of 0 to 1: interpolation overshoots


class Header(NamedTuple):
    """What an image file says of itself."""

    width: int  # pixels, after the rotation of the Exif tag
    height: int
    has_alpha: bool
    kind: str  # Pillow's name of the format
    pages: tuple[int, ...]  # of the images that are frames
    milliseconds: tuple[float, ...]  # of each, if it is an animation
    colour: Colour | None = None  # of PNG and AVIF that state HDR or a wide gamut


def read_header(path: Path) -> Header:
    """The header of an image file, and of all its pages. InputError if it can't be read or is too large.

    The first image of an APNG may be a stand-in that isn't part of the animation; pages of a TIFF with
    another size are thumbnails.
    """
    if path.suffix.lower() == EXR:
        frame = _exr(path)
        alpha = any(component.is_alpha for component in frame.format.components)
        return Header(frame.width, frame.height, alpha, "EXR", (0,), ())
    with _opened(path) as image:
        size, alpha, kind = image.size, image.has_transparency_data, image.format or ""
        turned = image.getexif().get(_ORIENTATION, 1) >= 5
        check_size(path, *size)
        pages, times = [0], []
        count = getattr(image, "n_frames", 1) if kind in _ANIMATED else 1
        if count > 1:
            first = 1 if image.info.get("default_image") else 0
            pages = []
            for page in range(first, count):
                image.seek(page)
                if kind == "WEBP":
                    image.load()  # only then its duration is known
                if image.size == size:
                    pages.append(page)
                    alpha = alpha or image.has_transparency_data
                    times.append(float(image.info.get("duration") or 0))
    width, height = size[::-1] if turned else size
    timing = tuple(times) if any(times) else ()
    return Header(width, height, alpha, kind, tuple(pages), timing, _stated_colour(path))


def read_pages(
    path: Path, pages: Iterator[int], alpha: bool, stated_colour: bool = True
) -> Iterator[np.ndarray]:
    """Pages of an image file: uint8 [H, W, 3], or straight-alpha RGBA [H, W, 4], rotated by its Exif tag.

    stated_colour: whether HDR and wide gamuts are converted to the working space. EXR is scene-linear with
    premultiplied alpha and gets sRGB's curve; what is above 1 is clipped.
    """
    if path.suffix.lower() == EXR:
        pixels = _encoded(_exr(path), alpha)
        yield from (pixels for _ in pages)
        return
    with _opened(path) as image:
        colour = _stated_colour(path) if stated_colour else None
        for page in pages:
            if image.tell() != page:
                image.seek(page)
            pixels = _pixels(ImageOps.exif_transpose(image), alpha)
            if colour is not None:
                to_working = hdr.tables(colour.transfer, colour.primaries, _PEAK)
                pixels = hdr.convert(pixels.astype(np.uint16) * 257, to_working)
            yield pixels


def read_mask_pages(path: Path, pages: Iterator[int]) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Pages as masks: uint16 [H, W], 0..65535 in 8- and 16-bit files alike, and alpha uint8 [H, W] or None.

    The brightest channel counts. A palette with colours marks objects: all but black is 65535.
    """
    if path.suffix.lower() == EXR:
        pixels = _encoded(_exr(path), alpha=True)
        for _ in pages:
            yield pixels[..., :3].max(axis=-1).astype(np.uint16) * 257, pixels[..., 3]
        return
    with _opened(path) as opened:
        for page in pages:
            if opened.tell() != page:
                opened.seek(page)
            image = ImageOps.exif_transpose(opened)
            alpha = np.asarray(image.convert("RGBA"))[..., 3] if image.has_transparency_data else None
            yield _mask(image), alpha


def _stated_colour(path: Path) -> Colour | None:
    """What a PNG (chunk cICP) or an AVIF (box colr, type nclx) states, unless it is SDR with BT.709."""
    if path.suffix.lower() not in (".png", ".avif"):
        return None
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if (at := head.find(b"cICP")) >= 0 and len(head) > at + 8:
        primaries, transfer = head[at + 4], head[at + 5]
    elif (at := head.find(b"colrnclx")) >= 0 and len(head) > at + 12:
        primaries, transfer = head[at + 9], head[at + 11]
    else:
        return None
    tags = Tags(2, transfer, primaries)  # Pillow applies the matrix
    colour = colour_of(tags, tags, 1, 1)
    return None if colour is None or colour.is_working_space else colour


def _mask(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):
        return np.clip(np.asarray(image), 0, 65535).astype(np.uint16)
    if image.mode == "F":
        return np.rint(_unit(image) * 65535).astype(np.uint16)
    if image.mode == "L":
        return np.asarray(image).astype(np.uint16) * 257
    grey = np.asarray(image.convert("RGB"))
    if image.mode == "P" and np.ptp(grey, axis=-1).max() > 8:
        return np.where(grey.any(axis=-1), 65535, 0).astype(np.uint16)
    return grey.max(axis=-1).astype(np.uint16) * 257


def _pixels(image: Image.Image, alpha: bool) -> np.ndarray:
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip to 255 instead of scaling
        image = Image.fromarray((np.clip(np.asarray(image), 0, 65535) >> 8).astype(np.uint8))
    elif image.mode == "F":
        image = Image.fromarray(np.rint(_unit(image) * 255).astype(np.uint8))
    return np.asarray(image.convert("RGBA" if alpha else "RGB"))


def _unit(image: Image.Image) -> np.ndarray:
    """Float values as 0..1; a picture with larger ones is one of 0..255 or 0..65535."""
    values = np.nan_to_num(np.asarray(image, np.float32))
    top = float(values.max(initial=0))
    scale = 1 if top <= _OVER else 255 if top <= 256 else 65535
    return np.clip(values / scale, 0, 1)


def _exr(path: Path) -> av.VideoFrame:
    try:
        with av.open(str(path.absolute()), format="exr_pipe") as container:
            stream = container.streams.video[0]
            check_size(path, stream.width, stream.height)
            return next(container.decode(stream))
    except (av.FFmpegError, ValueError, StopIteration, IndexError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: is no EXR image that can be read: export it again") from error


def _encoded(frame: av.VideoFrame, alpha: bool) -> np.ndarray:
    planes = [_floats(plane, frame) for plane in frame.planes]  # grey, or green, blue, red and alpha
    order = (2, 0, 1) if len(planes) > 2 else (0, 0, 0)
    straight = np.stack([planes[i] for i in order], axis=-1)
    cover = np.ones_like(straight[..., :1])
    if len(planes) in (2, 4):
        cover = np.clip(planes[-1], 0, 1)[..., None]
        straight = straight / np.maximum(cover, 1 / 1024)
    light = np.clip(straight, 0, 1)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    out = np.concatenate([encoded, cover], axis=-1) if alpha else encoded
    return np.rint(out * 255).astype(np.uint8)


def _floats(plane: VideoPlane, frame: av.VideoFrame) -> np.ndarray:
    """A plane of half or single floats as float32 [H, W]; PyAV has no arrays of half floats."""
    kind = np.dtype("<f2" if "f16" in frame.format.name else "<f4")
    rows = np.frombuffer(bytes(plane), kind).reshape(plane.height, plane.line_size // kind.itemsize)
    return np.nan_to_num(rows[:, : plane.width].astype(np.float32))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image; any failure, also while it is decoded, is an InputError that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # check_size limits the size
            with Image.open(path) as image:
                yield image
    except UnidentifiedImageError as error:
        raise InputError(
            f"{path}: is not an image, despite its name: remove it or export it again"
        ) from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: is too large for an image: scale it down") from error
    except (OSError, EOFError, SyntaxError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: is damaged ({error}): export it again") from error
