"""Key frames of a layer from the texts of other programs, and such texts of a layer."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from gencompositor_jax.controls.footage import frames_of, timed
from gencompositor_jax.controls.geometry.path import resolve_path
from gencompositor_jax.controls.geometry.trajectory import Trajectory
from gencompositor_jax.controls.keyframes.after_effects import read_after_effects, write_after_effects
from gencompositor_jax.controls.keyframes.clock import after_effects_clock, nuke_clock, stretch_of
from gencompositor_jax.controls.keyframes.motion import trajectory_of
from gencompositor_jax.controls.keyframes.nuke import Plate, read_nuke, write_nuke
from gencompositor_jax.controls.media.frames import Frames, between
from gencompositor_jax.controls.media.video import Chosen, Media, choose, open_video
from gencompositor_jax.controls.scene import Scene
from gencompositor_jax.controls.shot import layer_frames

Program = Literal["nuke", "after-effects"]


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a movement belongs: the frames of a plate, and those of them with the layer."""

    plate: Chosen
    own: range  # frames of the result


def place_of(scene: Scene, number: int, media: Mapping[str, Media]) -> Place:
    """Of a layer of a scene; media: its probed clips by their paths. Raises InputError as `scene_stage`."""
    layer, frames, scene = scene.layers[number], frames_of(scene, media), timed(scene, media)
    plate = choose(media[scene.background], scene.fps, scene.start, scene.end, frames, False)
    return Place(plate, layer_frames(layer.in_frame, layer.out_frame, frames))


def taken(
    text: str,
    program: Program,
    place: Place,
    node: str | None = None,
    tracks: Sequence[str] = (),
    first: float | None = None,
) -> tuple[Trajectory, tuple[str, ...]]:
    """A layer's trajectory from a program's text, and notes for the user.

    node, tracks: see `read_nuke` and `read_after_effects`. first: see `nuke_clock`.
    """
    plate = place.plate
    if program == "nuke":
        motion = read_nuke(text, Plate(plate.media.height, stretch_of(plate)), node, tracks)
        clock = nuke_clock(plate, first)
    else:
        motion, rate = read_after_effects(text, node)
        clock = after_effects_clock(plate, rate, first)
    return trajectory_of(motion, clock, place.own), motion.notes


def given(
    scene: Scene, number: int, media: Mapping[str, Media], program: Program, first: float | None = None
) -> str:
    """A text for a program: the position, scale and rotation of a layer in each of its frames."""
    layer, place = scene.layers[number], place_of(scene, number, media)
    plate, own = place.plate, place.own
    tracked: Frames | None = None
    if layer.trajectory.track:
        at = timed(scene, media)
        clip = open_video(plate.media, fps=at.fps, start=at.start, end=at.end, frames=len(plate.indices))
        tracked = between(clip.frames, own.start, own.stop)
    path = resolve_path(
        layer.trajectory,
        len(own),
        (plate.media.width, plate.media.height),
        layer.scales,
        tracked,
        layer.rotations,
        layer.easing,
    )
    frames = np.arange(own.start, own.stop)
    if program == "nuke":
        name = "gencompositor_" + re.sub(r"\W", "_", Path(layer.foreground).stem)
        there = nuke_clock(plate, first).there(frames)
        return write_nuke(there, path, Plate(plate.media.height, stretch_of(plate)), name)
    element = media[layer.foreground]
    there = after_effects_clock(plate, plate.rate, first).there(frames)
    return write_after_effects(there, path, plate.rate, (element.width, element.height))
