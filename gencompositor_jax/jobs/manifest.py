"""A manifest: one job per line, JSON objects (see `spec`). Empty lines are skipped.

A line that can't be used is a failed job; the others are made all the same.
"""

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from gencompositor_jax.controls.scene import with_paths
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import parse_json
from gencompositor_jax.jobs.report import JobFiles
from gencompositor_jax.jobs.spec import Job, job_of

MAX_LINE = 2**20  # bytes; a video passed by mistake has no line breaks


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a manifest."""

    number: int  # from 1
    out: str | None  # of the job, as far as it is known
    job: Job | None = None  # None if the line can't be used
    error: str | None = None
    digest: str = ""  # of all that the job says, with paths relative to the manifest's folder


def read_manifest(path: Path) -> list[Line]:
    """All lines with a job; an output that an earlier line has is an error of the later one.

    Relative paths become absolute, from the manifest's folder. Raises InputError where the manifest can't be
    read or holds no job.
    """
    folder, taken, found = path.absolute().parent, dict[Path, int](), list[Line]()
    for number, text in _lines(path):
        where, out = f"{path}: line {number}", None
        try:
            value = parse_json(text, str(path), number)
            out = value["out"] if isinstance(value, dict) and isinstance(value.get("out"), str) else None
            job = job_of(value, lambda named: os.path.normpath(folder / named), where)
            for file in JobFiles.of(job, Path()).all:
                if (first := taken.setdefault(file, number)) != number:
                    raise InputError(f"{where}: out: {file} is written by line {first}; pass another name")
            found.append(Line(number, job.out, job, digest=_digest(job, folder)))
        except InputError as error:
            found.append(Line(number, out, error=" ".join(str(error).split())))
    if not found:
        raise InputError(f"{path}: holds no job; write one JSON object per line")
    return found


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file" if not path.exists() else f"{path}: not a regular file")
    number = 1
    try:
        with path.open("rb") as file:
            while line := file.readline(MAX_LINE + 1):
                if len(line) > MAX_LINE:
                    raise InputError(f"{path}: line {number}: more than {MAX_LINE:,} bytes; not a manifest")
                if text := line.decode("utf-8-sig").strip():
                    yield number, text
                number += 1
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: line {number}: not UTF-8 text; not a manifest") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error


def _digest(job: Job, folder: Path) -> str:
    scene = dataclasses.replace(job.scene, record=None)
    portable = with_paths(scene, lambda named: os.path.relpath(named, folder))
    return hashlib.sha256(repr((portable, job.out, job.layer, job.save_element)).encode()).hexdigest()[:16]
