"""Where an element goes: the path of a layer, and points that are tracked through the background."""

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np

from gencompositor_jax import fields
from gencompositor_jax.controls.geometry.path import Path, held_outside, resolve_path
from gencompositor_jax.controls.geometry.tracking import track_point
from gencompositor_jax.controls.media.frames import Frames, picked
from gencompositor_jax.controls.scene import Layer
from gencompositor_jax.errors import InputError
from gencompositor_jax.fields import Whole, within

Count = Annotated[Whole, within(1, 10**5)]  # frames
Side = Annotated[Whole, within(1, 10**5)]  # pixels


def layer_path(value: Mapping[str, Any]) -> Path:
    """The path that a JSON object describes: `frames`, `width` and `height` of the background, and the fields
    of a layer. Raises InputError naming the field.
    """
    from gencompositor_jax.controls.shot import layer_frames  # imports JAX

    rest = dict(value)
    frames, width, height = (
        fields.read(kind, rest.pop(name, None), f"path: {name}")
        for name, kind in (("frames", Count), ("width", Side), ("height", Side))
    )
    layer: Layer = fields.read(Layer, {"foreground": "element", **rest}, "path")
    if layer.trajectory.track:
        raise InputError("trajectory.track: needs the background's frames; ask for a preview")
    own = layer_frames(layer.in_frame, layer.out_frame, frames)
    path = resolve_path(
        layer.trajectory,
        len(own),
        (width, height),
        layer.scales,
        rotations=layer.rotations,
        easing=layer.easing,
    )
    return held_outside(path, own.start, frames)


def path_json(path: Path) -> dict[str, Any]:
    """A path as the page draws it, to a hundredth of a pixel."""
    return {
        "xy": np.round(path.xy, 2).tolist(),
        "scale": np.round(path.scale, 5).tolist(),
        "rotation": np.round(path.rotation, 3).tolist(),
        "report": path.report,
    }


def tracked(frames: Frames, xy: tuple[float, float], t: int) -> dict[str, Any]:
    """The point `xy` of frame t, followed to both ends of a clip: `xy`, the frames in which it was found, and
    what to tell the user.

    Raises InputError where it can't be tracked.
    """
    count = len(frames)
    after, lost, _ = track_point(picked(frames, np.arange(t, count)), xy)
    before, lost_before, _ = track_point(picked(frames, np.arange(t, -1, -1)), xy)
    first = 0 if lost_before is None else t - lost_before + 1
    last = count - 1 if lost is None else t + lost - 1
    found = np.concatenate([before[:0:-1], after])
    where = f"track:{xy[0]:g},{xy[1]:g}"
    if lost is None and lost_before is None:
        report = f"{where} was followed through all {count} frames"
    else:
        report = f"{where} was followed from frame {first} to frame {last} of 0..{count - 1}"
    return {
        "xy": np.round(found, 2).tolist(),
        "first": first,
        "last": last,
        "lost": last + 1 if lost is not None else (first - 1 if lost_before is not None else None),
        "report": report,
    }
