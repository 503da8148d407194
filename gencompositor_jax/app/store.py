"""What was decoded and cut out, kept while memory allows: whoever moves one point needs the same again.

Everything is immutable and made by a pure function of its key. A key's maker runs once, however many threads
ask; what it raises isn't kept.
"""

import dataclasses
import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import cachetools
import numpy as np
from cachetools.keys import hashkey

from gencompositor_jax.controls.element.element import Cutout
from gencompositor_jax.controls.element.loading import load_element, open_element
from gencompositor_jax.controls.media.frames import Computed, Frames
from gencompositor_jax.controls.media.images import ImageSequence
from gencompositor_jax.controls.media.stream import PictureStream
from gencompositor_jax.controls.media.video import Footage, Media, choose, open_video, read_video

MEMORY = 2**30  # bytes of frames
WHOLE = 2**28  # bytes of a clip that is kept whole; a larger one is decoded as it is asked for

T = TypeVar("T")


class Store:
    """Values by keys, the least recently used forgotten first."""

    def __init__(self, size: float, size_of: Callable[[Any], float]) -> None:
        """size: of all values together, by `size_of`."""
        self._cache: cachetools.LRUCache[Hashable, Any] = cachetools.LRUCache(size, size_of)
        self._condition = threading.Condition()
        self._get = cachetools.cached(
            self._cache, key=lambda key, _: hashkey(key), condition=self._condition
        )(lambda _, make: make())

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key, made if need be."""
        found: T = self._get(key, make)
        return found

    def clear(self) -> None:
        """Forgets everything."""
        with self._condition:
            self._cache.clear()


def kept_frames() -> Store:
    """A store of footage and elements, by their bytes."""
    return Store(MEMORY, lambda kept: size_of(kept.frames))


def size_of(frames: Frames) -> float:
    """Bytes in memory."""
    return frames.nbytes if isinstance(frames, np.ndarray) else 1


def read_footage(
    store: Store,
    media: Media,
    fps: float | None = None,
    start: float = 0.0,
    end: float | None = None,
    alpha: bool = False,
) -> Footage:
    """The frames of a clip, as `read_video` does; any thread may read them."""

    def make() -> Footage:
        whole = _fits(media, len(choose(media, fps, start, end, None, alpha).indices), 4)
        read = read_video if whole else open_video
        return _shared(read(media, fps=fps, start=start, end=end, alpha=alpha))

    return store.get(("footage", _key(media), fps, start, end, alpha), make)


def background_reader(store: Store) -> Callable[..., Footage]:
    """`load_background` that keeps what it returns."""
    from gencompositor_jax.controls.footage import load_background  # imports JAX

    def read(
        given: Media,
        frames: int,
        fps: float | None = None,
        start: float = 0.0,
        end: float | None = None,
        window: int | None = None,
        colour: str | None = None,
    ) -> Footage:
        limit = None if _fits(given, frames, 3) else window

        def make() -> Footage:
            return _shared(load_background(given, frames, fps, start, end, limit, colour))

        return store.get(("background", _key(given), frames, fps, start, end, colour), make)

    return read


def element_reader(store: Store) -> Callable[..., Cutout]:
    """`load_element` that keeps what it returns."""

    def read(given: Media, fps: float | None = None, end: float | None = None, **how: Any) -> Cutout:
        named = {name: _key(value) for name, value in how.items()}
        # The same frames are the same element, whichever rate and end lead to them; a mask follows by time.
        times = (fps, end) if how.get("mask") is not None else ()
        indices = choose(given, fps, 0.0, end, None, False).indices
        whole = _fits(given, len(indices), 4)

        def make() -> Cutout:
            return _shared((load_element if whole else open_element)(given, fps=fps, end=end, **how))

        key = ("element", _key(given), indices.tobytes(), times, tuple(sorted(named.items())))
        return store.get(key, make)

    return read


def _key(value: Any) -> Any:
    """A clip by its file, which another may have replaced under its name."""
    if not isinstance(value, PictureStream | ImageSequence):
        return value
    status = value.path.stat()
    return value.path, status.st_ino, status.st_mtime_ns


def _fits(media: Media, frames: int, channels: int) -> bool:
    return media.width * media.height * channels * frames <= WHOLE


def _shared(kept: T) -> T:
    """Frames that are read as they are asked for, by one thread at a time."""
    frames = kept.frames  # type: ignore[attr-defined]
    if isinstance(frames, np.ndarray):
        return kept
    lock = threading.Lock()

    def make(first: int, stop: int) -> np.ndarray:
        with lock:
            return np.asarray(frames[first:stop])

    shared = Computed(frames.shape, make, frames.dtype.type)
    return dataclasses.replace(kept, frames=shared)  # type: ignore[type-var]
