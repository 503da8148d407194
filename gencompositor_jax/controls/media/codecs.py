"""The codecs of videos that are written, by the names that users choose them by."""

from pathlib import Path
from typing import Literal, NamedTuple

from gencompositor_jax.errors import InputError
from gencompositor_jax.files import PathLike

Codec = Literal["h264", "h264-10", "hevc-10", "prores-422", "prores-4444", "dnxhr-hqx", "dnxhr-444", "ffv1"]
CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
_HEVC = {"crf": "12", "preset": "fast", "x265-params": "log-level=error"}


class Coding(NamedTuple):
    """How a codec is called."""

    encoder: str  # FFmpeg's name
    pixels: str | None  # FFmpeg's name of the layout; None keeps the plate's
    bits: int | None
    options: dict[str, str]
    containers: tuple[str, ...]
    lossless: bool = False
    matrix: int | None = None  # of YCbCr, whatever the plate's is: FFmpeg's DNxHR always states BT.709's


CODINGS: dict[str, Coding] = {
    "h264": Coding("libx264", "yuv420p", 8, {"crf": "14", "preset": "fast"}, (".mp4", ".mov", ".mkv")),
    "h264-10": Coding(
        "libx264", "yuv420p10le", 10, {"crf": "12", "preset": "fast"}, (".mp4", ".mov", ".mkv")
    ),
    "hevc-10": Coding("libx265", "yuv420p10le", 10, _HEVC, (".mp4", ".mov", ".mkv")),
    "prores-422": Coding("prores_ks", "yuv422p10le", 10, {"profile": "hq"}, (".mov",)),
    "prores-4444": Coding("prores_ks", "yuv444p10le", 10, {"profile": "4444"}, (".mov",)),
    "dnxhr-hqx": Coding("dnxhd", "yuv422p10le", 10, {"profile": "dnxhr_hqx"}, (".mov",), matrix=1),
    "dnxhr-444": Coding("dnxhd", "yuv444p10le", 10, {"profile": "dnxhr_444"}, (".mov",), matrix=1),
    "ffv1": Coding("ffv1", None, None, {"level": "3", "g": "1"}, (".mkv",), lossless=True),
}


def check_codec(codec: str, path: PathLike) -> None:
    """Raise InputError where a codec isn't written to a file of this name."""
    coding = CODINGS[codec]
    if Path(path).suffix.lower() not in coding.containers:
        raise InputError(f"{path}: --codec {codec} is written to {', '.join(coding.containers)}: name it so")
