"""What is written at the plate's depth, and every refusal before anything heavy."""

import dataclasses
from pathlib import Path

import av
import numpy as np

from gencompositor_jax.controls.media import deep_images
from gencompositor_jax.controls.media.codecs import CODINGS, VIEWING, Codec, check_codec
from gencompositor_jax.controls.media.encoding import Sound
from gencompositor_jax.controls.media.exr import check_package
from gencompositor_jax.controls.media.image_files import EXR, read_header
from gencompositor_jax.controls.media.layer_out import IMAGES, check_layer_name, check_layer_output
from gencompositor_jax.controls.media.numbering import is_pattern, is_sequence, numbered
from gencompositor_jax.controls.media.stream import PictureStream
from gencompositor_jax.controls.media.timecode import timecode_of
from gencompositor_jax.controls.media.video import Media
from gencompositor_jax.controls.media.whole import is_whole
from gencompositor_jax.controls.plate.colour import Convert, conversion, plate_colour
from gencompositor_jax.controls.plate.plate import Plate, open_plate
from gencompositor_jax.controls.plate.recolour import recoloured
from gencompositor_jax.controls.record import WORKING, Pixels
from gencompositor_jax.errors import InputError
from gencompositor_jax.fields import shorten
from gencompositor_jax.files import check_output


@dataclasses.dataclass(frozen=True)
class Delivery:
    """The files that have the plate's own values."""

    plate: Plate  # as it is read
    written: Plate  # as the files have it: in another colour, or the same
    out: Path | None  # a pattern of images, or a video; None if the composite is a viewing copy
    layer: Path | None
    codec: Codec | None
    exr_layers: bool  # the EXR images have the edit, the mask, the foreground and the difference, too
    overwrite: bool
    kept: frozenset[int] = frozenset()  # numbers of the frames whose images are there and stay

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of the frames that are written."""
        return tuple(number for number in self.plate.numbers if number not in self.kept)

    @property
    def images(self) -> tuple[Path, ...]:
        """The patterns of the images that are written."""
        files = (self.out if self.codec is None else None, self.layer)
        return tuple(file for file in files if file is not None and is_pattern(file.name))

    @property
    def has_images(self) -> bool:
        """Whether images are all that is written, so that some of them can stay."""
        return len(self.images) == (self.out is not None) + (self.layer is not None) > 0

    @property
    def convert(self) -> Convert | None:
        """From the plate's values to those of the files; None where they are the same."""
        if self.written.colour.name == self.plate.colour.name:
            return None
        return conversion(self.plate.colour, self.written.colour)

    @property
    def result(self) -> Pixels:
        """What the values of the composite mean."""
        if self.out is None:
            return WORKING
        bits = None if self.codec is None else CODINGS[self.codec].bits
        return Pixels(self.written.depth if bits is None else str(bits), self.written.colour.name)

    @property
    def sound(self) -> Sound:
        """The plate's."""
        return Sound(self.plate.path, self.plate.start, self.plate.shape[0] / self.plate.fps)

    @property
    def timecode(self) -> str | None:
        """Of the first frame."""
        return timecode_of(self.plate.path, round(self.plate.start * self.plate.fps), self.plate.fps)

    def of_frames(self, count: int) -> "Delivery":
        """The same of the first frames. Raises InputError where a file of theirs can't be written."""
        plate, written = (
            dataclasses.replace(each, shape=(count, *each.shape[1:])) for each in (self.plate, self.written)
        )
        if self.layer is not None:
            check_layer_output(self.layer, plate.numbers, self.overwrite, of_exr=written.is_exr)
        if self.out is not None and self.codec is not None:
            check_output(self.out, self.overwrite)
        elif self.out is not None:
            for number in plate.numbers:
                check_output(numbered(self.out, number), self.overwrite)
        return dataclasses.replace(self, plate=plate, written=written)

    def resumed(self) -> "Delivery":
        """The same without the frames whose images are whole. A video is written from its first frame on."""
        if not self.has_images:
            return self
        size = self.plate.shape[2], self.plate.shape[1]
        kept = [
            number
            for number in self.plate.numbers
            if all(is_whole(numbered(pattern, number), size) for pattern in self.images)
        ]
        return dataclasses.replace(self, kept=frozenset(kept))


