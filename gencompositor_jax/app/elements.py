"""The element as its key, mask or segmenter cuts it out of a clip."""

import colorsys
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from gencompositor_jax import fields
from gencompositor_jax.controls.element.element import Cutout
from gencompositor_jax.controls.geometry.trajectory import Keyframe, Trajectory
from gencompositor_jax.controls.scene import End, Layer, Rate

# Fields of a layer that say where its element goes and when, not how it is cut out.
MOTION = ("trajectory", "scales", "rotations", "anchor", "extend", "in_frame", "out_frame", "easing")
_NOWHERE = Trajectory((Keyframe(0.0, 0.0),))
_GREEN, _BLUE = (0.2, 0.47), (0.53, 0.75)  # ranges of the hue
_GREY = 0.2  # saturation below which a colour has no hue


@dataclasses.dataclass(frozen=True)
class Cutting:
    """An element to be cut out: of which clip, how, and at which rate."""

    layer: Layer
    fps: float | None = None  # None is the clip's own
    end: float | None = None  # seconds; None is all of the clip


def cutting_of(value: Mapping[str, Any]) -> Cutting:
    """What a JSON object asks for: `fps`, `end` and the fields of a layer, of which those of motion don't
    matter. Raises InputError naming the field.
    """
    rest = {name: given for name, given in value.items() if name not in (*MOTION, "fps", "end")}
    fps = fields.read(Rate | None, value.get("fps"), "fps")
    end = fields.read(End | None, value.get("end"), "end")
    return Cutting(fields.read(Layer, {**rest, "trajectory": _NOWHERE}, "element"), fps, end)


def key_name(cutout: Cutout) -> str:
    """How an element was cut out, for a person: alpha, mask, white, green, blue, colour, segment."""
    if not cutout.key.startswith("#"):
        return "segment" if cutout.key.startswith("segment") else cutout.key
    hue, _, saturation = colorsys.rgb_to_hls(*(int(cutout.key[i : i + 2], 16) / 255 for i in (1, 3, 5)))
    for name, (low, high) in (("green", _GREEN), ("blue", _BLUE)):
        if saturation >= _GREY and low <= hue <= high:
            return name
    return "colour"


def whole_frame(cutout: Cutout, t: int, size: tuple[int, int]) -> np.ndarray:
    """Frame t of an element in the whole frame of its clip, (width, height): uint8 RGBA."""
    canvas, (x, y) = cutout.frames[t], cutout.corner
    out = np.zeros((size[1], size[0], 4), np.uint8)
    out[y : y + canvas.shape[0], x : x + canvas.shape[1]] = canvas
    return out


def coverage(cutout: Cutout) -> float:
    """The fraction of the canvas that the element covers in its first frame."""
    return float((cutout.frames[0][..., 3] > 127).mean())
