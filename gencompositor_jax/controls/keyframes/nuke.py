"""Key frames from Tracker4 and Transform nodes of Nuke, and a Transform node of a path.

Nuke's y points up from the bottom edge of the plate, and pixel centres are at halves: the centre of our pixel
(x, y) is at (x + 1/2, height - 1/2 - y) there. Rotations are counter-clockwise in both. A Transform moves its
pivot to center + translate: that is where the element's anchor goes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gencompositor_jax.controls.geometry.easing import KeyEasing
from gencompositor_jax.controls.geometry.path import Path
from gencompositor_jax.controls.geometry.trajectory import MAX_POINTS
from gencompositor_jax.controls.keyframes.motion import Motion
from gencompositor_jax.controls.keyframes.nuke_curve import Curve, evaluate, is_straight, parse_curve
from gencompositor_jax.controls.keyframes.nuke_script import Node, read_nodes, words
from gencompositor_jax.errors import InputError, listed, within

TRACKER, TRANSFORMS = "Tracker4", ("Transform", "TransformMasked")
_UNUSED = ("skewX", "skewY")


class Plate(NamedTuple):
    """The plate as Nuke has it."""

    height: int  # pixels
    stretch: float = 1.0  # width of a pixel there in ours, which are square


def read_nuke(text: str, plate: Plate, node: str | None = None, tracks: Sequence[str] = ()) -> Motion:
    """The movement in a script.

    node: the name of a Tracker4 or Transform; None is the only one. tracks: names of one or two tracks of a
    Tracker4; of two, the first is the position, and their distance and direction, relative to those in the
    first frame, are scale and rotation. Raises InputError naming the node or the line.
    """
    found = read_nodes(text, (TRACKER, *TRANSFORMS))
    if not found:
        raise InputError(f"has no {TRACKER} and no {TRANSFORMS[0]} node: copy one of them into the file")
    chosen = [each for each in found if node in (None, each.name)]
    if len(chosen) != 1:
        names = listed([each.name for each in found])
        raise InputError(f"{len(chosen)} nodes fit, there are {names}: pass --node with one of these names")
    with within(chosen[0].name):
        if chosen[0].kind != TRACKER:
            if tracks:
                raise InputError(f"is a {chosen[0].kind}: leave --track out")
            return _of_transform(chosen[0], plate)
        return _of_tracks(chosen[0], plate, tracks)


def write_nuke(frames: np.ndarray, path: Path, plate: Plate, name: str) -> str:
    """A script to paste into Nuke: a Transform with a key in each of `frames` [T], for a path of T frames.

    Its pivot is the position in the first one, so it moves what is there in the plate of that frame.
    """
    x = (path.xy[:, 0] + 0.5) / plate.stretch
    y = plate.height - 0.5 - path.xy[:, 1]
    knobs = {
        "translate": f"{{{_curve(frames, x - x[0])} {_curve(frames, y - y[0])}}}",
        "rotate": f"{{{_curve(frames, path.rotation)}}}",
        "scale": f"{{{_curve(frames, path.scale)}}}",
        "center": f"{{{_number(x[0])} {_number(y[0])}}}",
        "name": name,
    }
    lines = [f" {knob} {value}\n" for knob, value in knobs.items()]
    head = "set cut_paste_input [stack 0]\nversion 13.0 v1\npush $cut_paste_input\n"
    return f"{head}Transform {{\n{''.join(lines)}}}\n"


def _of_transform(node: Node, plate: Plate) -> Motion:
    for knob in _UNUSED:
        if any(key.value for key in _curves(node, knob, "0")[0]):
            raise InputError(f"{knob} isn't 0, and elements aren't skewed: bake it into the element")
    if node.knobs.get("invert_matrix", "false") in ("true", "1"):
        raise InputError("invert_matrix is on: switch it off, it stabilises instead of moving")
    translate, centre = _curves(node, "translate", "0 0"), _curves(node, "center", "0 0")
    scales, (rotation, *_) = _curves(node, "scale", "1"), _curves(node, "rotate", "0")
    if len(translate) != 2 or len(centre) != 2:
        raise InputError("translate and center need two values each")
    frames, easings, notes = _frames([*translate, *centre, *scales, rotation])
    values = [evaluate(curve, frames) for curve in (*translate, *centre)]
    sizes = [evaluate(curve, frames) for curve in scales]
    if any(np.abs(size - sizes[0]).max() > 1e-4 * np.abs(sizes[0]).max() for size in sizes):
        raise InputError("scale differs between width and height, and elements aren't squeezed: make it one")
    xy = _ours(values[0] + values[2], values[1] + values[3], plate)
    return Motion(frames, xy, sizes[0], evaluate(rotation, frames), easings, notes)


def _of_tracks(node: Node, plate: Plate, names: Sequence[str]) -> Motion:
    table = words(node.knobs.get("tracks", ""))
    if len(table) < 3:
        raise InputError("has no tracks")
    columns = [(words(column) + [""] * 4)[3] for column in words(table[1])]
    rows = [dict(zip(columns, words(row), strict=False)) for row in words(table[2])]
    if any(not {"name", "track_x", "track_y"} <= row.keys() for row in rows):
        raise InputError("its tracks lack a name or a position")
    known = [row["name"] for row in rows]
    if not names and len(rows) == 1:
        names = known
    if not 1 <= len(names) <= 2 or any(known.count(name) != 1 for name in names):
        raise InputError(
            f"its tracks are {listed(known)}: pass --track with the name of one, or of two (A,B) for scale "
            "and rotation"
        )
    chosen = [rows[known.index(name)] for name in names]
    curves = [parse_curve(row[axis]) for row in chosen for axis in ("track_x", "track_y")]
    frames, easings, notes = _frames(curves)
    if len(chosen) == 2 and len(notes) == 0 and easings is not None:
        frames, easings = _every(frames), None  # an angle isn't linear in between
    points = [
        _ours(evaluate(x, frames), evaluate(y, frames), plate)
        for x, y in zip(curves[::2], curves[1::2], strict=True)
    ]
    if len(points) == 1:
        return Motion(frames, points[0], easings=easings, notes=notes)
    way = points[1] - points[0]
    if not np.hypot(*way.T).all():
        raise InputError(f"the tracks {' and '.join(names)} are at the same place in a frame")
    angle = np.degrees(np.unwrap(np.arctan2(-way[:, 1], way[:, 0])))
    distance = np.hypot(*way.T)
    return Motion(frames, points[0], distance / distance[0], angle - angle[0], easings, notes)


def _curves(node: Node, knob: str, default: str) -> list[Curve]:
    """The curves of a knob with one or several values."""
    with within(knob):
        found = [parse_curve(value) for value in _values(node.knobs.get(knob, default))]
        if not found:
            raise InputError("has no value")
    return found


def _values(text: str) -> list[str]:
    """The values of a knob: `{curve x1 0} 5` has two, `curve x1 0` one."""
    found = words(text)
    return [text] if found[:1] == ["curve"] else found


def _frames(curves: Sequence[Curve]) -> tuple[np.ndarray, tuple[KeyEasing, ...] | None, tuple[str, ...]]:
    """The frames of the key frames that are needed for curves, their easings, and notes for the user.

    Straight curves keep their keys; others have one key frame per frame.
    """
    moving = [curve for curve in curves if len(curve) > 1]
    if not moving:
        return np.zeros(1), None, ()
    frames = np.unique([key.frame for curve in moving for key in curve])
    if (np.diff(frames) == 1).all():
        return frames, None, ()
    kinds = {key.kind for curve in moving for key in curve[:-1]}
    if all(is_straight(curve) for curve in moving) and len(kinds) == 1:
        easing: KeyEasing = "linear" if kinds == {"L"} else "hold"
        return frames, (easing,) * len(frames), ()
    note = "its curves were sampled in every frame"
    if not all(is_straight(curve) for curve in moving):
        note += (
            "; smooth ones may differ a little from Nuke's between their keys: bake them there to be exact"
        )
    return _every(frames), None, (note,)


def _every(frames: np.ndarray) -> np.ndarray:
    """All whole frames from the first to the last."""
    if frames[-1] - frames[0] >= MAX_POINTS:
        raise InputError(f"its key frames span {frames[-1] - frames[0]:,.0f} frames: keep those of the clip")
    return np.arange(np.ceil(frames[0]), np.floor(frames[-1]) + 1)


def _ours(x: np.ndarray, y: np.ndarray, plate: Plate) -> np.ndarray:
    return np.stack([x * plate.stretch - 0.5, plate.height - 0.5 - y], axis=1)


def _curve(frames: np.ndarray, values: np.ndarray) -> str:
    """A curve with linear keys, or one number."""
    if np.ptp(values) == 0:
        return _number(values[0])
    keys = " ".join(
        f"x{_number(frame)} {_number(value)}" for frame, value in zip(frames, values, strict=True)
    )
    return f"{{curve L {keys}}}"


def _number(value: float) -> str:
    return f"{value:.10g}"
