"""Checks a VideoComp folder before a training run reads it: `gencompositor data check`."""

import dataclasses
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av

from gencompositor_jax.controls.media.container import frames_of, opened, picture
from gencompositor_jax.controls.media.video import Media, probe
from gencompositor_jax.data_pipelines.reading import RATE_TOLERANCE
from gencompositor_jax.data_pipelines.videocomp import (
    FOREGROUND,
    FPS,
    KINDS,
    TARGET,
    WHITE_VIDEO,
    Row,
    find_csv,
    read_rows,
    why_not,
)
from gencompositor_jax.data_pipelines.workers import MAX_WORKERS, progress_bar
from gencompositor_jax.errors import InputError

SHOWN = 20  # problems in the table; JSON lists all


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something that prevents a row from being read, or differs from the release's folder."""

    kind: str  # "csv", "missing file", "unreadable", "damaged", "frame count", "size", "rate"
    file: str  # relative to the folder
    problem: str


@dataclasses.dataclass(frozen=True)
class Report:
    """The result. Only the files of usable rows are checked."""

    folder: str
    csv: str
    rows: int
    usable: int
    unusable: dict[str, int]  # rows by reason
    files: int  # videos checked
    decoded: bool  # whether every frame of them was decoded
    problems: list[Problem]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return dataclasses.asdict(self)


def check(
    folder: Path,
    *,
    frames: int = 49,
    fps: float = FPS,
    csv_file: str | os.PathLike[str] | None = None,
    decode: bool = False,
    workers: int | None = None,
    progress: bool | None = None,
) -> Report:
    """Check the CSV and every video of the usable rows.

    Videos are read packet by packet, which finds missing, truncated and foreign files, and gives sizes, rates
    and frame counts. Damage inside a picture is found only by decoding it.

    Args:
        folder: the VideoComp folder.
        frames, fps: the model's frames and the sampling rate, which decide whether a row is usable.
        csv_file: which CSV, if the folder holds several.
        decode: also decode every frame; takes many times as long.
        workers: threads; one per core when None.
        progress: a bar on stderr; None: where that is a terminal.

    Raises:
        InputError: the folder or its CSV can't be read, or an argument is out of its range.
    """
    if not (frames >= 1 and 0 < fps <= 1000 and (workers is None or 1 <= workers <= MAX_WORKERS)):
        raise InputError(
            f"--frames {frames} --fps {fps:g} --workers {workers}: pass 1 frame or more, a rate above 0 and "
            f"at most 1000, and 1 to {MAX_WORKERS} workers"
        )
    csv_path = find_csv(folder, csv_file)
    rows, wrong = read_rows(csv_path, folder)
    problems = [Problem("csv", csv_path.name, line) for line in wrong]
    reasons = [why_not(row, frames, fps) for row in rows]
    usable = [row for row, reason in zip(rows, reasons, strict=True) if reason is None]
    clips = {row.file: row for row in usable}  # a file may have several rows
    found = {}
    with (
        ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool,
        progress_bar(len(clips), "checking", progress) as bar,
    ):
        checked = pool.map(lambda row: _check_videos(row, decode), clips.values())
        for file, result in zip(clips, checked, strict=True):
            found[file] = result
            bar.update()
    problems += _check_white(folder)
    for infos, faults in found.values():
        problems += faults + _contradictions(infos, folder)
    for row in usable:
        problems += _check_row(row, found[row.file][0])
    return Report(
        folder=str(folder),
        csv=csv_path.name,
        rows=len(rows) + len(wrong),
        usable=len(usable),
        unusable=dict(Counter(reason for reason in reasons if reason is not None)),
        files=sum(len(infos) for infos, _ in found.values()),
        decoded=decode,
        problems=problems,
    )


