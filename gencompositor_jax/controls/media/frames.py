"""Frames that need not be in memory: an array, or something that reads or computes those it is asked for.

A clip as long as the network's is an array. Of a longer clip a few frames at a time are in memory: whoever
needs all of them goes through `pieces` in order, which reads files once.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, overload

import numpy as np

STEP = 8  # frames that are read together


class Frames(Protocol):
    """T frames: a NumPy array, `Computed`, or a `Spool`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, H, W) or (T, H, W, channels)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8, or bool for masks."""

    def __len__(self) -> int:
        """T."""

    def __iter__(self) -> Iterator[Any]:
        """Frame by frame."""

    @overload
    def __getitem__(self, at: int, /) -> Any: ...
    @overload
    def __getitem__(self, at: slice, /) -> Any: ...


class Computed:
    """Frames made by a function of (first, stop), a range of frames; `np.asarray` makes all of them.

    step: frames per call when all are wanted. The function gets ranges in order then.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        make: Callable[[int, int], np.ndarray],
        dtype: type = np.uint8,
        step: int = STEP,
    ) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.step = step
        self._make = make

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        for piece in pieces(self, self.step):
            yield from piece

    def __getitem__(self, at: int | slice) -> np.ndarray:
        if isinstance(at, slice):
            first, stop, stride = at.indices(len(self))
            if stride != 1:
                raise ValueError(f"frames[{at}]: frames that are computed have no stride")
            return self._make(first, max(first, stop))
        index = range(len(self))[at]
        return self._make(index, index + 1)[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        out = np.empty(self.shape, self.dtype)
        for index, frame in enumerate(self):
            out[index] = frame
        return out if dtype is None else out.astype(dtype)


def pieces(frames: Frames, step: int | None = None) -> Iterator[Any]:
    """All frames in order, `step` of them at a time: arrays [n, ...]."""
    step = step or step_of(frames)
    for first in range(0, len(frames), step):
        yield frames[first : min(first + step, len(frames))]


def step_of(frames: Frames) -> int:
    """Frames that are read together where all are wanted."""
    return frames.step if isinstance(frames, Computed) else STEP


def held(frames: np.ndarray, length: int) -> np.ndarray:
    """The array with its last row repeated up to `length` rows."""
    missing = length - len(frames)
    return frames if missing <= 0 else np.concatenate([frames, np.repeat(frames[-1:], missing, axis=0)])


def between(frames: Frames, first: int, stop: int) -> Frames:
    """The frames from `first` to before `stop`, as they are: in memory or not."""
    if isinstance(frames, np.ndarray):
        return frames[first:stop]
    dtype: Any = frames.dtype
    shape = (stop - first, *frames.shape[1:])
    return Computed(shape, lambda a, b: frames[first + a : first + b], dtype, step_of(frames))


def surrounded(frames: Frames, first: int, length: int) -> Frames:
    """A clip of `length` frames with `frames` from frame `first` on, and zeros before and after them."""
    if len(frames) == length:
        return frames
    dtype: Any = frames.dtype

    def make(start: int, stop: int) -> np.ndarray:
        out = np.zeros((stop - start, *frames.shape[1:]), dtype)
        a, b = max(start, first), min(stop, first + len(frames))
        if a < b:
            out[a - start : b - start] = frames[a - first : b - first]
        return out

    return Computed((length, *frames.shape[1:]), make, dtype, step_of(frames))


def picked(frames: Frames, indices: np.ndarray) -> Computed:
    """The frames at `indices` [T], in which runs are read as such."""

    def make(first: int, stop: int) -> np.ndarray:
        wanted = indices[first:stop]
        runs = np.split(wanted, np.flatnonzero(np.diff(wanted) != 1) + 1)
        return np.concatenate([frames[int(run[0]) : int(run[-1]) + 1] for run in runs if len(run)])

    return Computed((len(indices), *frames.shape[1:]), make)
