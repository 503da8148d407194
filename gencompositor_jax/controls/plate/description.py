"""What the values of a background's file are, for a record: also of files that no plate can be made of."""

import av

from gencompositor_jax.controls.media.stream import PictureStream
from gencompositor_jax.controls.media.video import Media
from gencompositor_jax.controls.plate.plate import open_plate
from gencompositor_jax.controls.record import WORKING, Pixels
from gencompositor_jax.errors import InputError


def describe(media: Media, colour: str | None = None) -> Pixels:
    """Depth and colour of a background; colour: what the scene says of it. Decodes one frame at most."""
    try:
        plate = open_plate(media, colour=colour)
    except InputError:  # deinterlaced, of several depths
        if not isinstance(media, PictureStream):
            return WORKING
        parts = av.VideoFormat(media.pixel_format, 16, 16).components if media.pixel_format else ()
        stated = media.display.colour
        name = "Rec.709" if stated.is_working_space else f"{stated.transfer} {stated.primaries}"
        return Pixels(str(max((part.bits for part in parts), default=8)), colour or name)
    return Pixels(plate.depth, plate.colour.name)
