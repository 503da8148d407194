"""Videos for a pipeline: FFV1, ProRes, DNxHR, H.264 and HEVC, with the plate's rate, sound and time code."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.video.reformatter import ColorRange

from gencompositor_jax.controls.media.codecs import CONTAINERS, Coding
from gencompositor_jax.controls.media.colour import Tags
from gencompositor_jax.controls.media.display import EXACT
from gencompositor_jax.controls.media.sound import copied_sound
from gencompositor_jax.files import PathLike, atomic_write

BT709 = Tags(1, 1, 1)
# Layouts that FFV1 has under another name, with the same samples.
_OF_FFV1 = {
    "rgb24": "bgr0",
    "rgba": "bgra",
    "gbrp": "bgr0",
    "gbrap": "bgra",
    "yuvj420p": "yuv420p",
    "yuvj422p": "yuv422p",
    "yuvj444p": "yuv444p",
}


class Sound(NamedTuple):
    """The sound of a file, from a time on."""

    path: PathLike
    start: float  # seconds
    seconds: float


@contextmanager
def encoder(
    path: PathLike,
    coding: Coding,
    size: tuple[int, int],
    fps: float,
    *,
    tags: Tags = BT709,
    full_range: bool = False,
    sound: Sound | None = None,
    timecode: str | None = None,
    overwrite: bool = False,
) -> Iterator[Callable[[av.VideoFrame], None]]:
    """Yield a function that writes the next frame; the file appears under its name when the block ends.

    Args:
        path: its suffix is the container.
        coding: a layout that a frame doesn't have is made by swscale, with the matrix of `tags`.
        size: (width, height) of all frames. Codecs with subsampled chroma get even sizes: the last column or
            row is repeated.
        tags: of the values, H.273's numbers. full_range: of YCbCr frames that keep their layout.
        timecode: of the first frame, "hh:mm:ss:ff", or with ";" before the frames for drop-frame.
    """
    suffix, rate = Path(path).suffix.lower(), Fraction(fps).limit_denominator(1001)
    options = {"fflags": "+bitexact"}  # Matroska would write random numbers
    if suffix == ".mp4":
        options["movflags"] = "+faststart"
    with atomic_write(path, overwrite) as part, ExitStack() as stack:
        output = stack.enter_context(
            av.open(str(part.absolute()), "w", format=CONTAINERS[suffix], options=options)
        )
        if timecode is not None:
            output.metadata["timecode"] = timecode
        stream: Any = None
        packets: deque[tuple[float, av.Packet]] = deque()
        index = 0

        def put(frame: av.VideoFrame) -> None:
            nonlocal stream, packets, index
            if stream is None:
                stream = _stream(output, coding, frame, size, rate, tags, full_range)
                if sound is not None:
                    packets = copied_sound(stack, output, sound.path, sound.start, sound.seconds)
            made = _converted(frame, stream, tags.matrix, coding.matrix or tags.matrix)
            del frame  # large ones are freed before they are encoded
            made.pts, made.time_base = index, 1 / rate
            # ProRes and DNxHD state the colours of the frames, not those of the stream.
            made.color_primaries, made.color_trc = tags.primaries, tags.transfer
            if not made.format.is_rgb:
                made.colorspace = coding.matrix or tags.matrix
            output.mux(_alone(output, stream, coding, made) if coding.lossless else stream.encode(made))
            while packets and packets[0][0] <= index / rate:  # interleaved, for players
                output.mux(packets.popleft()[1])
            index += 1

        yield put
        if stream is not None:
            if not coding.lossless:
                output.mux(stream.encode(None))
            output.mux([packet for _, packet in packets])


def _stream(
    output: Any,
    coding: Coding,
    frame: av.VideoFrame,
    size: tuple[int, int],
    rate: Fraction,
    tags: Tags,
    full_range: bool,
) -> Any:
    name = frame.format.name
    pixels = coding.pixels or _OF_FFV1.get(name, name)
    stream = output.add_stream(coding.encoder, rate=rate, options=dict(coding.options))
    width, height = size
    if coding.pixels is not None:
        chroma = av.VideoFormat(pixels, 16, 16).components[1]
        width += width % (16 // chroma.width)
        height += height % (16 // chroma.height)
    stream.width, stream.height, stream.pix_fmt = width, height, pixels
    if coding.encoder == "libx265" and output.format.name != "matroska":
        stream.codec_context.codec_tag = "hvc1"  # which QuickTime plays
    context = stream.codec_context
    context.color_primaries, context.color_trc = tags.primaries, tags.transfer
    if not pixels.startswith(("gbr", "bgr", "rgb")):
        context.colorspace = coding.matrix or tags.matrix
        context.color_range = ColorRange.JPEG if full_range and coding.pixels is None else ColorRange.MPEG
    return stream


def _alone(output: Any, stream: Any, coding: Coding, frame: av.VideoFrame) -> list[av.Packet]:
    """A frame by an encoder of its own, with the same bits: every frame of FFV1 is a key frame here.

    FFmpeg's encoder keeps up to 170 bytes per pixel until it is closed: 1.4 GiB of a 4K frame with alpha.
    """
    output.start_encoding()  # the stream's own encoder only makes the header
    context: Any = av.CodecContext.create(coding.encoder, "w")
    context.width, context.height, context.pix_fmt = stream.width, stream.height, stream.pix_fmt
    context.time_base, context.options = frame.time_base, dict(coding.options)
    packets = [*context.encode(frame), *context.encode(None)]
    for packet in packets:
        packet.stream = stream
    return packets


def _converted(frame: av.VideoFrame, stream: Any, source: int, target: int) -> av.VideoFrame:
    """A frame in the stream's layout and size; from YCbCr with one matrix to another."""
    if (frame.width, frame.height) != (stream.width, stream.height):
        frame = _padded(frame, stream.width, stream.height)
    is_rgb = frame.format.is_rgb
    if frame.format.name == stream.pix_fmt and (is_rgb or source == target):
        return frame
    if frame.format.name.startswith("yuvj") and stream.pix_fmt == _OF_FFV1[frame.format.name]:
        return _retagged(frame, stream.pix_fmt)
    to_rgb = stream.pix_fmt.startswith(("bgr", "gbr"))
    return frame.reformat(
        format=stream.pix_fmt,
        interpolation=EXACT,
        src_colorspace=None if is_rgb else source,
        dst_colorspace=None if to_rgb else target,
        dst_color_range=None if to_rgb else ColorRange.MPEG,
    )


