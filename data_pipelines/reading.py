"""Frames of a data set's videos by their numbers, with the colours of inference."""

from pathlib import Path

import numpy as np

from gencompositor_jax.controls.media.decoding import decode
from gencompositor_jax.controls.media.inputs import check_size, local_path
from gencompositor_jax.controls.media.stream import read_stream
from gencompositor_jax.errors import InputError

RATE_TOLERANCE = 0.02  # relative: 29.97 passes for 30


def read_frames(path: Path, numbers: np.ndarray, fps: float | None = None) -> np.ndarray:
    """The frames `numbers` [n], increasing from 0: uint8 [n, H, W, 3].

    `fps`: the rate that the file should have, if known. InputError names the file: missing, too short, of
    another rate, damaged.
    """
    stream = read_stream(local_path(path))
    if fps is not None and abs(stream.fps / fps - 1) > RATE_TOLERANCE:
        raise InputError(
            f"{path}: has {stream.fps:.4g} frames per second, its row says {fps:g}: correct the row's fps"
        )
    if stream.frames <= numbers[-1]:
        raise InputError(
            f"{path}: has {stream.frames} frames, {numbers[-1] + 1} are needed: "
            "copy it again, or correct its row's start_frame and end_frame"
        )
    check_size(path, stream.width, stream.height, len(numbers))
    return decode(stream, numbers, alpha=False)
