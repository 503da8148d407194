"""The trajectory as users give it, and the element's position, scale and rotation in every frame.

A `Trajectory` is parsed from
    points     "120,130 360,90 600,200" on the command line: a smooth curve at constant speed
    a file     .txt with x,y per line (the released implementation's format), or .json with key frames
    track:x,y  a point of the background that is tracked (tracking.py)

JSON: {"keyframes": [{"x": 120, "y": 130, "time": 0, "scale": 0.6, "rotation": 0}, ...], "relative": false,
"timing": "time", "track": false}, or only the list. x and y are required; `timing` defaults to "time" if the
key frames have times, else to "arc".
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
PIXEL_RANGE = (-1e6, 1e6)  # positions outside the frame are allowed
RELATIVE_RANGE = (-4.0, 5.0)  # values beyond are probably pixels


@dataclasses.dataclass(frozen=True)
class Keyframe:
    """One point of the trajectory. Values that are None are interpolated between other key frames."""

    x: float
    y: float
    time: float | None = None  # 0 (first frame) .. 1 (last frame)
    scale: float | None = None  # native pixels per element pixel
    rotation: float | None = None  # degrees, counter-clockwise


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """The trajectory as the user gave it. InputError if its fields contradict each other.

    `relative`: x and y are relative coordinates (0 and 1 are the frame's edges), else native pixels.

    `timing`: "arc" for points of a smooth curve at constant speed; "time" for key frames with times,
    increasing in 0..1; "frames" for a recording with one point per frame. A recording is used unchanged if
    it has as many points as the clip has frames, resampled in time if it has more, and treated as "arc" if it
    has fewer.

    `track`: the only key frame is a point of the background in the first frame, which the element follows.
    """

    keyframes: tuple[Keyframe, ...]
    relative: bool = False
    timing: Timing = "arc"
    track: bool = False

    def __post_init__(self) -> None:
        _check(self, "trajectory")


@dataclasses.dataclass(frozen=True)
class Path:
    """The element's position, scale and rotation in every frame, in native background pixels."""

    xy: np.ndarray  # float64 [T, 2]
    scale: np.ndarray  # float64 [T], native pixels per element pixel
    rotation: np.ndarray  # float64 [T], degrees counter-clockwise
    report: str = ""  # of tracking: whether the point was lost, and in which frame


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
    return parse_trajectory(given) if isinstance(given, str) else from_points(given)


def parse_numbers(text: str, where: str) -> tuple[float, ...]:
    """Numbers separated by commas, for --scale and --rotation. InputError names `where`."""
    tokens = [token for token in re.split(r"[\s,;]+", text) if token]
    if not tokens:
        raise InputError(f"{where}: empty; pass a number, or several separated by commas")
    return tuple(_decimal(token, where) for token in tokens)


def from_points(
    points: Sequence[Sequence[float]] | np.ndarray, relative: bool = False, timing: Timing = "arc"
) -> Trajectory:
    """A trajectory through (x, y) points."""
    return Trajectory(tuple(Keyframe(float(x), float(y)) for x, y in points), relative, timing)


def from_json(value: Any, where: str) -> Trajectory:
    """The trajectory in a JSON value; error messages start with `where`, a file or field."""
    if isinstance(value, list):
        value = {"keyframes": value}
    entry = fields.record(value, where, ("keyframes", "relative", "timing", "track"), ("keyframes",))
    keys = []
    for i, item in enumerate(fields.sequence(entry["keyframes"], f"{where}: keyframes")):
        at = f"{where}: keyframes[{i}]"
        key = fields.record(item, at, ("x", "y", "time", "scale", "rotation"), ("x", "y"))
        keys.append(Keyframe(**{name: fields.number(v, f"{at}.{name}") for name, v in key.items()}))
    default = "time" if all(key.time is not None for key in keys) else "arc"
    timing: Any = fields.choice(entry.get("timing", default), f"{where}: timing", ("arc", "time", "frames"))
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
        trajectory: as given by the user.
        frames: T, the number of frames of the clip.
        size: (width, height) of the native background.
        scales: key scales, evenly spaced over the clip; they multiply the key frames' own.
        background: uint8 [T, H, W, 3], needed only for tracking.
        rotations: key rotations in degrees, spaced like `scales`; they are added to the key frames' own.

    InputError for a scale that is not finite and positive, and from tracking.
    """
    if frames < 1:
        raise InputError(f"frames={frames}: pass at least 1")
    at = np.linspace(0, 1, frames)
    xy = np.array([(key.x, key.y) for key in trajectory.keyframes])
    if trajectory.relative:
        xy = xy * size - 0.5  # pixel centres are at integers, the frame's edge is at -0.5
    report = ""
    if trajectory.track:
        if background is None or len(background) != frames:
            raise ValueError("tracking needs the background, as many frames as the path")
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
    """The key frames' own values of a field over time [T], or the default if no key frame has one."""
    values = [getattr(key, name) for key in traj.keyframes]
    given = [i for i, value in enumerate(values) if value is not None]
    if not given:
        return np.full(len(at), default)
    return interpolate(key_times[given], np.array([values[i] for i in given], np.float64), at)


def _spread(values: Sequence[float], name: str, at: np.ndarray, above: float = -math.inf) -> np.ndarray:
    """Values evenly spaced over the clip, interpolated: [T]."""
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
            raise InputError(f"{path}: line {i}: {line.strip()[:60]!r} is not a point; write x,y")
        points.append((_decimal(parts[0], f"{path}: line {i}"), _decimal(parts[1], f"{path}: line {i}")))
    if not points:
        raise InputError(f"{path}: no points; write one x,y per line")
    _hint_relative(points, relative)
    return from_points(points, relative, "frames")


def _points(text: str, where: str) -> list[tuple[float, float]]:
    """Pairs x,y separated by spaces or semicolons; InputError if there is none."""
    points = []
    for pair in re.split(r"[\s;]+", re.sub(r"\s*,\s*", ",", text.strip())):
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
    return fields.number(value, where)


def _exists(name: str) -> bool:
    try:
        return pathlib.Path(name).exists()
    except OSError:  # too long for a file name, so it is points
        return False


def _hint_relative(points: Sequence[tuple[float, float]], relative: bool) -> None:
    values = [v for point in points for v in point]
    if not relative and max(map(abs, values)) <= 1 and any(v != int(v) for v in values):
        raise InputError(
            "trajectory: all points are within 0..1, the first pixel; pass --relative if they are relative "
            "coordinates"
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
        raise InputError(f"{where}: {len(keys)} key frames; tracking takes one")
    if len(times) != (len(keys) if trajectory.timing == "time" else 0):
        raise InputError(
            f"{where}: {len(times)} of {len(keys)} key frames have a time, timing is {trajectory.timing!r}; "
            "give all of them a time, or none"
        )
    for i, (a, b) in enumerate(zip(times, times[1:], strict=False), start=1):
        if b <= a:
            raise InputError(f"{where}: keyframes[{i}].time is {b:g} after {a:g}; times must increase")
