"""The results of a batch: results.jsonl, one line per job, {"job", "out", "status", "seconds", "error"}.

While a batch runs, each process appends to a file of its own, results.jsonl or, of several processes,
results.0-of-2.jsonl. Once every job of the manifest has a result, results.jsonl holds one line per job in the
manifest's order. A job is done where its report is (see `report`): these lines only say so.
"""

import dataclasses
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from gencompositor_jax.errors import InputError
from gencompositor_jax.files import atomic_write_text, parse_json
from gencompositor_jax.jobs.manifest import Line
from gencompositor_jax.jobs.report import JobFiles

NAME = "results.jsonl"


@dataclasses.dataclass(frozen=True)
class Result:
    """How one job ended."""

    job: int  # number of its line in the manifest
    out: str | None
    status: Literal["done", "failed"]
    seconds: float  # of work for this job alone; a call's are divided by its clips
    error: str | None = None


class Results:
    """The file of one process. Any thread may append."""

    def __init__(self, folder: Path, share: tuple[int, int] = (0, 1)) -> None:
        """share: (i, n), the number of this process and of all."""
        i, n = share
        self.path = folder / (NAME if n == 1 else f"results.{i}-of-{n}.jsonl")
        self._lock = threading.Lock()
        self._cut_off = self.path.exists() and not self.path.read_bytes().endswith(b"\n")

    def add(self, result: Result) -> None:
        """Appends a line, whole. Raises InputError where the disk is full."""
        line = json.dumps(dataclasses.asdict(result), ensure_ascii=False) + "\n"
        line, self._cut_off = "\n" * self._cut_off + line, False  # of a killed process
        with self._lock:
            try:
                handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
                try:
                    os.write(handle, line.encode())
                finally:
                    os.close(handle)
            except OSError as error:
                raise InputError(f"{self.path}: can't be written ({error.strerror})") from error


def done_before(lines: Sequence[Line], root: Path) -> dict[int, Result]:
    """The jobs that are done already, by their numbers."""
    found = {}
    for line in lines:
        report = None if line.job is None else JobFiles.of(line.job, root).report_of(line.digest)
        if report is not None:
            seconds = report.get("seconds")
            total = sum(seconds.values()) if isinstance(seconds, dict) else 0.0
            found[line.number] = Result(line.number, line.out, "done", round(total, 3))
    return found


def settle(lines: Sequence[Line], root: Path) -> bool:
    """Writes results.jsonl in the manifest's order if every job has a result; returns whether it has."""
    known = _read_all(root) | done_before(lines, root)
    if any(line.number not in known for line in lines):
        return False
    rows = [json.dumps(dataclasses.asdict(known[line.number]), ensure_ascii=False) for line in lines]
    atomic_write_text(root / NAME, "\n".join(rows) + "\n")
    return True


def _read_all(root: Path) -> dict[int, Result]:
    """The failed jobs of all processes; a line that was cut off is left out."""
    found = {}
    for path in sorted(root.glob("results*.jsonl"), key=lambda path: path.stat().st_mtime):
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row: Any = parse_json(text, str(path))
                result = Result(**row)
            except (InputError, TypeError):
                continue
            if result.status == "failed":
                found[result.job] = result
    return found