def table(report: Report) -> str:
    """The report as a table."""
    how = "every frame decoded" if report.decoded else "packet by packet; --decode decodes every frame"
    lines = [
        f"{report.folder} ({report.csv})",
        f"  rows      {report.rows:,}, of which {report.usable:,} are usable",
        *(f"            {count:,} have {reason}" for reason, count in report.unusable.items()),
        f"  videos    {report.files:,} checked, {how}",
        f"  problems  {len(report.problems):,}",
        *(
            f"            {count:,} x {kind}"
            for kind, count in Counter(p.kind for p in report.problems).most_common()
        ),
    ]
    if report.problems:
        shown = report.problems[:SHOWN]
        widths = [max(len(getattr(p, name)) for p in shown) for name in ("kind", "file")]
        lines += ["", *(f"  {p.kind:<{widths[0]}}  {p.file:<{widths[1]}}  {p.problem}" for p in shown)]
    if len(report.problems) > SHOWN:
        lines.append(f"  and {len(report.problems) - SHOWN:,} more; --json lists all")
    return "\n".join(lines)


def _check_videos(row: Row, decode: bool) -> tuple[dict[str, Media], list[Problem]]:
    """A row's readable videos by kind, and the problems of the others."""
    infos, problems = {}, []
    for kind in KINDS:
        path = row.video(kind)
        file = f"{kind}/{row.file}"
        if not path.is_file():
            problems.append(Problem("missing file", file, "no such file"))
            continue
        try:
            infos[kind] = probe(path)
        except InputError as error:
            problems.append(Problem("unreadable", file, _without(path, error)))
            continue
        if decode and (damage := _damage(path)):
            problems.append(Problem("damaged", file, damage))
    return infos, problems


def _damage(path: Path) -> str | None:
    """Decode a whole video; return what is damaged, or None."""
    number = 0
    try:
        with opened(path) as container:
            for frame in frames_of(container, picture(container, path), None):
                if frame.is_corrupt:
                    return f"frame {number} is damaged"
                number += 1
    except av.FFmpegError:
        return f"can't be decoded from frame {number} on"
    return None


def _check_white(folder: Path) -> list[Problem]:
    path = folder / WHITE_VIDEO
    if not path.is_file():
        what = "no such file; the release reads it for removal samples, this package doesn't"
        return [Problem("missing file", WHITE_VIDEO, what)]
    try:
        probe(path)
    except InputError as error:
        return [Problem("unreadable", WHITE_VIDEO, _without(path, error))]
    return []


def _contradictions(infos: dict[str, Media], folder: Path) -> list[Problem]:
    """Videos of one clip that don't match each other."""
    problems = []
    target = infos.get(TARGET)
    for kind, info in infos.items():
        file = str(info.path.relative_to(folder))
        size = f"{info.width}x{info.height} pixels"
        if kind == FOREGROUND and info.width != info.height:
            problems.append(Problem("size", file, f"{size}, a square is expected"))
        if target is None:
            continue
        if kind != FOREGROUND and (info.width, info.height) != (target.width, target.height):
            problems.append(Problem("size", file, f"{size}, {TARGET} has {target.width}x{target.height}"))
        if info.frames != target.frames:
            problems.append(
                Problem("frame count", file, f"{info.frames} frames, {TARGET} has {target.frames}")
            )
    return problems


def _check_row(row: Row, infos: dict[str, Media]) -> list[Problem]:
    """Where a row differs from its target's video."""
    target = infos.get(TARGET)
    problems = []
    file = f"{TARGET}/{row.file}"
    if target is not None and target.frames < row.end:
        problems.append(Problem("frame count", file, f"{target.frames} frames, its row ends at {row.end}"))
    if target is not None and abs(target.fps / row.fps - 1) > RATE_TOLERANCE:
        what = f"{target.fps:.4g} frames per second, its row says {row.fps:g}"
        problems.append(Problem("rate", file, what))
    return problems


def _without(path: Path, error: InputError) -> str:
    """The message without the path in front, which has a column of its own."""
    return str(error).removeprefix(f"{path}: ")
