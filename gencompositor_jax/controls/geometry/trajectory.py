"""The trajectory as users give it: key frames. `trajectory_text` parses other forms, `path` resolves them.

JSON: {"keyframes": [{"x": 120, "y": 130, "time": 0, "scale": 0.6, "rotation": 0}, ...], "relative": false,
"timing": "time", "track": false}, or only the list. x and y are required; `timing` defaults to "time" if the
key frames have times, else to "arc". Spline editors write lists of points, [x, y] or {"x": x, "y": y}, one
per frame, also as the only track in a list of tracks; a .txt file may hold such a list too.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator

from gencompositor_jax import fields
from gencompositor_jax.controls.geometry.easing import KeyEasing
from gencompositor_jax.errors import InputError
from gencompositor_jax.fields import Flag, Fraction, Number, checked, length, within

Timing = Literal["arc", "time", "frames"]

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
    easing: KeyEasing | None = None  # to the next key frame; None is a smooth curve through all of them


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
        if numbers and (hint := relative_hint(points)):
            raise InputError(f'{hint}, or write "relative": true or false')
    if "timing" in entry:
        return entry
    timed = len(keys) == len(entry["keyframes"]) and all(key.get("time") is not None for key in keys)
    return {**entry, "timing": "time" if timed else "arc"}


# As JSON files have it: an object, or only the list of key frames.
JsonTrajectory = Annotated[Trajectory, BeforeValidator(_described)]


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


def relative_hint(points: Sequence[tuple[Any, Any]]) -> str | None:
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
    if trajectory.timing != "time" and any(key.easing is not None for key in keys):
        raise InputError(
            f"a key frame has an easing, timing is {trajectory.timing!r}: give the key frames times, or the "
            "layer the easing"
        )
    for i, (a, b) in enumerate(zip(times, times[1:], strict=False), start=1):
        if b <= a:
            raise InputError(f"keyframes[{i}].time is {b:g} after {a:g}; times must increase")
