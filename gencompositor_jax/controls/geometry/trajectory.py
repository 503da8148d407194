"""Where the element goes: what users say about it, and its position, scale and rotation in every frame.

Three ways to say it, all ending in one `Trajectory`:
    points     "120,130 360,90 600,200" on the command line: a smooth curve run through at constant speed
    a file     .txt with x,y per line (the released implementation's format), or .json with key frames
    a track    "track:x,y": a point of the background that is followed (tracking.py)

JSON: {"keyframes": [{"x": 120, "y": 130, "time": 0, "scale": 0.6, "rotation": 0}, ...], "relative": false,
"timing": "time", "track": false}, or the list alone. Only x and y are required; `timing` follows from whether
the key frames have times.
"""

import dataclasses
import math
import pathlib
import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from gencompositor_jax import fields
from gencompositor_jax.controls.geometry.curves import arc_path, interpolate
from gencompositor_jax.controls.geometry.tracking import track_point
from gencompositor_jax.errors import InputError

Timing = Literal["arc", "time", "frames"]

TRACK = "track:"
FILES = (".txt", ".csv", ".json")
PIXEL_RANGE = (-1e6, 1e6)  # far enough outside for any entrance
RELATIVE_RANGE = (-4.0, 5.0)  # likewise; beyond it pixels were meant


@dataclasses.dataclass(frozen=True)
class Keyframe:
    """One point the element passes. `None` leaves a value to the neighbours."""

    x: float
    y: float
    time: float | None = None  # 0 (first frame) .. 1 (last frame)
    scale: float | None = None  # native pixels per element pixel
    rotation: float | None = None  # degrees, counter-clockwise


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """What the user said about the element's way. Raises InputError where that contradicts itself.

    `relative`: x and y are shares of the frame's width and height (0 and 1 are its edges), else native
    pixels.

    `timing`: "arc" for key points of a smooth curve run through at constant speed; "time" for key frames with
    times of their own, increasing in 0..1; "frames" for a recording with one point per frame, which is used
    as it is where it has as many points as the clip has frames, resampled evenly in time (its speed is kept)
    where it has more, and taken as key points where it has fewer.

    `track`: the only key frame is a point of the background in the first frame, and the element follows it.
    """

    keyframes: tuple[Keyframe, ...]
    relative: bool = False
    timing: Timing = "arc"
    track: bool = False

    def __post_init__(self) -> None:
        _check(self, "trajectory")


@dataclasses.dataclass(frozen=True)
class Path:
    """The element's place in every frame, in native background pixels."""

    xy: np.ndarray  # float64 [T, 2]
    scale: np.ndarray  # float64 [T], native pixels per element pixel
    rotation: np.ndarray  # float64 [T], degrees counter-clockwise
    report: str = ""  # of a track: how far the point was followed, where it was lost


def parse_trajectory(text_or_path: str, relative: bool = False) -> Trajectory:
    """Reads points, a file's name, or "track:x,y".

    `relative` says that x and y are shares of the frame's size; a JSON file may say so itself. Raises
    InputError naming the point, line or field.
    """
    said = text_or_path.strip()
    if not said:
        raise InputError(
            "trajectory: empty; pass points (120,130 360,90), a .txt or .json file, or track:x,y"
        )
    if said.startswith(TRACK):
        points = _points(said[len(TRACK) :], f"trajectory {said!r}")
        if len(points) != 1:
            raise InputError(f"trajectory {said!r}: {len(points)} points; a track follows one")
        return Trajectory((Keyframe(*points[0]),), relative, track=True)
    if said.lower().endswith(FILES) or _exists(said):
        return _read_file(said, relative)
    points = _points(said, "trajectory")
    _hint_relative(points, relative)
    return from_points(points, relative)


def as_trajectory(given: str | Trajectory | Sequence[Sequence[float]] | np.ndarray) -> Trajectory:
    """A trajectory from whatever Python callers pass: text (see `parse_trajectory`) or (x, y) pairs."""
    if isinstance(given, Trajectory):
        return given
    return parse_trajectory(given) if isinstance(given, str) else from_points(given)


