"""The files of a delivery, frame by frame: the composite and the layer, with the plate's own values."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from gencompositor_jax.controls.geometry.edit_layer import premultiplied_layer, straight_layer
from gencompositor_jax.controls.media import deep_images, exr
from gencompositor_jax.controls.media.codecs import CODINGS
from gencompositor_jax.controls.media.colour import UNSPECIFIED, Tags
from gencompositor_jax.controls.media.encoding import encoder
from gencompositor_jax.controls.media.layer_out import layer_writer
from gencompositor_jax.controls.media.numbering import numbered
from gencompositor_jax.controls.media.planes import frame_of
from gencompositor_jax.controls.plate.carry import Carried, Seen
from gencompositor_jax.controls.plate.delivery import Delivery
from gencompositor_jax.controls.plate.pixels import Box, ExrFrame, ImageFrame, PlateFrame, VideoFrame
from gencompositor_jax.controls.plate.plate import Plate
from gencompositor_jax.controls.plate.recolour import TOP, in_colour, whole_of, with_part
from gencompositor_jax.files import atomic_write


class Edited(NamedTuple):
    """One frame of the result."""

    frame: PlateFrame  # the composite
    seen: Seen | None = None  # None, here and below: nothing is edited
    carried: Carried | None = None
    layer: np.ndarray | None = None  # [h, w, 4] of `with_layer`, if a file has the layer
    pastes: tuple[np.ndarray, ...] = ()  # uint8 [H, W, 4]: the elements, if a file has the foreground


Put = Callable[[Edited], None]


def with_layer(edited: Edited, of_exr: bool) -> tuple[Edited, float]:
    """A frame with the layer around the mask, float32 [h, w, 4] of 0..65535, and the largest error of
    over(layer, plate) in 8-bit levels; for EXR float16, premultiplied, and the error relative to the values.
    """
    if edited.seen is None or edited.carried is None:
        return edited, 0.0
    layer, error = _layer_part(edited.seen, edited.carried, of_exr)
    return edited._replace(layer=layer), error


def _layer_part(seen: Seen, carried: Carried, of_exr: bool) -> tuple[np.ndarray, float]:
    before, after = seen.values, carried.values
    if of_exr:
        part = premultiplied_layer(before, after, carried.cover)
        made = part[..., :3].astype(np.float32) + (1 - part[..., 3:].astype(np.float32)) * before
        scale = np.maximum(np.maximum(np.abs(before), np.abs(after)), 2**-10)
        return part, float((np.abs(made - after) / scale).max(initial=0))
    part = straight_layer(before, after, carried.cover, TOP)
    values = part / TOP
    made = values[..., 3:] * values[..., :3] + (1 - values[..., 3:]) * np.clip(before, 0, 1)
    return part, 255 * float(np.abs(made - np.clip(after, 0, 1)).max(initial=0))


def composite_put(stack: ExitStack, delivery: Delivery) -> Put:
    """What writes the next frame of the composite; files are whole when the stack is closed."""
    plate, out = delivery.written, delivery.out
    assert out is not None
    if delivery.codec is not None:
        return _video_put(stack, delivery, out)
    if plate.is_exr:
        return _exr_put(out, delivery, lambda edited: _exr_channels(edited, delivery))

    def pixels(edited: Edited) -> np.ndarray:
        frame = edited.frame
        return frame.pixels if isinstance(frame, ImageFrame) else _deep_rgb(edited, plate.shape[1:])

    return _image_put(out, delivery, pixels)


def layer_put(stack: ExitStack, delivery: Delivery) -> Put:
    """What writes the next frame of the layer."""
    plate, path = delivery.written, delivery.layer
    assert path is not None
    size = plate.shape[1:]
    if plate.is_exr:
        return _exr_put(path, delivery, lambda edited: _exr_rgba(edited, edited.layer))
    write = stack.enter_context(
        layer_writer(
            path,
            (size[1], size[0]),
            plate.fps,
            numbers=delivery.numbers,
            tags=_tags(plate),
            timecode=delivery.timecode,
            overwrite=delivery.overwrite,
        )
    )

    def put(edited: Edited) -> None:
        whole = np.zeros((*size, 4), np.uint16)
        if edited.seen is not None and edited.layer is not None:
            whole[edited.seen.box] = edited.layer
        write(whole)

    return put


def _image_put(out: Path, delivery: Delivery, pixels: Callable[[Edited], np.ndarray]) -> Put:
    numbers, suffix, chunks = iter(delivery.numbers), out.suffix.lower(), delivery.written.chunks

    def put(edited: Edited) -> None:
        with atomic_write(numbered(out, next(numbers)), delivery.overwrite) as part:
            part.write_bytes(deep_images.coded(suffix, pixels(edited), chunks))

    return put


def _exr_put(out: Path, delivery: Delivery, channels: Callable[[Edited], dict[str, np.ndarray]]) -> Put:
    numbers = iter(delivery.numbers)

    def put(edited: Edited) -> None:
        assert isinstance(edited.frame, ExrFrame)
        with atomic_write(numbered(out, next(numbers)), delivery.overwrite) as part:
            exr.write(part, channels(edited), edited.frame.exr.header)

    return put


def _video_put(stack: ExitStack, delivery: Delivery, out: Path) -> Put:
    plate, codec = delivery.written, delivery.codec
    assert codec is not None
    coding = CODINGS[codec]
    tags = _tags(plate)
    if coding.lossless and plate.tags is not None and not plate.is_named:
        tags = plate.tags  # also what is left open
    write = stack.enter_context(
        encoder(
            out,
            coding,
            (plate.shape[2], plate.shape[1]),
            plate.fps,
            tags=tags,
            full_range=plate.layout is not None and plate.layout.full,
            sound=delivery.sound,
            timecode=delivery.timecode,
            overwrite=delivery.overwrite,
        )
    )

    def put(edited: Edited) -> None:
        frame = edited.frame
        if isinstance(frame, VideoFrame):
            write(frame_of(frame.planes))
        elif isinstance(frame, ImageFrame):
            channels = frame.pixels.shape[2] if coding.lossless else 3  # others have no alpha
            layout = {3: ("rgb24", "rgb48le"), 4: ("rgba", "rgba64le")}[channels]
            pixels = np.ascontiguousarray(frame.pixels[..., :channels])
            write(av.VideoFrame.from_ndarray(pixels, layout[pixels.dtype == np.uint16]))

    return put


def _deep_rgb(edited: Edited, size: tuple[int, ...]) -> np.ndarray:
    """A video's frame as uint16 R'G'B' [H, W, 3]: before chroma is subsampled, where it is edited."""
    return np.rint(np.clip(_values(edited, size), 0, 1) * TOP).astype(np.uint16)


def _values(edited: Edited, size: tuple[int, ...]) -> np.ndarray:
    """The composite's values, float32 [H, W, 3]."""
    values = whole_of(edited.frame, size)
    if edited.seen is None or edited.carried is None:
        return values
    return with_part(values, edited.seen.box, edited.carried.values, edited.seen.inside)


