"""Small videos for playing: H.264 of constant rate, made when they are first asked for and kept as files."""

import hashlib
import os
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np

from gencompositor_jax.app.pictures import fitted, over_squares
from gencompositor_jax.controls.media.frames import Computed, Frames
from gencompositor_jax.controls.media.video_out import write_video

MOST = 2**29  # bytes of all of them together
CRF = 20  # x264's constant rate factor: for looking at, not for keeping


class Videos:
    """The videos in a folder, the least recently used removed first. Any thread may call it."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._lock = folder, threading.Lock()
        folder.mkdir(mode=0o700, exist_ok=True)

    def __call__(self, key: str, frames: Frames, fps: float, width: int) -> Path:
        """The file of the video that a key stands for; its frames are read only if there is none."""
        name = hashlib.sha256(f"{key} {width}".encode()).hexdigest()[:32]
        path = self._folder / f"{name}.mp4"
        with self._lock:  # one at a time: each encodes on several cores
            if path.exists():
                os.utime(path)
            else:
                write_video(path, _small(frames, width), fps, crf=CRF, overwrite=True)
                self._forget(path)
        return path

    def _forget(self, newest: Path) -> None:
        found = [(path.stat(), path) for path in self._folder.glob("*.mp4")]
        size = sum(status.st_size for status, _ in found)
        for status, path in sorted(found, key=lambda each: each[0].st_mtime):
            if size > MOST and path != newest:
                with suppress(OSError):
                    path.unlink()
                size -= status.st_size


def _small(frames: Frames, width: int) -> Computed:
    count, height, own, channels = frames.shape
    small = (height, own) if own <= width else (max(1, round(height * width / own)), width)

    def make(first: int, stop: int) -> np.ndarray:
        part = [fitted(frame, width) for frame in frames[first:stop]]
        return np.stack([over_squares(frame) if channels == 4 else frame for frame in part])

    return Computed((count, *small, 3), make)