def plan(
    media: Media,
    out: str,
    layer: str | None,
    *,
    codec: Codec | None = None,
    exr_layers: bool = False,
    colour: str | None = None,
    output_colour: str | None = None,
    fps: float | None = None,
    start: float = 0.0,
    end: float | None = None,
    overwrite: bool = False,
) -> Delivery | None:
    """What is written at the plate's depth; None if a viewing copy is all that is asked for.

    The composite is, if `out` is a pattern of images or `codec` is none of `VIEWING`; the layer is, if the
    composite is, the plate has more than the working picture, or another colour is asked for.

    output_colour: of these files, a name of `plate_colour`; None is the plate's. The others are those of
    `open_plate`. Raises InputError for what can't be kept; `Delivery.of_frames` checks the files.
    """
    path = Path(out)
    images = is_sequence(path)
    if codec is not None and images:
        raise InputError(f"{out}: are images, which have no --codec {codec}: pass one of the two")
    if codec is not None:
        check_codec(codec, path, (media.width, media.height))
    if exr_layers and not (images and path.suffix.lower() == EXR):
        raise InputError("--exr-layers: only EXR images have layers: pass --out name.####.exr")
    own = images or codec not in VIEWING
    if not own and layer is None and output_colour is not None:
        raise InputError(
            f"--output-colour {shorten(output_colour)}: {out} is a viewing copy in BT.709's colours: pass "
            "--out name.####.exr or .png, --codec, or --layer"
        )
    if not own and (layer is None or not (output_colour or _has_more(media, colour))):
        return None
    plate = written = open_plate(media, fps=fps, start=start, end=end, colour=colour)
    if output_colour is not None:
        written = recoloured(plate, plate_colour(output_colour, option="--output-colour"))
    if images:
        _check_images(path, written)
    elif own and written.is_exr:
        raise InputError(
            f"--codec {codec}: no video keeps linear light in floats ({written.colour.name}): pass --out "
            "name.####.exr, or --output-colour Rec.709"
        )
    if layer is not None:
        check_layer_name(layer, of_exr=written.is_exr)
    if EXR in (path.suffix.lower() if images else None, layer and Path(layer).suffix.lower()):
        check_package()
    layer_path = None if layer is None else Path(layer)
    return Delivery(
        plate, written, path if own else None, layer_path, codec if own else None, exr_layers, overwrite
    )


def _check_images(out: Path, written: Plate) -> None:
    suffix, colour = out.suffix.lower(), written.colour.name
    if suffix not in (*IMAGES, EXR):
        raise InputError(f"{out}: images are written as .png, .tif and .exr: name it so")
    if written.is_exr and suffix != EXR:
        raise InputError(
            f"{out}: {suffix} doesn't keep linear light in floats ({colour}): pass .exr, or --output-colour "
            "Rec.709"
        )
    if not written.is_exr and suffix == EXR:
        raise InputError(
            f"{out}: EXR has linear light, {colour} is encoded: pass --output-colour linear, .png, .tif, or "
            "--codec ffv1 and name.mkv"
        )


def _has_more(media: Media, colour: str | None) -> bool:
    """Whether a background has more than 8 bits, or other colours than the working picture."""
    if colour is not None:
        return True
    if isinstance(media, PictureStream):
        deep = False
        if media.pixel_format:
            deep = max(part.bits for part in av.VideoFormat(media.pixel_format, 16, 16).components) > 8
        return deep or not media.display.colour.is_working_space
    first = media.images[0]
    if first.suffix.lower() == EXR:
        return True
    return deep_images.depth_of(first) == np.uint16 or read_header(first).colour is not None
