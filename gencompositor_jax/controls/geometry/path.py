"""The path: the element's position, scale and rotation in every frame, from a trajectory's key frames."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from gencompositor_jax import fields
from gencompositor_jax.controls.geometry.curves import arc_path, interpolate
from gencompositor_jax.controls.geometry.easing import Easing, ease
from gencompositor_jax.controls.geometry.tracking import track_point
from gencompositor_jax.controls.geometry.trajectory import Rotation, Scale, Trajectory
from gencompositor_jax.controls.media.frames import Frames
from gencompositor_jax.errors import InputError


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


def held_outside(path: Path, first: int, length: int) -> Path:
    """The path of a layer that begins in frame `first` of a clip of `length` frames; held outside of it."""
    index = np.clip(np.arange(length) - first, 0, len(path.xy) - 1)
    return dataclasses.replace(
        path, xy=path.xy[index], scale=path.scale[index], rotation=path.rotation[index]
    )


def resolve_path(
    trajectory: Trajectory,
    frames: int,
    size: tuple[int, int],
    scales: Sequence[float] = (1.0,),
    background: Frames | None = None,
    rotations: Sequence[float] = (0.0,),
    easing: Easing = "linear",
) -> Path:
    """Position, scale and rotation of the element in each of the layer's `frames` frames.

    Args:
        trajectory: as given by the user.
        frames: T, the number of the layer's frames: key times 0 and 1 are the first and the last of them.
        size: (width, height) of the native background.
        scales: key scales, evenly spaced over these frames; they multiply the key frames' own.
        background: uint8 [T, H, W, 3], needed only for tracking.
        rotations: key rotations in degrees, spaced like `scales`; they are added to the key frames' own.
        easing: of the whole movement. A tracked position follows the background whatever it is.

    InputError for a scale that is not finite and positive, and from tracking.
    """
    if frames < 1:
        raise InputError(f"frames={frames}: pass at least 1")
    at = ease(easing, np.linspace(0, 1, frames))
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
        xy = interpolate(key_times, xy, at, [key.easing for key in trajectory.keyframes])
    elif trajectory.timing == "frames" and len(xy) >= frames:
        key_times = np.linspace(0, 1, len(xy))
        xy = np.stack([np.interp(at, key_times, axis) for axis in xy.T], axis=1)
    else:
        xy, key_times = arc_path(xy, at)
    scale = _own(trajectory, "scale", key_times, at, 1.0) * _spread(scales, "scale", at, Scale)
    rotation = _own(trajectory, "rotation", key_times, at, 0.0) + _spread(rotations, "rotation", at, Rotation)
    return Path(xy, scale, rotation, report)


def _own(traj: Trajectory, name: str, key_times: np.ndarray, at: np.ndarray, default: float) -> np.ndarray:
    """The key frames' own values of a field over time [T], or the default if no key frame has one."""
    values = [getattr(key, name) for key in traj.keyframes]
    given = [i for i, value in enumerate(values) if value is not None]
    if not given:
        return np.full(len(at), default)
    own = np.array([values[i] for i in given], np.float64)
    return interpolate(key_times[given], own, at, [traj.keyframes[i].easing for i in given])


def _spread(values: Sequence[float], name: str, at: np.ndarray, kind: Any) -> np.ndarray:
    """Values evenly spaced over the clip, interpolated: [T]."""
    if not len(values):
        raise InputError(f"{name}: empty; pass at least one number")
    keys = np.array([fields.read(kind, float(value), name) for value in values])
    return interpolate(np.linspace(0, 1, len(keys)), keys, at)
