"""Where the time of a run goes, summed over restarts in workdir/goodput.json.

    start        from the first start to its first finished step: reading weights, compiling
    restart      the same after every later start, and steps done again because no checkpoint had them
    data wait    the device is idle because the next batch is not ready
    checkpoint   the device is idle because a checkpoint is being saved
    validation   the device samples the validation clips
    productive   everything else: steps done for the first time

The host dispatches steps ahead of the device, so a wait of the host alone costs nothing. A thread records
when the results of each step arrive; only from then to the next dispatch is the device idle. What a killed
run did after it last wrote the file, and the time until it is started again, are not known.
"""

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax

from gencompositor_jax import fields
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import atomic_write_text, read_json

KINDS = ("productive", "data wait", "checkpoint", "validation", "start", "restart")
FILE = "goodput.json"
CLOSE_TIMEOUT = 10.0  # seconds that the end of a run waits for steps whose results have not arrived


class HostWait(NamedTuple):
    """A time during which the host waited, from start to end in seconds."""

    kind: str
    start: float
    end: float


class FinishedStep(NamedTuple):
    """When a step was dispatched and when its results arrived, in seconds."""

    step: int
    dispatched: float
    arrived: float


def waited(start: float, end: float, waits: list[HostWait]) -> dict[str, float]:
    """Seconds by kind between start and end that are in one of the waits, which do not overlap."""
    seconds: dict[str, float] = {}
    for wait in waits:
        if (overlap := min(end, wait.end) - max(start, wait.start)) > 0:
            seconds[wait.kind] = seconds.get(wait.kind, 0.0) + overlap
    return seconds


