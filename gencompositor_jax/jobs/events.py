"""Events: how a job comes along, for whoever listens. Workers publish them, from any thread."""

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator

from gencompositor_jax.jobs.table import FINISHED, State


@dataclasses.dataclass(frozen=True)
class Event:
    """What is known of a job at one moment: one event contains all that earlier ones said."""

    job: str
    state: State
    done: int = 0  # sampling steps
    total: int = 0  # 0 until sampling has begun
    error: str | None = None

    @property
    def last(self) -> bool:
        """Whether no other follows."""
        return self.state in FINISHED


Listener = Callable[[Event | None], None]  # None: no more events, because the process ends


class Events:
    """Passes events on to the listeners of each job, and keeps the last event of each running job."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[str, list[Listener]] = {}
        self._latest: dict[str, Event] = {}
        self._closed = False

    def publish(self, event: Event) -> None:
        """Calls the job's listeners, in this thread: they must return at once."""
        with self._lock:
            if event.state == "running":
                self._latest[event.job] = event
            else:
                self._latest.pop(event.job, None)
            for listener in self._listeners.get(event.job, ()):
                listener(event)

    def latest(self, job: str) -> Event | None:
        """The last event of a running job."""
        return self._latest.get(job)

    @contextlib.contextmanager
    def listening(self, job: str, listener: Listener) -> Iterator[None]:
        """Calls `listener` with the job's events while the block runs."""
        with self._lock:
            if self._closed:
                listener(None)
            self._listeners.setdefault(job, []).append(listener)
        try:
            yield
        finally:
            with self._lock:
                self._listeners[job].remove(listener)
                if not self._listeners[job]:
                    del self._listeners[job]

    def close(self) -> None:
        """Ends all listeners, those that come later as well."""
        with self._lock:
            self._closed = True
            for listeners in self._listeners.values():
                for listener in listeners:
                    listener(None)
