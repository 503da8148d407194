"""Workers: one thread per device, each of which runs one job after the other from the queue."""

import dataclasses
import logging
import sqlite3
import threading
import time
from collections.abc import Callable

from gencompositor_jax.errors import InputError
from gencompositor_jax.jobs.events import Event, Events
from gencompositor_jax.jobs.queue import Queue
from gencompositor_jax.jobs.table import Entry, State

OnStep = Callable[[int, int], None]  # (steps done, steps in all)
RunJob = Callable[[Entry, OnStep], None]  # raises what the callback raises, and InputError

RETRY_S = 2.0  # before the end of a job is written again to a full disk

_log = logging.getLogger(__name__)


class Stopped(Exception):
    """A job was stopped between two steps."""


class Cancelled(Stopped):
    """By a client."""


class Ended(Stopped):
    """Because the process ends."""


@dataclasses.dataclass(frozen=True)
class Worker:
    """Runs the queue's jobs on one device until it is stopped.

    run: does a job's work and calls back after each sampling step. minutes: that a job may take.
    """

    queue: Queue
    events: Events
    run: RunJob
    device: str
    minutes: float
    stop: threading.Event  # followed by `queue.wake()`

    def __call__(self) -> None:
        """Returns once it is stopped: after the current step, with the job back in the queue."""
        while not self.stop.is_set():
            self.queue.wait(self.stop)
            try:
                job = None if self.stop.is_set() else self.queue.claim(self.device)
            except sqlite3.OperationalError as error:
                self._wait_for_disk("take a job from the queue", error)
                continue
            if job is not None:
                state, error_line = self._outcome(job)
                while not self._written(job, state, error_line) and not self.stop.is_set():
                    pass  # stopped, the job is run again by the next process

    def _written(self, job: Entry, state: State, error_line: str | None) -> bool:
        """Keeps what became of a job; False if the disk is full."""
        try:
            if state == "queued":
                self.queue.give_back(job.id)
            else:
                self.queue.finish(job.id, state, error_line)
        except sqlite3.OperationalError as error:
            self._wait_for_disk(f"write that job {job.id} is {state}", error)
            return False
        return True

    def _wait_for_disk(self, what: str, error: sqlite3.OperationalError) -> None:
        _log.error("can't %s (%s); trying again", what, error)
        self.stop.wait(RETRY_S)

    def _outcome(self, job: Entry) -> tuple[State, str | None]:
        """Runs a job: its new state, and the error of a failed one."""
        deadline = time.monotonic() + 60 * self.minutes

        def on_step(done: int, total: int) -> None:
            self.events.publish(Event(job.id, "running", done, total))
            if done == total:
                return  # what is sampled is also written
            now = self.queue.get(job.id)
            if now is None or now.cancelling:
                raise Cancelled
            if self.stop.is_set():
                raise Ended
            if time.monotonic() > deadline:
                raise InputError(
                    f"stopped after {self.minutes:g} minutes, the limit, at step {done} of {total}: ask for "
                    "fewer steps, frames or layers"
                )

        try:
            self.run(job, on_step)
        except Cancelled:
            return "cancelled", None
        except Ended:
            return "queued", None
        except InputError as error:
            return "failed", " ".join(str(error).split())
        except MemoryError:
            return (
                "failed",
                "the machine has too little memory for this job: ask for fewer frames or smaller clips",
            )
        except Exception as error:
            _log.exception("job %s", job.id)
            return "failed", f"internal error ({type(error).__name__}); the service's log has more"
        return "done", None
