"""Frames of a data set's videos by their numbers: by decord for training, by PyAV where damage must be seen.

Both decode once from the first frame on and keep what is wanted. decord is what a training step waits for; it
repeats chroma samples and conceals damaged pictures. PyAV (`controls.decoding`) interpolates chroma, as
inference does, and refuses damage: building a data set reads that way, and checking one with `--decode`.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from gencompositor_jax.controls.media.decoding import decode
from gencompositor_jax.controls.media.inputs import check_size, local_path
from gencompositor_jax.controls.media.stream import read_stream
from gencompositor_jax.errors import InputError

# (path, numbers [n] increasing from 0, frames per second expected or None) -> uint8 [n, H, W, 3].
# Raises InputError, naming the file, for what is missing, too short, of another rate or can't be decoded.
Reader = Callable[[Path, np.ndarray, float | None], np.ndarray]

RATE_TOLERANCE = 0.02  # relative: 29.97 passes for 30


def read_by_decord(path: Path, numbers: np.ndarray, fps: float | None = None) -> np.ndarray:
    """A `Reader` by decord; `read_by_pyav` where decord can't be imported or can't read the file."""
    local_path(path)
    try:
        import decord
    except (ImportError, OSError):  # no wheel for this machine, or one whose libraries don't load
        return read_by_pyav(path, numbers, fps)
    decord.logging.set_level(decord.logging.QUIET)
    try:
        # One thread: samples are read side by side already.
        video = decord.VideoReader(str(path.absolute()), ctx=decord.cpu(0), num_threads=1)
        check_rate(path, video.get_avg_fps(), fps)
        check_length(path, len(video), numbers)
        frames: np.ndarray = video.get_batch(numbers.tolist()).asnumpy()
    except (decord.DECORDError, RuntimeError):
        return read_by_pyav(path, numbers, fps)  # says what is wrong, and reads more kinds of files
    return frames


def read_by_pyav(path: Path, numbers: np.ndarray, fps: float | None = None) -> np.ndarray:
    """A `Reader` by PyAV, with inference's colours; a damaged frame raises InputError."""
    stream = read_stream(local_path(path))
    check_rate(path, stream.fps, fps)
    check_length(path, stream.frames, numbers)
    check_size(path, stream.width, stream.height, len(numbers))
    return decode(stream, numbers, alpha=False)


def check_length(path: Path, frames: int, numbers: np.ndarray) -> None:
    """Raises InputError where the last number is beyond the file's last frame."""
    if frames <= numbers[-1]:
        raise InputError(
            f"{path}: holds {frames} frames, {numbers[-1] + 1} are needed: "
            "copy it again, or correct its row's start_frame and end_frame"
        )


def check_rate(path: Path, actual: float, expected: float | None) -> None:
    """Raises InputError where a file's frames per second aren't the expected ones."""
    if expected is not None and abs(actual / expected - 1) > RATE_TOLERANCE:
        raise InputError(
            f"{path}: has {actual:.4g} frames per second, its row says {expected:g}: correct the row's fps"
        )
