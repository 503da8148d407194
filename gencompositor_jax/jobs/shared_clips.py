"""Decoded clips that several jobs of a batch name: the last ones are kept, and decoded once."""

import collections
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

from gencompositor_jax.controls.element.loading import load_element
from gencompositor_jax.controls.footage import load_background
from gencompositor_jax.controls.media.video import Media

KEPT = 2**29  # bytes of frames in memory


class SharedClips:
    """Reads clips into memory as `load_background` and `load_element` do. Any thread may call it.

    named: the clips of all jobs; those that occur once are not kept. What is kept can't be written to.
    """

    def __init__(self, named: Iterable[str]) -> None:
        counts = collections.Counter(named)
        self._shared = {path for path, count in counts.items() if count > 1}
        self._kept: collections.OrderedDict[Any, Future[Any]] = collections.OrderedDict()
        self._lock = threading.Lock()

    def background(self, given: Media, *times: Any, **how: Any) -> Any:
        """`load_background`."""
        return self._read(load_background, given, *times, **how)

    def element(self, given: Media, **how: Any) -> Any:
        """`load_element`."""
        return self._read(load_element, given, **how)

    def _read(self, read: Callable[..., Any], given: Media, *times: Any, **how: Any) -> Any:
        if str(given.path) not in self._shared:
            return read(given, *times, **how)
        key = read.__name__, str(given.path), repr(times), repr(sorted(how.items()))
        with self._lock:
            found, is_new = self._kept.get(key), False
            if found is None:
                found, is_new = self._kept.setdefault(key, Future()), True
            self._kept.move_to_end(key)
        if is_new:
            try:
                clip = read(given, *times, **how)
                clip.frames.setflags(write=False)
            except BaseException as error:
                with self._lock:
                    self._kept.pop(key, None)
                found.set_exception(error)
            else:
                found.set_result(clip)
                self._forget()
        return found.result()

    def _forget(self) -> None:
        """The oldest clips, until the others fit the memory."""
        with self._lock:
            sizes = {key: clip.result().frames.nbytes for key, clip in self._kept.items() if clip.done()}
            for key in [*sizes]:
                if sum(sizes.values()) > KEPT:
                    del self._kept[key], sizes[key]