def parse_numbers(said: str, where: str) -> tuple[float, ...]:
    """Numbers separated by commas, for --scale and --rotation. Raises InputError naming `where`."""
    tokens = [token for token in re.split(r"[\s,;]+", said) if token]
    if not tokens:
        raise InputError(f"{where}: empty; pass a number, or several separated by commas")
    return tuple(_decimal(token, where) for token in tokens)


def from_points(
    points: Sequence[Sequence[float]] | np.ndarray, relative: bool = False, timing: Timing = "arc"
) -> Trajectory:
    """A trajectory through bare (x, y) points."""
    return Trajectory(tuple(Keyframe(float(x), float(y)) for x, y in points), relative, timing)


def from_json(value: Any, where: str) -> Trajectory:
    """The trajectory in a JSON value; `where` (a file, a field) opens every error."""
    if isinstance(value, list):
        value = {"keyframes": value}
    entry = fields.record(value, where, ("keyframes", "relative", "timing", "track"), ("keyframes",))
    keys = []
    for i, item in enumerate(fields.sequence(entry["keyframes"], f"{where}: keyframes")):
        at = f"{where}: keyframes[{i}]"
        key = fields.record(item, at, ("x", "y", "time", "scale", "rotation"), ("x", "y"))
        keys.append(Keyframe(**{name: fields.number(v, f"{at}.{name}") for name, v in key.items()}))
    usual = "time" if all(key.time is not None for key in keys) else "arc"
    timing: Any = fields.choice(entry.get("timing", usual), f"{where}: timing", ("arc", "time", "frames"))
    relative = fields.flag(entry.get("relative", False), f"{where}: relative")
    track = fields.flag(entry.get("track", False), f"{where}: track")
    try:
        return Trajectory(tuple(keys), relative, timing, track)
    except InputError as error:
        raise InputError(str(error).replace("trajectory", where, 1)) from error


def to_json(trajectory: Trajectory) -> dict[str, Any]:
    """Inverse of `from_json`."""
    out = dataclasses.asdict(trajectory)
    out["keyframes"] = [{k: v for k, v in key.items() if v is not None} for key in out["keyframes"]]
    return out


def resolve_path(
    trajectory: Trajectory,
    frames: int,
    size: tuple[int, int],
    scales: Sequence[float] = (1.0,),
    background: np.ndarray | None = None,
    rotations: Sequence[float] = (0.0,),
) -> Path:
    """Position, scale and rotation of the element in each of `frames` frames.

    Args:
        trajectory: what the user said.
        frames: T, the frames of the clip.
        size: (width, height) of the native background.
        scales: key scales spread evenly over the clip; they multiply the key frames' own.
        background: uint8 [T, H, W, 3], needed for a track only.
        rotations: key rotations in degrees, spread like `scales`; they add to the key frames' own.

    Raises InputError on a scale that is not finite and positive, and what tracking raises.
    """
    if frames < 1:
        raise InputError(f"frames={frames}: pass at least 1")
    at = np.linspace(0, 1, frames)
    xy = np.array([(key.x, key.y) for key in trajectory.keyframes])
    if trajectory.relative:
        xy = (
            xy * size - 0.5
        )  # pixel centres are at integers, so the frame's edges are half a pixel further out
    report = ""
    if trajectory.track:
        if background is None or len(background) != frames:
            raise ValueError("a track needs the background's frames, as many as the path")
        key_times = np.zeros(1)
        xy, _, report = track_point(background, (float(xy[0, 0]), float(xy[0, 1])))
    elif trajectory.timing == "time":
        key_times = np.array([key.time for key in trajectory.keyframes], np.float64)
        xy = interpolate(key_times, xy, at)
    elif trajectory.timing == "frames" and len(xy) >= frames:
        key_times = np.linspace(0, 1, len(xy))
        xy = np.stack([np.interp(at, key_times, axis) for axis in xy.T], axis=1)
    else:
        xy, key_times = arc_path(xy, frames)
    scale = _own(trajectory, "scale", key_times, at, 1.0) * _spread(scales, "scale", at, above=0.0)
    rotation = _own(trajectory, "rotation", key_times, at, 0.0) + _spread(rotations, "rotation", at)
    return Path(xy, scale, rotation, report)


