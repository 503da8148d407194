"""From a decoded frame to the pixels that are shown: working colours, square pixels, the right way up."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np

from gencompositor_jax.controls.media import hdr
from gencompositor_jax.controls.media.colour import Colour
from gencompositor_jax.controls.media.orientation import Orientation, orientation_of

# swscale's flags bicubic | accurate_rnd | full_chr_h_int | full_chr_h_inp; older versions of PyAV name only
# the first. Without them a conversion to RGB and back darkens a video by one level and repeats chroma.
EXACT = 0x4 | 0x40000 | 0x2000 | 0x4000
_ALIKE = Fraction(1, 100)  # pixels whose sides differ by less are square
_THIN = 8  # sample aspect ratios beyond it are damaged headers


@dataclass(frozen=True)
class Display:
    """How the frames of a stream are shown."""

    coded: tuple[int, int]  # (width, height) of decoded frames
    square: tuple[int, int]  # the same with square pixels
    orientation: Orientation
    colour: Colour
    peak: float = 0.0  # cd/m2; of HDR only

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as shown."""
        return self.orientation.size(*self.square)

    @property
    def is_plain(self) -> bool:
        """Whether decoded frames are shown as they are, but for YCbCr."""
        return (
            self.square == self.coded and self.orientation == Orientation() and self.colour.is_working_space
        )


def square_size(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """(width, height) with square pixels for a sample aspect ratio (width / height of a pixel).

    The height is kept. 0, None and absurd ratios mean square pixels.
    """
    if not aspect or not Fraction(1, _THIN) < aspect < _THIN or abs(aspect - 1) < _ALIKE:
        return width, height
    return max(1, round(width * aspect)), height


def orientation_of_frame(frame: av.VideoFrame) -> Orientation:
    """What the file's header or the stream asks for."""
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    return orientation_of(None if matrix is None else bytes(matrix))


def pixels_of(frame: av.VideoFrame, display: Display, alpha: bool) -> np.ndarray:
    """A decoded frame as it is shown, in the working space: uint8 RGB [H, W, 3] or RGBA [H, W, 4]."""
    wide = not display.colour.is_working_space
    layout = ("rgba64le" if wide else "rgba") if alpha else ("rgb48le" if wide else "rgb24")
    width, height = display.coded if alpha else display.square
    picture = reformatted(frame, display, layout, width, height)
    if wide:
        picture = hdr.convert(
            picture, hdr.tables(display.colour.transfer, display.colour.primaries, display.peak)
        )
    if alpha and display.square != display.coded:
        picture = _resized(picture, display.square)
    return display.orientation.apply(picture)


def reformatted(frame: av.VideoFrame, display: Display, layout: str, width: int, height: int) -> np.ndarray:
    """A decoded frame in an RGB layout of FFmpeg's and a size, by the stream's matrix."""
    size = {} if (width, height) == (frame.width, frame.height) else {"width": width, "height": height}
    matrix = None if frame.format.is_rgb else display.colour.matrix
    return np.asarray(
        frame.reformat(format=layout, interpolation=EXACT, src_colorspace=matrix, **size).to_ndarray()
    )


def _resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Straight-alpha RGBA of another size; the colours of transparent pixels don't bleed."""
    values = picture.astype(np.float32)
    values[..., :3] *= values[..., 3:] / 255
    resized: np.ndarray = cv2.resize(values, size, interpolation=cv2.INTER_LINEAR)
    resized[..., :3] = resized[..., :3] * (255 / np.maximum(resized[..., 3:], 1))
    return np.rint(resized).clip(0, 255).astype(np.uint8)
