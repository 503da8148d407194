"""What is told of a run: numbers and pictures in its folder, and a line on the console.

    workdir/metrics.jsonl      a row of JSON for each report, {"step": 100, "loss": 0.12, ...}
    workdir/tensorboard/       the same for TensorBoard, with the pictures
    workdir/sheets/            the pictures, step-000100.png

Only the first process writes. A run that goes on from a checkpoint forgets the rows that were reported after
it, so that they read as if it had never stopped.
"""

import json
import math
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tensorboardX import RecordWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from gencompositor_jax.controls.media.sheet import write_png
from gencompositor_jax.errors import InputError
from gencompositor_jax.training.goodput import in_words

# One step's metrics as plain numbers: what isn't reported yet can be kept in a checkpoint, as JSON.
StepMetrics = dict[str, Any]


def plain(fetched: Mapping[str, np.ndarray]) -> StepMetrics:
    """Metrics of a step that were fetched from the device, as numbers and lists of numbers."""
    return {name: np.asarray(value).tolist() for name, value in fetched.items()}


def summarize(steps: Sequence[StepMetrics], **more: float | None) -> dict[str, float]:
    """One row for some steps: the mean of each metric over the steps where it is finite.

    "skipped" counts from the run's beginning: its last value. "bucket_sum" and "bucket_count" [n] become
    "loss_by_timestep/0.0-0.1" and so on, the mean loss of the clips whose timestep was in that share of the
    schedule; a bucket without a clip has none. `more` is added, but for what is None.
    """
    row: dict[str, float] = {}
    for name in steps[-1] if steps else ():
        values = [step[name] for step in steps]
        if name == "skipped":
            row[name] = values[-1]
        elif not name.startswith("bucket_") and (finite := [v for v in values if math.isfinite(v)]):
            row[name] = math.fsum(finite) / len(finite)
    if steps and "bucket_sum" in steps[-1]:
        kept = [step for step in steps if np.isfinite(step["bucket_sum"]).all()]
        total, count = (
            np.sum([step[name] for step in kept], axis=0) for name in ("bucket_sum", "bucket_count")
        )
        for i in np.flatnonzero(count):
            share = f"{i / len(count):.1f}-{(i + 1) / len(count):.1f}"
            row[f"loss_by_timestep/{share}"] = float(total[i] / count[i])
    return row | {name: value for name, value in more.items() if value is not None}


def console_line(step: int, steps: int, row: Mapping[str, float], seconds_left: float | None) -> str:
    """A row for people: losses, and what there is of "steps_per_second", "mfu" (a share) and "skipped"."""
    parts = [f"step {step} of {steps}"]
    for name, label in _SHOWN.items():
        if name in row:
            parts.append(f"{label} {row[name]:.4f}")
    if "steps_per_second" in row:
        parts.append(f"{row['steps_per_second']:.3g} steps/s")
    if "mfu" in row:
        parts.append(f"MFU {row['mfu']:.1%}")
    if seconds_left is not None and step < steps:
        parts.append(f"{in_words(seconds_left)} left")
    if row.get("skipped"):
        parts.append(f"{row['skipped']:.0f} steps skipped (not finite)")
    return "  ".join(parts)


_SHOWN = {"loss": "loss", "loss/frame": "frame", "loss/mask": "mask", "gradient_norm": "gradient"}


class Writer:
    """Writes rows and pictures into a run's folder, as they come; nothing but on the first process.

    step: where the run goes on; what was reported of later steps is forgotten. Raises InputError where the
    folder can't be written to, then and later.
    """

    def __init__(self, workdir: Path, step: int = 0) -> None:
        self._workdir = workdir
        self._open = jax.process_index() == 0
        if self._open:
            with _written(workdir):
                self._rows = _forget(workdir / "metrics.jsonl", step)
                self._events = _open_events(workdir / "tensorboard", step)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a row. Numbers that are not finite are null in it."""
        if self._open:
            row = {name: value if math.isfinite(value) else None for name, value in values.items()}
            with _written(self._workdir):
                with open(self._rows, "a", encoding="utf-8") as rows:
                    rows.write(json.dumps({"step": step, **row}) + "\n")
                shown = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
                _add(self._events, Event(step=step, summary=Summary(value=shown)))

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        """Adds a picture, uint8 RGB [h, w, 3]: `workdir`/NAME/step-000100.png, and TensorBoard's."""
        if self._open:
            with _written(self._workdir):
                file = self._workdir / name / f"step-{step:06d}.png"
                file.parent.mkdir(exist_ok=True)
                write_png(file, picture, overwrite=True)
                height, width, colours = picture.shape
                image = Summary.Image(height=height, width=width, colorspace=colours)
                image.encoded_image_string = file.read_bytes()
                value = Summary.Value(tag=name, image=image)
                _add(self._events, Event(step=step, summary=Summary(value=[value])))

    def close(self) -> None:
        """Ends writing; twice is once."""
        if self._open:
            self._open = False
            with _written(self._workdir):
                self._events.close()


def _forget(file: Path, step: int) -> Path:
    """Drops the rows of later steps, and what a killed writer left of one, if there are any."""
    if file.exists():
        before = file.read_text(encoding="utf-8")
        after = "".join(f"{line}\n" for line in before.splitlines() if _step_of(line) <= step)
        if after != before:
            part = file.with_name(file.name + ".part")
            part.write_text(after, encoding="utf-8")
            os.replace(part, file)
    return file


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def _open_events(folder: Path, step: int) -> RecordWriter:
    """A new event file, whose beginning tells TensorBoard to drop what older ones have of later steps."""
    folder.mkdir(exist_ok=True)
    # TensorBoard reads the files of a folder in the order of their names.
    writer = RecordWriter(str(folder / f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"))
    _add(writer, Event(file_version="brain.Event:2"))
    _add(writer, Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))
    return writer


def _add(writer: RecordWriter, event: Event) -> None:
    event.wall_time = time.time()
    writer.write(event.SerializeToString())
    writer.flush()


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{folder}: can't be written to ({error.strerror or error}); see to the disk or its permissions "
            "and start again: the run goes on from its last checkpoint"
        ) from error
