"""A movement in another program's frames, and the key frames of a layer that are made of it."""

import dataclasses

import numpy as np

from gencompositor_jax.controls.geometry.curves import interpolate
from gencompositor_jax.controls.geometry.easing import KeyEasing
from gencompositor_jax.controls.geometry.trajectory import Keyframe, Trajectory
from gencompositor_jax.controls.keyframes.clock import Clock
from gencompositor_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Motion:
    """Key frames in another program's frame numbers; positions, scales and rotations as ours."""

    frames: np.ndarray  # float [K], increasing
    xy: np.ndarray  # float [K, 2], pixels of the plate: (0, 0) is the centre of the first one, y down
    scale: np.ndarray | None = None  # float [K], 1 is 100 %
    rotation: np.ndarray | None = None  # float [K], degrees counter-clockwise
    easings: tuple[KeyEasing, ...] | None = None  # from each key frame to the next; None is linear
    notes: tuple[str, ...] = ()  # for the user


def trajectory_of(motion: Motion, clock: Clock, own: range) -> Trajectory:
    """The trajectory of a layer that is in the frames `own` of the result.

    Key frames before and after these are cut off where the movement is then. Raises InputError where all of
    them are before or after.
    """
    at, first, last = clock.here(motion.frames), own.start, own.stop - 1
    if len(at) > 1 and (at[-1] < first or at[0] > last):
        there = clock.there(np.array([first, last]))
        raise InputError(
            f"its key frames {motion.frames[0]:g} to {motion.frames[-1]:g} are outside the layer's frames "
            f"{there[0]:g} to {there[1]:g}: pass by --first the number that the clip's first frame has there"
        )
    ends = [first] * bool(at[0] < first) + [last] * bool(at[-1] > last)
    times = np.unique(np.append(at[(at >= first) & (at <= last)], ends)) if len(at) > 1 else np.array([first])
    linear: KeyEasing = "linear"
    easings = motion.easings or (linear,) * len(at)
    segments = np.clip(np.searchsorted(at, times, side="right") - 1, 0, None)

    def sampled(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else interpolate(at, values, times, easings)

    xy, scale, rotation = (sampled(values) for values in (motion.xy, motion.scale, motion.rotation))
    assert xy is not None
    span = max(last - first, 1)
    keyframes = tuple(
        Keyframe(
            float(xy[i, 0]),
            float(xy[i, 1]),
            float((time - first) / span),
            None if scale is None else float(scale[i]),
            None if rotation is None else float(rotation[i]),
            easings[segments[i]],
        )
        for i, time in enumerate(times)
    )
    return Trajectory(keyframes, timing="time")
