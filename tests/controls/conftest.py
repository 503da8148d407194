"""Clips that say which frame is which, written by PyAV in whatever container and codec a test needs."""

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream


def _numbered_frames(count: int, height: int = 48, width: int = 64, alpha: bool = False) -> np.ndarray:
    """uint8 [T, H, W, 3 or 4]: the left half is grey 20 + 4 t, the right a ramp; alpha a moving disc."""
    y, x = np.mgrid[:height, :width]
    frames = np.empty((count, height, width, 4 if alpha else 3), np.uint8)
    for t in range(count):
        frames[t, ..., 0] = 40 + 160 * x // width
        frames[t, ..., 1] = 60 + 120 * y // height
        frames[t, ..., 2] = 180 - 120 * x // width
        frames[t, :, : width // 2, :3] = 20 + 4 * t
        if alpha:
            frames[t, ..., 3] = 255 * ((x - width / 3 - t) ** 2 + (y - height / 2) ** 2 < (height / 4) ** 2)
    return frames


def _numbers_of(frames: np.ndarray) -> list[int]:
    """Which of the numbered frames these are."""
    grey = frames[:, 4:-4, 4 : frames.shape[2] // 2 - 4, :3].mean((1, 2, 3))
    return ((grey - 20) / 4).round().astype(int).tolist()


def _write_clip(
    path: Path,
    frames: np.ndarray,
    *,
    fps: Fraction | int = 24,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    gop: int | None = None,
    sound: str | None = None,
    header_options: dict[str, str] | None = None,
) -> Path:
    """Writes frames, and as many seconds of a tone where `sound` names a codec."""
    count, height, width, channels = frames.shape
    with av.open(str(path), "w", options=header_options or {}) as output:
        stream = cast(VideoStream, output.add_stream(codec, rate=fps, options=options or {}))
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        if gop is not None:
            stream.codec_context.gop_size = gop
        tone = None
        if sound is not None:
            tone = cast(AudioStream, output.add_stream(sound, rate=48000, layout="stereo"))
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, "rgba" if channels == 4 else "rgb24")
            picture.pts, picture.time_base = index, 1 / Fraction(fps)
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
        if tone is not None:
            _add_tone(output, tone, count / fps)
    return path


def _add_tone(output: OutputContainer, stream: AudioStream, seconds: float) -> None:
    size = stream.codec_context.frame_size or 960
    resampler = av.AudioResampler(stream.codec_context.format.name)
    for index in range(math.ceil(48000 * seconds / size)):
        wave = 8000 * np.sin((np.arange(size) + index * size) * 0.06)
        block = av.AudioFrame.from_ndarray(np.repeat(wave, 2).astype(np.int16)[None], "s16", layout="stereo")
        block.sample_rate, block.pts, block.time_base = 48000, index * size, Fraction(1, 48000)
        for resampled in resampler.resample(block):
            output.mux(stream.encode(resampled))
    output.mux(stream.encode(None))


@pytest.fixture(scope="session")
def numbered_frames() -> Callable[..., np.ndarray]:
    """`numbered_frames(count, height=48, width=64, alpha=False)`: frames that show their number."""
    return _numbered_frames


@pytest.fixture(scope="session")
def numbers_of() -> Callable[[np.ndarray], list[int]]:
    """`numbers_of(frames)`: the numbers that frames show, also after coding with losses."""
    return _numbers_of


@pytest.fixture(scope="session")
def write_clip() -> Callable[..., Path]:
    """`write_clip(path, frames, codec="libx264", ...)` -> path: a clip as an outsider would write it."""
    return _write_clip


@pytest.fixture
def make_clip(tmp_path: Path) -> Callable[..., Path]:
    """`make_clip("a.mp4", count=24, size=(48, 64), alpha=False, **what write_clip takes)` -> its path."""

    def make(
        name: str, count: int = 24, size: tuple[int, int] = (48, 64), alpha: bool = False, **how: Any
    ) -> Path:
        return _write_clip(tmp_path / name, _numbered_frames(count, *size, alpha=alpha), **how)

    return make