def in_output_colour(edited: Edited, delivery: Delivery) -> tuple[Edited, int]:
    """A frame of the result in the colour of the files, and how many pixels were clipped to it."""
    convert, written = delivery.convert, delivery.written
    if convert is None:
        return edited, 0
    values = _values(edited, written.shape[1:])
    frame, clipped = in_colour(edited.frame, values, convert, written.colour)
    if edited.seen is None or edited.carried is None:
        return edited._replace(frame=frame), clipped
    seen = edited.seen._replace(values=convert(edited.seen.values))
    carried = edited.carried._replace(values=convert(edited.carried.values))
    return edited._replace(frame=frame, seen=seen, carried=carried), clipped


def _exr_channels(edited: Edited, delivery: Delivery) -> dict[str, np.ndarray]:
    frame = edited.frame
    assert isinstance(frame, ExrFrame)
    channels = dict(frame.exr.channels)
    if not delivery.exr_layers:
        return channels
    layers = {"edit": _exr_rgba(edited, edited.layer)}
    box: Box = (slice(0, 0), slice(0, 0))
    inside, difference, foreground = np.zeros((0, 0)), np.zeros((0, 0, 3)), np.zeros((0, 0, 4))
    if edited.seen is not None and edited.carried is not None:
        box, inside = edited.seen.box, edited.seen.inside
        difference = edited.carried.values - edited.seen.values
        foreground = _foreground([paste[box] for paste in edited.pastes], inside.shape, delivery)
    layers["mask"] = {"A": frame.placed(box, inside)}
    layers["foreground"] = _placed(frame, box, foreground)
    layers["difference"] = _placed(frame, box, difference)
    return channels | {
        f"{layer}.{name}": values for layer, found in layers.items() for name, values in found.items()
    }


def _exr_rgba(edited: Edited, layer: np.ndarray | None) -> dict[str, np.ndarray]:
    assert isinstance(edited.frame, ExrFrame)
    if edited.seen is None or layer is None:
        return _placed(edited.frame, (slice(0, 0), slice(0, 0)), np.zeros((0, 0, 4)))
    return _placed(edited.frame, edited.seen.box, layer)


def _placed(frame: ExrFrame, box: Box, values: np.ndarray) -> dict[str, np.ndarray]:
    return {name: frame.placed(box, values[..., i]) for i, name in enumerate("RGBA"[: values.shape[-1]])}


def _foreground(parts: Iterable[np.ndarray], shape: tuple[int, ...], delivery: Delivery) -> np.ndarray:
    """The elements over each other, premultiplied, in the colour of the files: float32 [h, w, 4]."""
    out: np.ndarray = np.zeros((*shape, 4), np.float32)
    for part in parts:
        alpha = part[..., 3:].astype(np.float32) / 255
        light = delivery.plate.colour.from_working(part[..., :3].astype(np.float32) / 255)
        light = light if delivery.convert is None else delivery.convert(light)
        out = np.concatenate([alpha * light, alpha], axis=-1) + (1 - alpha) * out
    return out


def _tags(plate: Plate) -> Tags:
    """The colours of a video, in H.273's numbers."""
    named = plate.colour.tags
    if plate.tags is None or plate.layout is None:
        return named
    if plate.is_named:
        return Tags(plate.layout.matrix, named.transfer, named.primaries)
    stated = [own if own not in UNSPECIFIED else other for own, other in zip(plate.tags, named, strict=True)]
    return Tags(plate.layout.matrix, stated[1], stated[2])


def facts_of(plate: Plate) -> dict[str, Any]:
    """What a report says of a plate."""
    return {"depth": plate.depth, "colour": plate.colour.name}
