"""A plate: the background's file at its own depth, frame by frame, in the frames that a composite has."""

import dataclasses
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gencompositor_jax.controls.media import deep_images, exr
from gencompositor_jax.controls.media.colour import UNSPECIFIED, Tags
from gencompositor_jax.controls.media.decoding import decoded_as_coded
from gencompositor_jax.controls.media.image_files import EXR, read_header, read_pages
from gencompositor_jax.controls.media.images import ImageSequence
from gencompositor_jax.controls.media.orientation import Orientation
from gencompositor_jax.controls.media.planes import Layout, layout_of, planes_of
from gencompositor_jax.controls.media.stream import PictureStream
from gencompositor_jax.controls.media.video import Footage, MediaLike, choose, in_order, probe
from gencompositor_jax.controls.plate import colour as colours
from gencompositor_jax.controls.plate.colour import PlateColour
from gencompositor_jax.controls.plate.pixels import ExrFrame, ImageFrame, PlateFrame, VideoFrame
from gencompositor_jax.errors import InputError

_log = logging.getLogger(__name__)

_ORIENTATION = 0x0112  # the Exif tag
_BT2020 = ("hlg", "pq", "rec.2020")  # names of colours with its matrix
AP1 = (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767)  # chromaticities of ACEScg
AP0 = (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, 0.32168, 0.33767)  # of ACES2065-1


@dataclasses.dataclass(frozen=True)
class Plate:
    """T frames of [H, W] pixels."""

    path: Path
    shape: tuple[int, int, int]
    fps: float
    depth: str  # bits per value: "8", "10", "12", "16", ...; "half", "float"
    colour: PlateColour
    start: float  # seconds into the file at which the frames begin
    first: int  # the number of the first frame, as in the names of image files
    step: int  # from frame to frame
    from_frame: Callable[[int], Iterator[PlateFrame]]  # the frames from a first one on
    layout: Layout | None = None  # of a video
    tags: Tags | None = None  # of a video's colours, as the file states them
    is_named: bool = False  # whether a user says what the values mean
    chunks: bytes = b""  # of a PNG: what its values mean

    @property
    def numbers(self) -> range:
        """Of the frames."""
        return range(self.first, self.first + self.step * self.shape[0], self.step)

    @property
    def is_exr(self) -> bool:
        """Whether values are floats in EXR images."""
        return self.depth in ("half", "float")

    @property
    def is_working(self) -> bool:
        """Whether its values are those of the working picture: 8 bits, R'G'B' of SDR."""
        return self.depth == "8" and self.layout is None and self.colour.name in ("sRGB", "Rec.709")

    def working(self) -> Footage:
        """The working picture, uint8 [T, H, W, 3], from the plate's own values and colour."""
        _, height, width = self.shape
        whole = slice(0, height), slice(0, width)

        def shown(first: int) -> Iterator[np.ndarray]:
            for frame in self.from_frame(first):
                values = np.clip(self.colour.to_working(frame.rgb(whole)), 0, 1)
                yield np.rint(255 * values).astype(np.uint8)

        frames = in_order((*self.shape, 3), shown)
        return Footage(frames, self.fps, str(self.path), self.start, self.first, self.step)


def open_plate(
    media: MediaLike,
    *,
    fps: float | None = None,
    start: float = 0.0,
    end: float | None = None,
    frames: int | None = None,
    colour: str | None = None,
) -> Plate:
    """The plate of a background; the arguments are those of `read_video`. Decodes one frame at most.

    colour: a name of `plate_colour`; None is what the file states. Turned and mirrored videos are upright
    here, with the same samples. InputError for what can't be kept bit for bit: videos that are squared or
    deinterlaced when they are read, images of several depths, and layouts of samples that aren't carried.
    """
    chosen = choose(media, fps, start, end, frames, False)
    media = probe(media)
    shape = len(chosen.indices), media.height, media.width
    make: Any = _of_video if isinstance(media, PictureStream) else _of_images
    facts = {
        "path": media.path,
        "shape": shape,
        "fps": chosen.rate,
        "start": start,
        "first": chosen.first,
        "step": media.step or 1,
    }
    made: Plate = make(media, chosen.indices, colour, **facts)
    return made


