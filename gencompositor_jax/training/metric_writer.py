"""Metrics and images of a run, written to its folder, and the line that is printed for each report.

    workdir/metrics.jsonl      one JSON object per report, {"step": 100, "loss": 0.12, ...}
    workdir/sheets/            images, step-000100.png
    workdir/tensorboard/       both of them for TensorBoard, if tensorboardX is installed

Only the first process writes. A resumed run drops what was logged after its checkpoint, so that every step is
logged once.
"""

import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gencompositor_jax.controls.media.sheet import write_png
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import MAX_TABLE, atomic_write_text, read_text
from gencompositor_jax.training.goodput import format_duration

# Metrics of one step as Python numbers and lists. A checkpoint holds those not logged yet, as JSON.
StepMetrics = dict[str, Any]


def to_python(fetched: Mapping[str, np.ndarray]) -> StepMetrics:
    """Metrics fetched from the device, as Python numbers and lists of numbers."""
    return {name: np.asarray(value).tolist() for name, value in fetched.items()}


def summarize(steps: Sequence[StepMetrics], **more: float | None) -> dict[str, float]:
    """Summarise the metrics of some steps: each metric's mean over the steps where it is finite.

    "skipped" is a count since step 0: its last value. "bucket_sum" and "bucket_count" [n] become
    "loss_by_timestep/0.0-0.1" and so on: the mean loss of the clips whose timestep is in that fraction of the
    schedule, without the buckets that have no clip. `more` is added, except values that are None.
    """
    row: dict[str, float] = {}
    for name in steps[-1] if steps else ():
        values = [step[name] for step in steps]
        if name == "skipped":
            row[name] = values[-1]
        elif not name.startswith("bucket_") and (finite := [v for v in values if math.isfinite(v)]):
            row[name] = math.fsum(finite) / len(finite)
    if steps and "bucket_sum" in steps[-1]:
        finite_steps = [step for step in steps if np.isfinite(step["bucket_sum"]).all()]
        total, count = (
            np.sum([step[name] for step in finite_steps], axis=0) for name in ("bucket_sum", "bucket_count")
        )
        for i in np.flatnonzero(count):
            fractions = f"{i / len(count):.1f}-{(i + 1) / len(count):.1f}"
            row[f"loss_by_timestep/{fractions}"] = float(total[i] / count[i])
    return row | {name: value for name, value in more.items() if value is not None}


def console_line(step: int, steps: int, row: Mapping[str, float], seconds_left: float | None) -> str:
    """Format a report for the console: the losses, and "steps_per_second", "mfu" (0 to 1) and "skipped" where
    the row has them.
    """
    parts = [f"step {step} of {steps}"]
    for name, label in _CONSOLE_LABELS.items():
        if name in row:
            parts.append(f"{label} {row[name]:.4f}")
    if "steps_per_second" in row:
        parts.append(f"{row['steps_per_second']:.3g} steps/s")
    if "mfu" in row:
        parts.append(f"MFU {row['mfu']:.1%}")
    if seconds_left is not None and step < steps:
        parts.append(f"{format_duration(seconds_left)} left")
    if row.get("skipped"):
        parts.append(f"{row['skipped']:.0f} steps skipped (not finite)")
    return "  ".join(parts)


_CONSOLE_LABELS = {"loss": "loss", "loss/frame": "frame", "loss/mask": "mask", "gradient_norm": "gradient"}


class MetricWriter:
    """Writes metrics and images to a run's folder; does nothing on other processes than the first.

    step: the step that the run resumes from; what was logged of later steps is dropped. Every method raises
    InputError if the folder can't be written to.
    """

    def __init__(self, workdir: Path, step: int = 0) -> None:
        self._workdir, self._rows = workdir, workdir / "metrics.jsonl"
        self._open = jax.process_index() == 0
        if self._open:
            with _explain_write_errors(workdir):
                _drop_rows_after(self._rows, step)
                self._events = _open_events(workdir / "tensorboard", step)

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers of a step. What is not finite is null in metrics.jsonl and absent in TensorBoard."""
        if self._open:
            finite = {name: value for name, value in values.items() if math.isfinite(value)}
            with _explain_write_errors(self._workdir):
                with open(self._rows, "a", encoding="utf-8") as rows:
                    rows.write(json.dumps({"step": step, **dict.fromkeys(values), **finite}) + "\n")
                if self._events is not None:
                    _check_thread(self._events)
                    for name, value in finite.items():
                        self._events.add_scalar(name, value, step)

    def image(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Log an image, uint8 RGB [h, w, 3], as `workdir`/NAME/step-000100.png and in TensorBoard."""
        if self._open:
            with _explain_write_errors(self._workdir):
                file = self._workdir / name / f"step-{step:06d}.png"
                file.parent.mkdir(exist_ok=True)
                write_png(file, pixels, overwrite=True)
                if self._events is not None:
                    self._events.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is pending and close the files; idempotent."""
        if self._open:
            self._open = False
            if self._events is not None:
                with _explain_write_errors(self._workdir):
                    self._events.close()


def _drop_rows_after(file: Path, step: int) -> None:
    """Drop the rows of later steps, and a line that a killed process left unfinished."""
    if os.path.lexists(file):
        before = read_text(file, MAX_TABLE)
        after = "".join(f"{line}\n" for line in before.splitlines() if _step_of(line) <= step)
        if after != before:
            atomic_write_text(file, after)


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return math.inf


def _open_events(folder: Path, step: int) -> Any:
    """A SummaryWriter that hides later steps of earlier event files; None without tensorboardX."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        note = "no TensorBoard files: tensorboardX is missing (pip install 'gencompositor-jax[tensorboard]')"
        print(f"{note}; metrics.jsonl has the same numbers", file=sys.stderr, flush=True)
        return None
    folder.mkdir(exist_ok=True)
    return SummaryWriter(
        str(folder),
        purge_step=step + 1,
        # Unbounded: a bounded queue would block training when the thread that empties it has ended.
        max_queue=0,
        flush_secs=1,
        # File names hold whole seconds: a second start within one would overwrite the first one's file.
        filename_suffix=f".{time.time_ns()}",
    )


def _check_thread(events: Any) -> None:
    """Raise OSError if the thread of a SummaryWriter has ended, as it does on the first error of the disk."""
    if not events.file_writer.event_writer._worker.is_alive():
        raise OSError("tensorboard/ can't be written")


@contextmanager
def _explain_write_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{folder}: can't be written to ({error.strerror or error}); check the disk and its permissions, "
            "then run the command again: it resumes from the last checkpoint"
        ) from error
