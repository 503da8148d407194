"""The trajectory as users give it, and the element's position, scale and rotation in every frame.

A `Trajectory` is parsed from
    points     "120,130 360,90 600,200" on the command line: a smooth curve at constant speed
    a file     .txt with x,y per line (the released implementation's format), or .json with key frames
    track:x,y  a point of the background that is tracked (tracking.py)

JSON: {"keyframes": [{"x": 120, "y": 130, "time": 0, "scale": 0.6, "rotation": 0}, ...], "relative": false,
"timing": "time", "track": false}, or only the list. x and y are required; `timing` defaults to "time" if the
key frames have times, else to "arc". Spline editors write lists of points, [x, y] or {"x": x, "y": y}, one
per frame, also as the only track in a list of tracks; a .txt file may hold such a list too.
"""

import dataclasses
import pathlib
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator

from gencompositor_jax import fields
from gencompositor_jax.controls.geometry.curves import arc_path, interpolate
from gencompositor_jax.controls.geometry.tracking import track_point
from gencompositor_jax.controls.media.frames import Frames
from gencompositor_jax.errors import InputError
from gencompositor_jax.fields import Flag, Fraction, Number, checked, length, within
from gencompositor_jax.files import read_json, read_text

Timing = Literal["arc", "time", "frames"]

TRACK = "track:"
FILES = (".txt", ".csv", ".json")
PIXEL_RANGE = (-1e6, 1e6)  # positions outside the frame are allowed
RELATIVE_RANGE = (-4.0, 5.0)  # values beyond are probably pixels
MAX_POINTS = 100_000  # an hour of a recording at 24 frames per second has fewer

Coordinate = Annotated[Number, within(*PIXEL_RANGE)]
Scale = Annotated[Number, within(above=0, high=1e6)]  # background pixels per pixel of the element
Rotation = Annotated[Number, within(-1e6, 1e6)]  # degrees, counter-clockwise


@checked
@dataclasses.dataclass(frozen=True)
class Keyframe:
    """One point of the trajectory. Values that are None are interpolated between other key frames."""

    x: Coordinate
    y: Coordinate
    time: Fraction | None = None  # 0 (first frame) .. 1 (last frame)
    scale: Scale | None = None
    rotation: Rotation | None = None


@checked
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

    keyframes: Annotated[tuple[Keyframe, ...], length(1, MAX_POINTS)]
    relative: Flag = False
    timing: Timing = "arc"
    track: Flag = False

    def __post_init__(self) -> None:
        _check(self)


def _as_object(value: Any) -> Any:
    """A JSON list of key frames, of points, or of one track of them, as an object; others as they are."""
    if not isinstance(value, list):
        return value
    if value and all(isinstance(item, list) and item and isinstance(item[0], list | dict) for item in value):
        if len(value) > 1:
            raise InputError(f"{len(value)} tracks; an element follows one: keep one of them")
        return {"timing": "frames", **_as_object(value[0])}
    if value and all(isinstance(item, list) for item in value):
        if any(len(pair) != 2 for pair in value):
            raise InputError("a list of points: write [x, y] for each")
        return {"keyframes": [{"x": x, "y": y} for x, y in value], "timing": "frames"}
    return {"keyframes": value}


def _described(value: Any) -> Any:
    """A JSON value as an object with key frames and `timing`; InputError if it looks relative but doesn't say
    so.
    """
    entry = _as_object(value)
    if not isinstance(entry, dict) or not isinstance(entry.get("keyframes"), list):
        return entry
    keys = [key for key in entry["keyframes"] if isinstance(key, dict)]
    if "relative" not in entry:
        points = [(key.get("x"), key.get("y")) for key in keys]
        numbers = points and all(type(v) in (int, float) for point in points for v in point)
        if numbers and (hint := _relative_hint(points)):
            raise InputError(f'{hint}, or write "relative": true or false')
    if "timing" in entry:
        return entry
    timed = len(keys) == len(entry["keyframes"]) and all(key.get("time") is not None for key in keys)
    return {**entry, "timing": "time" if timed else "arc"}


# As JSON files have it: an object, or only the list of key frames.
JsonTrajectory = Annotated[Trajectory, BeforeValidator(_described)]