def _of_video(stream: PictureStream, indices: np.ndarray, colour: str | None, **facts: Any) -> Plate:
    display = stream.display
    changed = [
        text
        for text, found in (
            ("its pixels aren't square", display.square != display.coded),
            ("it is interlaced", stream.interlaced),
        )
        if found
    ]
    if changed:
        raise InputError(
            f"{stream.path}: can't be kept at its own depth, since {changed[0]}: convert it to square, "
            "progressive frames first"
        )
    decoded = next(decoded_as_coded(stream, indices[:1]))
    tags = Tags(int(decoded.colorspace), int(decoded.color_trc), int(decoded.color_primaries))
    matrix = display.colour.matrix
    if tags.matrix in UNSPECIFIED and colour is not None and colour.lower() in _BT2020:
        matrix = 9
    layout = layout_of(decoded, matrix)
    if layout is None:
        raise InputError(
            f"{stream.path}: frames of {decoded.format.name} can't be kept at their own depth: convert it to "
            "RGB, YCbCr 4:2:0, 4:2:2 or 4:4:4"
        )
    turn, (across, down) = display.orientation, layout.steps
    if (turn.transposed and across != down) or (
        turn != Orientation() and (display.coded[0] % across or display.coded[1] % down)
    ):
        raise InputError(
            f"{stream.path}: can't be kept at its own depth, since it is turned and its chroma can't be: "
            "convert it to upright frames first"
        )
    stated = (
        colours.of_video(display.colour, display.peak)
        if colour is None
        else colours.plate_colour(colour, display.peak or 1000.0)
    )

    def from_frame(first: int) -> Iterator[PlateFrame]:
        for frame in decoded_as_coded(stream, indices[first:]):
            found = layout_of(frame, matrix)
            if found != layout or (frame.width, frame.height) != display.coded:
                raise InputError(f"{stream.path}: its format changes on the way: convert it to one format")
            coded = planes_of(frame, layout)
            upright = tuple(np.ascontiguousarray(turn.apply(samples)) for samples in coded.samples)
            yield VideoFrame(coded._replace(samples=upright))

    return Plate(
        depth=str(layout.bits),
        colour=stated,
        from_frame=from_frame,
        layout=layout,
        tags=tags,
        is_named=colour is not None,
        **facts,
    )


def _of_images(media: ImageSequence, indices: np.ndarray, colour: str | None, **facts: Any) -> Plate:
    images = [(media.images[i], media.pages[i]) for i in indices.tolist()]
    first = images[0][0]
    if first.suffix.lower() == EXR:
        return _of_exr([path for path, _ in images], colour, **facts)
    depths = {str(deep_images.depth_of(path)): path for path in dict.fromkeys(path for path, _ in images)}
    if len(depths) > 1:
        one, other = list(depths.items())[:2]
        raise InputError(f"{other[1]}: has {other[0]} values, {one[1].name} {one[0]}: export them alike")
    kind = deep_images.depth_of(first)
    if kind == np.float32:
        raise InputError(f"{first}: has float values: export it as EXR")
    deep = kind == np.uint16
    if deep and (media.pages != (0,) * len(media.pages) or _orientation(first) != 1):
        raise InputError(f"{first}: 16-bit pages or turned images aren't read: export upright single images")
    header = read_header(first)
    stated = colours.SRGB
    if colour is not None:
        stated = colours.plate_colour(colour)
    elif header.colour is not None:
        stated = colours.of_video(header.colour, 1000.0)

    def from_frame(begin: int) -> Iterator[PlateFrame]:
        for path, page in images[begin:]:
            if deep:
                pixels = deep_images.read(path)
            else:
                pixels = next(read_pages(path, iter([page]), media.has_alpha, stated_colour=False))
            yield ImageFrame(pixels)

    return Plate(
        depth="16" if deep else "8",
        colour=stated,
        from_frame=from_frame,
        chunks=deep_images.colour_chunks(first),
        **facts,
    )


def _of_exr(paths: list[Path], colour: str | None, **facts: Any) -> Plate:
    head = exr.read(paths[0])
    if colour is None:
        _note_chromaticities(paths[0], head)
    stated = colours.LINEAR if colour is None else colours.plate_colour(colour)
    size = head.size

    def from_frame(begin: int) -> Iterator[PlateFrame]:
        for path in paths[begin:]:
            found = exr.read(path)
            if found.size != size or found.dtype != head.dtype:
                raise InputError(f"{path}: differs from {paths[0].name} in size or depth: export them alike")
            yield ExrFrame(found)

    depth = "half" if head.dtype == np.float16 else "float"
    return Plate(depth=depth, colour=stated, from_frame=from_frame, **facts)


def _note_chromaticities(path: Path, head: exr.Exr) -> None:
    found = np.ravel(np.asarray(head.header.get("chromaticities", ()), np.float64))
    for known, name in ((AP1, "ACEScg"), (AP0, "ACES2065-1")):
        if found.shape == (8,) and np.allclose(found, known, atol=1e-3):
            _log.warning("%s: has the primaries of %s: pass --plate-colour %s", path, name, name)


def _orientation(path: Path) -> int:
    with Image.open(path) as image:
        return int(image.getexif().get(_ORIENTATION, 1))