class Goodput:
    """Measures the time of one run; the first process writes the file.

        with Goodput(workdir) as goodput:  # before anything else: the time starts here
            for step in ...:
                with goodput.waiting("data wait"):
                    batch = next(batches)
                state, metrics = train_step(state, batch)
                goodput.dispatched(step, metrics)

    Raises InputError if the file of an earlier start can't be read.
    """

    def __init__(self, workdir: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._file, self._clock = workdir / FILE, clock
        earlier = _read(self._file)
        self.seconds: dict[str, float] = {kind: earlier["seconds"].get(kind, 0.0) for kind in KINDS}
        self.starts: int = earlier["starts"] + 1
        self._reached: int = earlier["reached"]  # the last step of earlier starts
        self._first: FinishedStep | None = None  # of this start
        self._last = FinishedStep(0, clock(), clock())  # `seconds` covers the time up to its arrival
        self._recent_seconds, self._recent_steps = 0.0, 0  # since the last call of `rate`
        self._waits: list[HostWait] = []
        self._pending: queue.SimpleQueue[tuple[int, float, Any] | None] = queue.SimpleQueue()
        self._finished: queue.SimpleQueue[FinishedStep | None] = queue.SimpleQueue()
        # A daemon: a device that hangs must not keep the process from exiting.
        threading.Thread(target=self._record_arrivals, name="goodput", daemon=True).start()

    def __enter__(self) -> "Goodput":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def waiting(self, kind: str) -> Iterator[None]:
        """A block in which the host waits: "data wait", "checkpoint" or "validation"; not nested."""
        start = self._clock()
        try:
            yield
        finally:
            self._waits.append(HostWait(kind, start, self._clock()))

    def dispatched(self, step: int, results: Any) -> None:
        """Record the dispatch of step number `step` (1, 2, ...); `results` are arrays to wait for."""
        self._pending.put((step, self._clock(), results))

    def rate(self) -> float | None:
        """Steps per second since the last call, counting the time of steps and of waiting for their data.

        None if no step has finished since, apart from the first one of this start.
        """
        self._count_finished()
        seconds, steps = self._recent_seconds, self._recent_steps
        self._recent_seconds, self._recent_steps = 0.0, 0
        return steps / seconds if seconds > 0 else None

    def seconds_left(self, steps: int) -> float | None:
        """How long that many more steps take at the rate of this start, with checkpoints and validation."""
        self._count_finished()
        if self._first is None or self._last.step == self._first.step:
            return None
        elapsed = self._last.arrived - self._first.arrived
        return steps * elapsed / (self._last.step - self._first.step)

    def save(self) -> None:
        """Write what is known so far to the file, atomically."""
        self._count_finished()
        if jax.process_index() == 0:
            reached = max(self._reached, self._last.step)
            fields = {"seconds": self.seconds, "reached": reached, "starts": self.starts}
            atomic_write_text(self._file, json.dumps(fields, indent=2) + "\n")

    def close(self) -> None:
        """Wait for the last steps, count the time since, and save."""
        self._pending.put(None)
        self._count_finished(wait=True)
        for kind, seconds in waited(self._last.arrived, self._clock(), self._waits).items():
            self.seconds[kind] += seconds
        self._waits = []
        self.save()

    def summary(self) -> str:
        """A table of the seconds of all starts."""
        total = sum(self.seconds.values())
        lines = [
            f"Time of this run: {format_duration(total)} in {self.starts} start{'s' * (self.starts > 1)}"
        ]
        for kind, seconds in self.seconds.items():
            if kind == "productive" or seconds > 0:
                lines.append(f"  {kind:<10}  {seconds / (total or 1):6.1%}  {format_duration(seconds)}")
        return "\n".join(lines)

    def _record_arrivals(self) -> None:
        """In the thread: wait for each step's results and record the time."""
        while (item := self._pending.get()) is not None:
            step, dispatched, results = item
            try:
                jax.block_until_ready(results)
            except Exception:  # the loop gets the same error when it reads them
                break
            self._finished.put(FinishedStep(step, dispatched, self._clock()))
        self._finished.put(None)

    def _count_finished(self, wait: bool = False) -> None:
        """Add the time up to the last results that have arrived to `seconds`."""
        while True:
            try:
                finished = self._finished.get(timeout=CLOSE_TIMEOUT if wait else None, block=wait)
            except queue.Empty:
                return
            if finished is None:
                return
            self._count(finished)

    def _count(self, finished: FinishedStep) -> None:
        elapsed = finished.arrived - self._last.arrived
        if self._first is None:
            self._first = finished
            self.seconds["start" if self.starts == 1 else "restart"] += elapsed
        else:
            idle = waited(self._last.arrived, finished.dispatched, self._waits)
            for kind, seconds in idle.items():
                self.seconds[kind] += seconds
            work = elapsed - sum(idle.values())
            self.seconds["restart" if finished.step <= self._reached else "productive"] += work
            self._recent_seconds += work + idle.get("data wait", 0.0)
            self._recent_steps += 1
        self._last = finished
        self._waits = [wait for wait in self._waits if wait.end > finished.arrived]


def format_duration(seconds: float) -> str:
    """A duration in two units: "3 h 12 min"."""
    left = round(seconds)
    for (size, unit), (small, part) in zip(_UNITS, _UNITS[1:], strict=False):
        if left >= size:
            return f"{left // size} {unit} {left % size // small} {part}"
    return f"{left} s"


_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def _read(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {"seconds": {}, "reached": 0, "starts": 0}
    try:
        found: Any = fields.read(_FILE, read_json(file), str(file))
    except InputError as error:
        raise InputError(f"{error}; delete it to measure from 0 again") from error
    if missing := [kind for kind in KINDS if kind not in found.seconds]:
        raise InputError(f"{file}: field {missing[0]!r} is missing; delete it to measure from 0 again")
    seconds = {kind: found.seconds[kind] for kind in KINDS}
    return {"seconds": seconds, "reached": found.reached, "starts": found.starts}


_Steps = Annotated[fields.Whole, fields.within(0, 2**53)]
# The fields of goodput.json that are read again.
_FILE = fields.schema(
    "Goodput",
    extra="ignore",
    seconds=dict[str, Annotated[fields.Number, fields.within(0, 1e12)]],
    reached=_Steps,
    starts=_Steps,
)
