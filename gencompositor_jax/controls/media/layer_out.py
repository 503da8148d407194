"""The edit layer as a file: RGBA of 16 bits in PNG or TIFF images or FFV1, or ProRes 4444."""

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange

from gencompositor_jax.controls.media.container import opened
from gencompositor_jax.controls.media.numbering import is_pattern, numbered
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import PathLike, atomic_write, check_output

IMAGES = (".png", ".tif", ".tiff")
_PRORES = {"profile": "4444", "alpha_bits": "16"}
VIDEOS: dict[str, dict[str, Any]] = {
    ".mov": {"codec": "prores_ks", "pixels": "yuva444p10le", "options": _PRORES},
    ".mkv": {"codec": "ffv1", "pixels": "gbrap16le", "options": {"level": "3"}},
}
_BT709 = 1  # H.273's number of the primaries, the transfer function and the matrix
_EXACT = 0x4 | 0x40000 | 0x2000 | 0x4000  # swscale's flags, as in display.py


def check_layer_output(path: PathLike, frames: int, first: int, overwrite: bool) -> None:
    """`check_output` for a layer of so many frames, numbered from `first`.

    InputError if the name is neither a pattern of images (`edit_####.png`) nor a video (.mov, .mkv).
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in IMAGES and is_pattern(path.name):
        for number in range(first, first + frames):
            check_output(numbered(path, number), overwrite)
    elif suffix in VIDEOS:
        check_output(path, overwrite)
    else:
        raise InputError(
            f"--layer {path}: pass a name such as edit.mov (ProRes 4444), edit.mkv (FFV1), edit_####.png or "
            "edit_####.tif"
        )


def write_layer(
    path: PathLike,
    frames: Iterator[np.ndarray],
    fps: float,
    *,
    first: int = 0,
    timecode: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write straight-alpha uint16 frames [H, W, 4], one at a time; see `check_layer_output` for the names.

    Images are numbered from `first`; each appears under its name once it is complete. `timecode`: of the
    first frame, "hh:mm:ss:ff", for .mov.
    """
    path = Path(path)
    if path.suffix.lower() in IMAGES:
        for number, frame in enumerate(frames, first):
            with atomic_write(numbered(path, number), overwrite) as part:
                done, data = cv2.imencode(path.suffix.lower(), cv2.cvtColor(frame, cv2.COLOR_RGBA2BGRA))
                assert done
                part.write_bytes(data.tobytes())
        return
    how, rate = VIDEOS[path.suffix.lower()], Fraction(fps).limit_denominator(1001)
    kind = "mov" if path.suffix.lower() == ".mov" else "matroska"
    with atomic_write(path, overwrite) as part, av.open(str(part.absolute()), "w", format=kind) as output:
        stream: Any = None
        for index, frame in enumerate(frames):
            if stream is None:
                if timecode is not None:
                    output.metadata["timecode"] = timecode
                stream = output.add_stream(how["codec"], rate=rate, options=how["options"])
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = how["pixels"]
                context = stream.codec_context
                context.color_primaries = context.color_trc = _BT709
                if kind == "mov":
                    context.colorspace, context.color_range = _BT709, ColorRange.MPEG
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgba64le").reformat(
                format=how["pixels"], interpolation=_EXACT, dst_colorspace=_BT709 if kind == "mov" else None
            )
            picture.pts, picture.time_base = index, 1 / rate
            output.mux(stream.encode(picture))
        if stream is not None:
            output.mux(stream.encode(None))


def timecode_of(path: Path, frames: int, fps: float) -> str | None:
    """The time code of a video's frame number `frames`; None if the file has no non-drop time code."""
    if not path.is_file():
        return None
    with opened(path) as container:
        tags = [container.metadata, *(stream.metadata for stream in container.streams)]
    found = next((t["timecode"] for t in tags if "timecode" in t), "")
    parts = re.fullmatch(r"(\d+):(\d+):(\d+):(\d+)", found)
    if parts is None:
        return None
    hours, minutes, seconds, rest = map(int, parts.groups())
    base = round(fps)
    total = ((hours * 60 + minutes) * 60 + seconds) * base + rest + frames
    seconds, rest = divmod(total, base)
    return f"{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}:{rest:02}"
