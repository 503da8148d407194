"""The queue: jobs in one SQLite file, so that they survive the end of the process.

    queued -> running -> done | failed | cancelled
       ^         |
       +---------+   the process ended while the job ran

Every change is one committed transaction. Any thread may call any method.
"""

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gencompositor_jax.jobs.table import FINISHED, STATES, Entry, State, entry_of, opened

UNKNOWN_SECONDS = 10.0  # assumed for a job before one has finished


class QueueFull(Exception):
    """As many jobs wait as may."""

    def __init__(self, limit: int, retry_after: float) -> None:
        super().__init__(f"{limit} jobs are waiting, which is the limit; try again in {retry_after:.0f} s")
        self.retry_after = retry_after  # seconds until about one of them will have been started


class OtherJob(Exception):
    """The client's key belongs to a job with other fields or files."""


class Queue:
    """The queue in a file, which is created if it doesn't exist.

    limit: of waiting jobs. on_change: called with a job after each change of its state.
    """

    def __init__(
        self, path: Path, limit: int, on_change: Callable[[Entry], None] = lambda _: None, workers: int = 1
    ) -> None:
        self.limit = limit
        self.workers = workers  # jobs that run at once, for the estimate of a wait
        self._on_change = on_change
        self._lock = threading.Lock()
        self._added = threading.Condition(self._lock)
        self._db = opened(path)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._db.close()

    def add(self, id: str, request: Mapping[str, Any], key: str | None = None, digest: str = "") -> Entry:
        """Appends a job; a job that was submitted with this key before is returned as it is.

        Raises QueueFull, or OtherJob where the key belongs to a job with another digest.
        """
        with self._transaction() as db:
            if key is not None and (row := db.execute("SELECT * FROM jobs WHERE key = ?", [key]).fetchone()):
                if row["digest"] != digest:
                    raise OtherJob(
                        f"the key {key!r} belongs to job {row['id']}, which has other fields or files"
                    )
                return entry_of(row)
            if self._count("queued") >= self.limit:
                raise QueueFull(self.limit, self._seconds_per_start())
            row = db.execute(
                "INSERT INTO jobs (state, id, request, key, digest, created) "
                "VALUES ('queued', ?, ?, ?, ?, ?) RETURNING *",
                [id, json.dumps(request), key, digest, time.time()],
            ).fetchone()
            self._added.notify()
        return self._changed(row)

    def claim(self, device: str) -> Entry | None:
        """Marks the oldest waiting job as running on a device; None if none waits."""
        with self._transaction() as db:
            row = db.execute(
                "UPDATE jobs SET state = 'running', device = ?, started = ?, starts = starts + 1 "
                "WHERE number = (SELECT min(number) FROM jobs WHERE state = 'queued') RETURNING *",
                [device, time.time()],
            ).fetchone()
        return None if row is None else self._changed(row)

    def finish(self, id: str, state: State, error: str | None = None) -> Entry:
        """Ends a running job as done, failed (with an error of one line) or cancelled."""
        assert state in FINISHED
        return self._update(
            id, "state = ?, error = ?, finished = ?, cancelling = 0", [state, error, time.time()], "running"
        )

    def give_back(self, id: str) -> Entry:
        """Puts a running job, which was stopped for no fault of its own, back to its place in the queue."""
        return self._update(id, "state = 'queued', started = NULL, starts = 0", [], "running")

    def forgive(self) -> None:
        """To be called before the process is ended on purpose: `recover` won't count it against the jobs that
        run now.
        """
        with self._transaction() as db:
            db.execute("UPDATE jobs SET starts = 0 WHERE state = 'running'")

    def cancel(self, id: str) -> Entry | None:
        """Cancels a waiting job at once and asks a running one to stop; None if there is no such job.

        A finished job is returned as it is.
        """
        with self._transaction() as db:
            row = db.execute("SELECT * FROM jobs WHERE id = ?", [id]).fetchone()
            if row is None:
                return None
            change = {
                "queued": "state = 'cancelled', finished = ?",
                "running": "cancelling = ? > 0",
            }.get(row["state"])
            if change is None:
                return entry_of(row)
            row = db.execute(
                f"UPDATE jobs SET {change} WHERE id = ? RETURNING *", [time.time(), id]
            ).fetchone()
        return self._changed(row)

    def recover(self, max_starts: int) -> list[Entry]:
        """To be called before anything is claimed: jobs that ran when the last process ended wait again.

        One that was started `max_starts` times has failed: it may be what ends the process. Returns all of
        them.
        """
        with self._transaction() as db:
            rows = db.execute(
                "UPDATE jobs SET finished = ?, cancelling = 0, "
                "error = CASE WHEN cancelling THEN NULL ELSE ? END, "
                "state = CASE WHEN cancelling THEN 'cancelled' ELSE 'failed' END "
                "WHERE state = 'running' AND (cancelling OR starts >= ?) RETURNING *",
                [
                    time.time(),
                    f"the service ended {max_starts} times while this job ran; it won't be tried again",
                    max_starts,
                ],
            ).fetchall()
            rows += db.execute(
                "UPDATE jobs SET state = 'queued', started = NULL WHERE state = 'running' RETURNING *"
            ).fetchall()
        return [self._changed(row) for row in rows]

    def wait(self, stop: threading.Event) -> None:
        """Returns once a job waits or `stop` is set (followed by `wake`)."""
        with self._added:
            while not stop.is_set() and not self._count("queued"):
                self._added.wait()

    def wake(self) -> None:
        """Makes all threads in `wait` look at their event."""
        with self._added:
            self._added.notify_all()

    def get(self, id: str) -> Entry | None:
        """A job; None if there is none."""
        with self._lock:
            row = self._db.execute("SELECT * FROM jobs WHERE id = ?", [id]).fetchone()
        return None if row is None else entry_of(row)

    def newest(self, count: int, state: State | None = None) -> list[Entry]:
        """The last jobs, the newest first; of one state only, if it is given."""
        with self._lock:
            rows = self._db.execute(
                "SELECT * FROM jobs WHERE ? IS NULL OR state = ? ORDER BY number DESC LIMIT ?",
                [state, state, count],
            ).fetchall()
        return [entry_of(row) for row in rows]

    def before(self, job: Entry) -> int:
        """How many jobs wait before a waiting one."""
        with self._lock:
            row = self._db.execute(
                "SELECT count(*) FROM jobs WHERE state = 'queued' AND number < ?", [job.number]
            ).fetchone()
        return int(row[0])

    def counts(self) -> dict[State, int]:
        """The number of jobs in each state."""
        with self._lock:
            found = dict(self._db.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall())
        return {state: found.get(state, 0) for state in STATES}

    def ids(self) -> set[str]:
        """Of all jobs."""
        with self._lock:
            return {row["id"] for row in self._db.execute("SELECT id FROM jobs")}

    def forget(self, id: str) -> bool:
        """Removes a finished job; False if there is none."""
        with self._transaction() as db:
            return bool(
                db.execute(
                    "DELETE FROM jobs WHERE id = ? AND state IN ('done', 'failed', 'cancelled')", [id]
                ).rowcount
            )

    def finished_before(self, moment: float) -> list[str]:
        """The ids of the jobs that ended before a time in Unix seconds."""
        with self._lock:
            return [row["id"] for row in self._db.execute("SELECT id FROM jobs WHERE finished < ?", [moment])]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _update(self, id: str, change: str, values: list[Any], only: State) -> Entry:
        with self._transaction() as db:
            row = db.execute(
                f"UPDATE jobs SET {change} WHERE id = ? AND state = ? RETURNING *", [*values, id, only]
            ).fetchone()
        if row is None:
            raise ValueError(f"job {id} isn't {only}")
        return self._changed(row)

    def _changed(self, row: sqlite3.Row) -> Entry:
        job = entry_of(row)
        self._on_change(job)
        return job

    def _count(self, state: State) -> int:
        return int(self._db.execute("SELECT count(*) FROM jobs WHERE state = ?", [state]).fetchone()[0])

    def _seconds_per_start(self) -> float:
        """About how long until the next waiting job is started, from the last jobs that are done."""
        row = self._db.execute(
            "SELECT avg(finished - started) FROM (SELECT * FROM jobs WHERE state = 'done' "
            "ORDER BY finished DESC LIMIT 20)"
        ).fetchone()
        return max(1.0, (UNKNOWN_SECONDS if row[0] is None else float(row[0])) / self.workers)
