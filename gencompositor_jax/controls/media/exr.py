"""EXR images with all that is in them, by the package OpenEXR (extra `exr`)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gencompositor_jax.controls.media.inputs import check_size
from gencompositor_jax.errors import InputError

_OF_FILE = ("channels", "compression", "type", "lineOrder", "tiles", "chunkCount", "version", "name", "view")
_COLOURS = ("R", "G", "B")
_GREY = "Y"


class Exr(NamedTuple):
    """The first part of an EXR file."""

    channels: dict[str, np.ndarray]  # float16, float32 or uint32 [H, W] of the data window, by name
    header: dict[str, Any]  # its attributes, without those of the file's own layout
    size: tuple[int, int]  # (width, height) of the display window: the picture
    at: tuple[int, int]  # (x, y) of the data window's first pixel in the picture; negative for overscan

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the colours: float16 or float32."""
        return self.channels[self.colours[0]].dtype

    @property
    def colours(self) -> tuple[str, ...]:
        """The names of the channels that are red, green and blue; one for grey."""
        return _COLOURS if all(name in self.channels for name in _COLOURS) else (_GREY,)


def check_package() -> None:
    """Raise InputError if the package isn't installed."""
    try:
        import OpenEXR  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"EXR images at their own depth need OpenEXR ({error}): pip install 'gencompositor-jax[exr]'"
        ) from error


def read(path: Path) -> Exr:
    """An EXR image. InputError if it can't be read, has no colours in floats, or subsampled channels."""
    check_package()
    import OpenEXR

    try:
        with OpenEXR.File(str(path), separate_channels=True) as file:
            header = dict(file.header())
            channels = {name: channel.pixels for name, channel in file.channels().items()}
            sampled = {channel.xSampling * channel.ySampling for channel in file.channels().values()}
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise InputError(f"{path}: is no EXR image that can be read ({error}): export it again") from error
    if sampled != {1}:
        raise InputError(f"{path}: has subsampled channels: export it with R, G and B of full size")
    (left, top), (right, bottom) = header["displayWindow"]
    x, y = header["dataWindow"][0]
    width, height = int(right - left) + 1, int(bottom - top) + 1
    check_size(path, width, height)
    kept = {name: value for name, value in header.items() if name not in _OF_FILE}
    found = Exr(channels, kept, (width, height), (int(x - left), int(y - top)))
    if not set(found.colours) <= set(channels) or not all(
        np.issubdtype(channels[name].dtype, np.floating) for name in found.colours
    ):
        raise InputError(f"{path}: has no channels R, G and B in half or float: {', '.join(channels)[:80]}")
    return found


def write(path: Path, channels: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> None:
    """Write scan lines of these channels, ZIP-compressed, with the attributes of another file's header."""
    check_package()
    import OpenEXR

    layout = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    arrays = {name: np.ascontiguousarray(pixels) for name, pixels in channels.items()}
    OpenEXR.File(dict(header) | layout, arrays).write(str(path))
