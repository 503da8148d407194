"""Where a run's time goes, kept over restarts in workdir/goodput.json.

    start        from the first start to its first finished step: compiling, reading weights
    restart      the same after every later start, and steps that were done before and got lost
    data wait    the device idle, because the next batch isn't there
    checkpoint   the device idle, because a checkpoint is written
    validation   the device at work for people, on validation clips
    productive   everything else: steps done for the first time

The host is a step ahead of the device, so what the host waits for is no loss by itself: a thread notes when a
step's results are there, and only from then to the next step's dispatch does the device wait. What a killed
run did after it last wrote the file, and the time until somebody starts it again, isn't known.
"""

import json
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax

from gencompositor_jax.errors import InputError

KINDS = ("productive", "data wait", "checkpoint", "validation", "start", "restart")
FILE = "goodput.json"
PATIENCE = 10.0  # seconds that the end of a run waits for steps that are still on their way


class Block(NamedTuple):
    """What the host was held up with, between two moments in seconds."""

    kind: str
    begin: float
    end: float


class Done(NamedTuple):
    """A step's dispatch and the arrival of its results, in seconds."""

    step: int
    dispatched: float
    arrived: float


def waits(begin: float, end: float, blocks: list[Block]) -> dict[str, float]:
    """Seconds by kind that blocks, which don't overlap each other, have of the stretch from begin to end."""
    seconds: dict[str, float] = {}
    for block in blocks:
        if (covered := min(end, block.end) - max(begin, block.begin)) > 0:
            seconds[block.kind] = seconds.get(block.kind, 0.0) + covered
    return seconds


class Goodput:
    """The clock of one run; the first process writes the file.

        with Goodput(workdir) as goodput:  # first of all: the clock starts here
            for step in ...:
                with goodput.spent("data wait"):
                    batch = next(batches)
                state, metrics = train_step(state, batch)
                goodput.stepped(step, metrics)

    Raises InputError where an earlier start's file can't be read.
    """

    def __init__(self, workdir: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._file, self._clock = workdir / FILE, clock
        earlier = _read(self._file)
        self.seconds: dict[str, float] = {kind: earlier["seconds"].get(kind, 0.0) for kind in KINDS}
        self.starts: int = earlier["starts"] + 1
        self._reached: int = earlier["reached"]  # the last step of earlier starts
        self._first: Done | None = None  # step of this start
        self._last = Done(0, clock(), clock())  # up to its arrival all time has its kind
        self._recent, self._recent_steps = 0.0, 0  # seconds and steps since `rate` was asked
        self._blocks: list[Block] = []
        self._dispatched: queue.SimpleQueue[tuple[int, float, Any] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Done | None] = queue.SimpleQueue()
        # A daemon: a device that hangs must not keep the process from ending.
        threading.Thread(target=self._watch, name="goodput", daemon=True).start()

    def __enter__(self) -> "Goodput":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def spent(self, kind: str) -> Iterator[None]:
        """The host is held up in this block: "data wait", "checkpoint" or "validation". Not nested."""
        begin = self._clock()
        try:
            yield
        finally:
            self._blocks.append(Block(kind, begin, self._clock()))

    def stepped(self, step: int, results: Any) -> None:
        """Step number `step` (1, 2, ...) has been dispatched and gives `results`, arrays to wait for."""
        self._dispatched.put((step, self._clock(), results))

    def rate(self) -> float | None:
        """Steps per second since this was last asked, in time spent on steps or on waiting for their data.

        None where no step has been finished since, a start's first aside.
        """
        self._settle()
        seconds, steps = self._recent, self._recent_steps
        self._recent, self._recent_steps = 0.0, 0
        return steps / seconds if seconds > 0 else None

    def seconds_left(self, steps: int) -> float | None:
        """How long that many more steps take at this start's pace, checkpoints and validation included."""
        self._settle()
        if self._first is None or self._last.step == self._first.step:
            return None
        past = self._last.arrived - self._first.arrived
        return steps * past / (self._last.step - self._first.step)

    def save(self) -> None:
        """Writes what is known so far, whole or not at all."""
        self._settle()
        if jax.process_index() == 0:
            reached = max(self._reached, self._last.step)
            fields = {"seconds": self.seconds, "reached": reached, "starts": self.starts}
            part = self._file.with_name(self._file.name + ".part")
            part.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
            os.replace(part, self._file)

    def close(self) -> None:
        """Waits for the last steps, counts what came after them, and saves."""
        self._dispatched.put(None)
        self._settle(wait=True)
        for kind, seconds in waits(self._last.arrived, self._clock(), self._blocks).items():
            self.seconds[kind] += seconds
        self._blocks = []
        self.save()

    def summary(self) -> str:
        """A table of the seconds of all starts, for people."""
        total = sum(self.seconds.values())
        lines = [f"Time of this run: {in_words(total)} in {self.starts} start{'s' * (self.starts > 1)}"]
        for kind, seconds in self.seconds.items():
            if kind == "productive" or seconds > 0:
                lines.append(f"  {kind:<10}  {seconds / (total or 1):6.1%}  {in_words(seconds)}")
        return "\n".join(lines)

    def _watch(self) -> None:
        """In a thread: stamps results when they arrive."""
        while (item := self._dispatched.get()) is not None:
            step, dispatched, results = item
            try:
                jax.block_until_ready(results)
            except Exception:  # the loop meets the same error when it reads them
                break
            self._done.put(Done(step, dispatched, self._clock()))
        self._done.put(None)

    def _settle(self, wait: bool = False) -> None:
        """Gives all time up to the last results that arrived its kind."""
        while True:
            try:
                done = self._done.get(timeout=PATIENCE if wait else None, block=wait)
            except queue.Empty:
                return
            if done is None:
                return
            self._count(done)

    def _count(self, done: Done) -> None:
        stretch = done.arrived - self._last.arrived
        if self._first is None:
            self._first = done
            self.seconds["start" if self.starts == 1 else "restart"] += stretch
        else:
            waited = waits(self._last.arrived, done.dispatched, self._blocks)
            for kind, seconds in waited.items():
                self.seconds[kind] += seconds
            work = stretch - sum(waited.values())
            self.seconds["restart" if done.step <= self._reached else "productive"] += work
            self._recent += work + waited.get("data wait", 0.0)
            self._recent_steps += 1
        self._last = done
        self._blocks = [block for block in self._blocks if block.end > done.arrived]


def in_words(seconds: float) -> str:
    """A length of time for people, in two units: "3 h 12 min"."""
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
        fields = json.loads(file.read_text(encoding="utf-8"))
        seconds = {kind: float(fields["seconds"][kind]) for kind in KINDS}
        return {"seconds": seconds, "reached": int(fields["reached"]), "starts": int(fields["starts"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file}: can't be read ({error}); delete it, and time is counted from 0 again"
        ) from error
