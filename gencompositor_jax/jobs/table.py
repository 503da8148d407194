"""The table of a queue: one row per job, in SQLite."""

import dataclasses
import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from gencompositor_jax.errors import InputError

State = Literal["queued", "running", "done", "failed", "cancelled"]
STATES: tuple[State, ...] = get_args(State)
FINISHED: tuple[State, ...] = ("done", "failed", "cancelled")

VERSION = 1  # of the table, in SQLite's user_version
_SCHEMA = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    request TEXT NOT NULL,
    key TEXT UNIQUE,
    digest TEXT NOT NULL,
    created REAL NOT NULL,
    started REAL,
    finished REAL,
    starts INTEGER NOT NULL DEFAULT 0,
    device TEXT,
    cancelling INTEGER NOT NULL DEFAULT 0,
    error TEXT
);
CREATE INDEX jobs_by_state ON jobs (state, number);
"""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A job in the queue. Times are Unix seconds."""

    number: int  # increases with every job; the order of execution
    id: str
    state: State
    request: Mapping[str, Any]  # the fields of `spec`, as they were submitted
    key: str | None  # of the client, which makes a repeated submission harmless
    digest: str  # of everything submitted, to tell a repetition from another job
    created: float
    started: float | None
    finished: float | None
    starts: int  # how often it has been started since the process last ended on purpose
    device: str | None
    cancelling: bool  # to be stopped after the current sampling step
    error: str | None  # of a failed job: one line

    @property
    def seconds(self) -> float | None:
        """How long it ran; None unless it has ended."""
        return None if self.started is None or self.finished is None else self.finished - self.started


def opened(path: Path) -> sqlite3.Connection:
    """The database with the table. Raises InputError where the file is something else."""
    try:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        db.row_factory = sqlite3.Row
        version = db.execute("PRAGMA user_version").fetchone()[0]
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")  # what a client was told survives a loss of power
        if version == 0:
            db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
    except sqlite3.Error as error:
        raise InputError(f"{path}: not a queue of jobs ({error}); pass another folder") from error
    if version not in (0, VERSION):
        db.close()
        raise InputError(
            f"{path}: a queue of version {version}; this program reads {VERSION}: pass another folder"
        )
    return db


def entry_of(row: sqlite3.Row) -> Entry:
    """The job in a row."""
    values = dict(row)
    return Entry(**values | {"request": json.loads(row["request"]), "cancelling": bool(row["cancelling"])})