def _retagged(frame: av.VideoFrame, name: str) -> av.VideoFrame:
    """The same samples in a layout of another name."""
    made = av.VideoFrame(frame.width, frame.height, name)
    for new, old in zip(made.planes, frame.planes, strict=True):
        rows = np.zeros((new.height, new.line_size), np.uint8)
        both = min(new.line_size, old.line_size)
        rows[:, :both] = np.frombuffer(memoryview(old), np.uint8).reshape(old.height, -1)[:, :both]
        new.update(rows.tobytes())
    return made


def _padded(frame: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
    """A frame with its last column and row repeated, without subsampled chroma."""
    is_rgb, deep = frame.format.is_rgb, frame.format.components[0].bits > 8
    layout = ("gbrp16le" if deep else "gbrp") if is_rgb else ("yuv444p16le" if deep else "yuv444p")
    frame = frame.reformat(format=layout, interpolation=EXACT)
    made, kind = av.VideoFrame(width, height, layout), np.dtype("<u2" if deep else "u1")
    for new, old in zip(made.planes, frame.planes, strict=True):
        rows = np.frombuffer(memoryview(old), kind).reshape(old.height, -1)[:, : old.width]
        rows = np.pad(rows, ((0, height - old.height), (0, width - old.width)), mode="edge")
        rows = np.pad(rows, ((0, 0), (0, new.line_size // kind.itemsize - width)))
        new.update(rows.tobytes())
    return made
