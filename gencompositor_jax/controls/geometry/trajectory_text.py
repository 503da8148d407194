"""Trajectories as text: points, files, a point to track.

points     "120,130 360,90 600,200" on the command line: a smooth curve at constant speed
a file     .txt with x,y per line (the released implementation's format), or .json with key frames
track:x,y  a point of the background that is tracked (tracking.py)
"""

import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from gencompositor_jax import fields
from gencompositor_jax.controls.geometry.trajectory import (
    Keyframe,
    Trajectory,
    from_json,
    from_points,
    relative_hint,
)
from gencompositor_jax.errors import InputError, within
from gencompositor_jax.fields import Number
from gencompositor_jax.files import read_json, read_text

TRACK = "track:"
FILES = (".txt", ".csv", ".json")


def parse_trajectory(text_or_path: str, relative: bool = False) -> Trajectory:
    """Parse points, the name of a file, or "track:x,y".

    `relative`: x and y are relative coordinates; a JSON file may set this itself. InputError names the point,
    line or field.
    """
    text = text_or_path.strip()
    if not text:
        raise InputError(
            "trajectory: empty; pass points (120,130 360,90), a .txt or .json file, or track:x,y"
        )
    if text.startswith(TRACK):
        points = _points(text[len(TRACK) :], f"trajectory {text!r}")
        if len(points) != 1:
            raise InputError(f"trajectory {text!r}: {len(points)} points; pass one to track")
        with within(f"trajectory {text!r}"):
            return Trajectory((Keyframe(*points[0]),), relative, track=True)
    if text.lower().endswith(FILES) or _exists(text):
        return _read_file(text, relative)
    points = _points(text, "trajectory")
    _hint_relative(points, relative)
    return from_points(points, relative)


def as_trajectory(given: str | Trajectory | Sequence[Sequence[float]] | np.ndarray) -> Trajectory:
    """A trajectory from what Python callers pass: text (see `parse_trajectory`) or (x, y) pairs."""
    if isinstance(given, Trajectory):
        return given
    if isinstance(given, str):
        return parse_trajectory(given)
    try:
        return from_points(given)
    except InputError:
        raise
    except (TypeError, ValueError):  # not iterable, not pairs, or not numbers
        kind = type(given).__name__
        raise InputError(f"trajectory: {kind} where points are expected; pass pairs or x,y texts") from None


def as_numbers(given: Any, name: str) -> tuple[float, ...]:
    """Key scales or rotations from what Python callers pass: numbers. InputError names `name`."""
    try:
        values = given if isinstance(given, Sequence) else (given,)
        # A text is a sequence, too, but "12" isn't 1 and 2; nor is True 1.
        if isinstance(given, str) or any(isinstance(value, bool) for value in values):
            raise TypeError
        return tuple(float(value) for value in values)
    except (TypeError, ValueError):
        kind = type(given).__name__
        raise InputError(f"{name}: {kind} where a number, or several, are expected") from None


def parse_numbers(text: str, where: str) -> tuple[float, ...]:
    """Numbers separated by commas, for --scale and --rotation. InputError names `where`."""
    tokens = re.split(r"\s*[,;]\s*|\s+", text.strip())
    if "" in tokens:
        raise InputError(f"{where}: {text[:60]!r} lacks a number; pass one, or several separated by commas")
    return tuple(_decimal(token, where) for token in tokens)


def _read_file(path: str, relative: bool) -> Trajectory:
    if path.lower().endswith(".json") or read_text(path).lstrip()[:1] in ("[", "{"):
        return from_json(read_json(path), path, relative)
    points = []
    for i, line in enumerate(read_text(path).splitlines(), start=1):
        parts = re.split(r"\s*,\s*|\s+", line.strip())
        if parts == [""]:
            continue
        if len(parts) != 2:
            raise InputError(f"{path}: line {i}: {line.strip()[:60]!r} is not a point; write x,y")
        points.append((_decimal(parts[0], f"{path}: line {i}"), _decimal(parts[1], f"{path}: line {i}")))
    if not points:
        raise InputError(f"{path}: no points; write one x,y per line")
    _hint_relative(points, relative)
    return from_points(points, relative, "frames")


def _points(text: str, where: str) -> list[tuple[float, float]]:
    """Pairs x,y separated by spaces or semicolons; InputError if there is none."""
    points = []
    for pair in re.split(r"\s*;\s*|\s+", re.sub(r"\s*,\s*", ",", text.strip())):
        x, comma, y = pair.partition(",")
        if not comma or "," in y:
            raise InputError(
                f"{where}: {pair[:60]!r} is neither a file nor a point; write x,y such as 120,130"
            )
        points.append((_decimal(x, where), _decimal(y, where)))
    return points


def _decimal(token: str, where: str) -> float:
    try:
        value = float(token.replace("_", "?"))  # float() accepts 1_000
    except ValueError:
        raise InputError(f"{where}: {token[:60]!r} is not a number") from None
    return float(fields.read(Number, value, where))


def _exists(name: str) -> bool:
    try:
        return pathlib.Path(name).exists()
    except OSError:  # too long for a file name, so it is points
        return False


def _hint_relative(points: Sequence[tuple[float, float]], relative: bool) -> None:
    if not relative and (hint := relative_hint(points)):
        raise InputError(f"trajectory: {hint}")