@dataclasses.dataclass(frozen=True)
class Path:
    """The element's position, scale and rotation in every frame, in native background pixels."""

    xy: np.ndarray  # float64 [T, 2]
    scale: np.ndarray  # float64 [T], native pixels per element pixel
    rotation: np.ndarray  # float64 [T], degrees counter-clockwise
    report: str = ""  # of tracking: whether the point was lost, and in which frame


def piece(path: Path, part: slice) -> Path:
    """The path in some of the frames."""
    return dataclasses.replace(path, xy=path.xy[part], scale=path.scale[part], rotation=path.rotation[part])


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


def as_numbers(given: float | Sequence[float]) -> tuple[float, ...]:
    """Key scales or rotations from what Python callers pass."""
    return tuple(float(value) for value in given) if isinstance(given, Sequence) else (float(given),)


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
    keyframes = [{"x": float(x), "y": float(y)} for x, y in points]
    made: Trajectory = fields.read(
        Trajectory, {"keyframes": keyframes, "relative": relative, "timing": timing}, "trajectory"
    )
    return made


def from_json(value: Any, where: str, relative: bool = False) -> Trajectory:
    """The trajectory in a JSON value; error messages start with `where`, a file or field.

    `relative`: x and y are relative coordinates, whatever the value says.
    """
    if relative:
        try:
            value = _as_object(value)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        value = {**value, "relative": True} if isinstance(value, dict) else value
    found: Trajectory = fields.read(JsonTrajectory, value, where)
    return found


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
    background: Frames | None = None,
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
    scale = _own(trajectory, "scale", key_times, at, 1.0) * _spread(scales, "scale", at, Scale)
    rotation = _own(trajectory, "rotation", key_times, at, 0.0) + _spread(rotations, "rotation", at, Rotation)
    return Path(xy, scale, rotation, report)


def _own(traj: Trajectory, name: str, key_times: np.ndarray, at: np.ndarray, default: float) -> np.ndarray:
    """The key frames' own values of a field over time [T], or the default if no key frame has one."""
    values = [getattr(key, name) for key in traj.keyframes]
    given = [i for i, value in enumerate(values) if value is not None]
    if not given:
        return np.full(len(at), default)
    return interpolate(key_times[given], np.array([values[i] for i in given], np.float64), at)


def _spread(values: Sequence[float], name: str, at: np.ndarray, kind: Any) -> np.ndarray:
    """Values evenly spaced over the clip, interpolated: [T]."""
    if not len(values):
        raise InputError(f"{name}: empty; pass at least one number")
    keys = np.array([fields.read(kind, float(value), name) for value in values])
    return interpolate(np.linspace(0, 1, len(keys)), keys, at)


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
    return float(fields.read(Number, value, where))


def _exists(name: str) -> bool:
    try:
        return pathlib.Path(name).exists()
    except OSError:  # too long for a file name, so it is points
        return False


def _hint_relative(points: Sequence[tuple[float, float]], relative: bool) -> None:
    if not relative and (hint := _relative_hint(points)):
        raise InputError(f"trajectory: {hint}")


def _relative_hint(points: Sequence[tuple[Any, Any]]) -> str | None:
    """What to do about points that look relative; None if they don't."""
    values = [v for point in points for v in point]
    if max(map(abs, values)) <= 1 and any(v != int(v) for v in values):
        return "all points are within 0..1, the first pixel; pass --relative if they are relative coordinates"
    return None


def _check(trajectory: Trajectory) -> None:
    """What the fields say together."""
    keys = trajectory.keyframes
    if trajectory.relative:
        low, high = RELATIVE_RANGE
        for i, key in enumerate(keys):
            for name in ("x", "y"):
                value = getattr(key, name)
                if not low <= value <= high:
                    where = f"keyframes[{i}].{name} (relative)"
                    raise InputError(f"{where}: {value:g} must be within {low:g}..{high:g}")
    times = [key.time for key in keys if key.time is not None]
    if trajectory.track and len(keys) != 1:
        raise InputError(f"{len(keys)} key frames; tracking takes one")
    if len(times) != (len(keys) if trajectory.timing == "time" else 0):
        raise InputError(
            f"{len(times)} of {len(keys)} key frames have a time, timing is {trajectory.timing!r}; "
            "give all of them a time, or none"
        )
    for i, (a, b) in enumerate(zip(times, times[1:], strict=False), start=1):
        if b <= a:
            raise InputError(f"keyframes[{i}].time is {b:g} after {a:g}; times must increase")
