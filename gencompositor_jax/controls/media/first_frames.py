"""What the first frames of a file tell: orientation, shape of pixels, colours, fields, and an HDR peak."""

import dataclasses
from contextlib import suppress
from itertools import islice
from pathlib import Path

import av
import numpy as np

from gencompositor_jax.controls.media import hdr
from gencompositor_jax.controls.media.colour import Tags, colour_of
from gencompositor_jax.controls.media.container import frames_of, opened, picture
from gencompositor_jax.controls.media.display import Display, orientation_of_frame, reformatted, square_size
from gencompositor_jax.errors import InputError

_TALLEST_INTERLACED = 1088  # rows; no format has interlaced pictures with more


def read_display(path: Path, keys: np.ndarray) -> tuple[Display, bool]:
    """How the frames of a file are shown, and whether they are interlaced.

    `keys`: int [K], stamps of keyframes, at which an HDR file's peak is measured. InputError if the first
    frame can't be decoded, or its colours can't be converted.
    """
    display, interlaced = _first_frames(path)
    if display.colour.transfer != "sdr":
        display = dataclasses.replace(display, peak=_peak(path, display, keys))
    return display, interlaced


def _first_frames(path: Path) -> tuple[Display, bool]:
    with opened(path) as container:
        stream = picture(container, path)
        context = stream.codec_context
        stated = Tags(int(context.colorspace), int(context.color_trc), int(context.color_primaries))
        aspect = stream.sample_aspect_ratio
        try:
            frames = frames_of(container, stream, None)
            first = next(frames, None)
            if first is None:
                raise InputError(f"{path}: none of its frames can be decoded: export it again")
            interlaced = first.interlaced_frame
            if first.height <= _TALLEST_INTERLACED:  # a clip may begin with a frame that isn't flagged
                interlaced = interlaced or any(f.interlaced_frame for f in islice(frames, 4))
        except av.FFmpegError as error:
            raise InputError(f"{path}: its first frame can't be decoded: export it again") from error
        tags = Tags(int(first.colorspace), int(first.color_trc), int(first.color_primaries))
        colour = colour_of(tags, stated, first.width, first.height)
        if colour is None:
            raise InputError(
                f"{path}: its colours (matrix {tags.matrix} of ITU-T H.273) can't be converted: export it as "
                "BT.709, BT.2020 or RGB"
            )
        coded = first.width, first.height
        square = square_size(*coded, aspect or context.sample_aspect_ratio)
        return Display(coded, square, orientation_of_frame(first), colour), interlaced


def _peak(path: Path, display: Display, keys: np.ndarray) -> float:
    """The brightest light in cd/m2, measured at most 16 times over the file, whatever part is read later."""
    starts = keys[np.unique(np.linspace(0, len(keys) - 1, 16).astype(int))] if len(keys) else [None]
    each = 1 if len(starts) > 4 else 4
    width, height = (max(1, side // 4) for side in display.coded)
    found = [hdr.WHITE]
    with opened(path) as container:
        stream = picture(container, path)
        for start in starts:
            if start is not None:
                container.seek(int(start), stream=stream)
            with suppress(av.FFmpegError):  # decoding reports it, if it is asked for
                for frame in islice(frames_of(container, stream, None), 0, 12 * each, 12):
                    values = reformatted(frame, display, "rgb48le", width, height)
                    found.append(hdr.peak_of(values, display.colour.transfer))
    return max(found)
