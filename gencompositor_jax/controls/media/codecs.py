"""The codecs of videos that are written, by the names that users choose them by."""

from pathlib import Path
from typing import Literal, NamedTuple

import cv2

from gencompositor_jax.errors import InputError
from gencompositor_jax.files import PathLike

Codec = Literal["h264", "h264-10", "hevc-10", "prores-422", "prores-4444", "dnxhr-hqx", "dnxhr-444", "ffv1"]
VIEWING: tuple[Codec | None, ...] = (None, "h264")  # 8 bits of the working picture
CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
# The result doesn't depend on the number of cores. With B-frames x265 gives frames of very short clips wrong
# times. The AVX-512 code of x264's macroblock tree gives other bits in every run, its AVX2 code the same.
_AVX_512F = 13  # OpenCV's number, which its Python module doesn't name
X264 = {"preset": "fast", "threads": "4"}
if cv2.checkHardwareSupport(_AVX_512F):
    X264["x264-params"] = "asm=avx2"
_X264 = {"crf": "12", **X264}
_X265 = {"crf": "12", "preset": "fast", "x265-params": "log-level=error:bframes=0:frame-threads=2"}


class Coding(NamedTuple):
    """How a codec is called."""

    encoder: str  # FFmpeg's name
    pixels: str | None  # FFmpeg's name of the layout; None keeps the plate's
    bits: int | None
    options: dict[str, str]
    containers: tuple[str, ...]
    lossless: bool = False
    least: tuple[int, int] = (1, 1)  # (width, height); x265 writes beyond its buffers below 64 columns
    matrix: int | None = None  # of YCbCr, whatever the plate's is: FFmpeg's DNxHR always states BT.709's


CODINGS: dict[str, Coding] = {
    "h264": Coding("libx264", "yuv420p", 8, _X264, (".mp4", ".mov", ".mkv")),
    "h264-10": Coding("libx264", "yuv420p10le", 10, _X264, (".mp4", ".mov", ".mkv")),
    "hevc-10": Coding("libx265", "yuv420p10le", 10, _X265, (".mp4", ".mov", ".mkv"), least=(64, 64)),
    "prores-422": Coding("prores_ks", "yuv422p10le", 10, {"profile": "hq"}, (".mov",)),
    "prores-4444": Coding("prores_ks", "yuv444p10le", 10, {"profile": "4444"}, (".mov",)),
    "dnxhr-hqx": Coding(
        "dnxhd", "yuv422p10le", 10, {"profile": "dnxhr_hqx"}, (".mov",), least=(256, 120), matrix=1
    ),
    "dnxhr-444": Coding(
        "dnxhd", "yuv444p10le", 10, {"profile": "dnxhr_444"}, (".mov",), least=(256, 120), matrix=1
    ),
    "ffv1": Coding("ffv1", None, None, {"level": "3", "g": "1"}, (".mkv",), lossless=True),
}


def check_codec(codec: str, path: PathLike, size: tuple[int, int]) -> None:
    """Raise InputError where a codec isn't written to a file of this name, or has no frames so small.

    size: (width, height).
    """
    coding = CODINGS[codec]
    if any(side < least for side, least in zip(size, coding.least, strict=True)):
        raise InputError(
            f"--codec {codec}: needs frames of {coding.least[0]}x{coding.least[1]} pixels or more, the plate "
            f"has {size[0]}x{size[1]}: choose another"
        )
    if Path(path).suffix.lower() not in coding.containers:
        raise InputError(f"{path}: --codec {codec} is written to {', '.join(coding.containers)}: name it so")