def _own(traj: Trajectory, name: str, key_times: np.ndarray, at: np.ndarray, default: float) -> np.ndarray:
    """The key frames' own values of a field over time [T]; the default where none has one."""
    values = [getattr(key, name) for key in traj.keyframes]
    given = [i for i, value in enumerate(values) if value is not None]
    if not given:
        return np.full(len(at), default)
    return interpolate(key_times[given], np.array([values[i] for i in given], np.float64), at)


def _spread(values: Sequence[float], name: str, at: np.ndarray, above: float = -math.inf) -> np.ndarray:
    """Values spread evenly over the clip [T]."""
    if not len(values):
        raise InputError(f"{name}: empty; pass at least one number")
    keys = np.array([fields.number(float(value), name, above=above) for value in values])
    return interpolate(np.linspace(0, 1, len(keys)), keys, at)


def _read_file(path: str, relative: bool) -> Trajectory:
    if path.lower().endswith(".json"):
        trajectory = from_json(fields.read_json(path), path)
        return dataclasses.replace(trajectory, relative=trajectory.relative or relative)
    points = []
    for i, line in enumerate(fields.read_text(path).splitlines(), start=1):
        parts = re.split(r"\s*,\s*|\s+", line.strip())
        if parts == [""]:
            continue
        if len(parts) != 2:
            raise InputError(f"{path}: line {i}: {line.strip()[:60]!r} is no point; write x,y")
        points.append((_decimal(parts[0], f"{path}: line {i}"), _decimal(parts[1], f"{path}: line {i}")))
    if not points:
        raise InputError(f"{path}: no points; write one x,y per line")
    _hint_relative(points, relative)
    return from_points(points, relative, "frames")


def _points(said: str, where: str) -> list[tuple[float, float]]:
    """Pairs x,y separated by spaces or semicolons; at least one, else InputError."""
    points = []
    for pair in re.split(r"[\s;]+", re.sub(r"\s*,\s*", ",", said.strip())):
        x, comma, y = pair.partition(",")
        if not comma or "," in y:
            raise InputError(
                f"{where}: {pair[:60]!r} is neither a file nor a point; write x,y such as 120,130"
            )
        points.append((_decimal(x, where), _decimal(y, where)))
    return points


def _decimal(token: str, where: str) -> float:
    try:
        value = float(token.replace("_", "?"))  # float() would take 1_000
    except ValueError:
        raise InputError(f"{where}: {token[:60]!r} is not a number") from None
    return fields.number(value, where)


def _exists(name: str) -> bool:
    try:
        return pathlib.Path(name).exists()
    except OSError:  # too long for a name: then it is points
        return False


def _hint_relative(points: Sequence[tuple[float, float]], relative: bool) -> None:
    values = [v for point in points for v in point]
    if not relative and max(map(abs, values)) <= 1 and any(v != int(v) for v in values):
        raise InputError(
            "trajectory: all points are within 0..1, the frame's first pixel; pass --relative if shares of "
            "the frame are meant"
        )


def _check(trajectory: Trajectory, where: str) -> None:
    keys = trajectory.keyframes
    if not keys:
        raise InputError(f"{where}: no points; give at least one")
    low, high = RELATIVE_RANGE if trajectory.relative else PIXEL_RANGE
    unit = " (relative)" if trajectory.relative else ""
    for i, key in enumerate(keys):
        at = f"{where}: keyframes[{i}]"
        fields.number(key.x, f"{at}.x{unit}", low, high)
        fields.number(key.y, f"{at}.y{unit}", low, high)
        if key.time is not None:
            fields.number(key.time, f"{at}.time", 0.0, 1.0)
        if key.scale is not None:
            fields.number(key.scale, f"{at}.scale", above=0.0)
        if key.rotation is not None:
            fields.number(key.rotation, f"{at}.rotation")
    times = [key.time for key in keys if key.time is not None]
    if trajectory.track and len(keys) != 1:
        raise InputError(f"{where}: {len(keys)} key frames; a track follows one point")
    if len(times) != (len(keys) if trajectory.timing == "time" else 0):
        raise InputError(
            f"{where}: {len(times)} of {len(keys)} key frames have a time, timing is {trajectory.timing!r}; "
            "give all of them one, or none"
        )
    for i, (a, b) in enumerate(zip(times, times[1:], strict=False), start=1):
        if b <= a:
            raise InputError(f"{where}: keyframes[{i}].time is {b:g} after {a:g}; times must increase")
