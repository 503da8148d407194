"""A job: one composite and the file it is written to, as a JSON object describes it.

Example (`out`, and either `project` or `background`, `foreground` and `trajectory`, are required):

    {"out": "street/bird.mp4", "background": "street.mp4", "foreground": "bird.mov",
     "trajectory": "120,130 360,90", "scale": 0.6, "seed": 7}
    {"out": "second.mp4", "project": "first.scene.json", "seed": 8, "layer": true}

The fields are the options of `gencompositor compose`, with `_` for `-`. `trajectory` is its text, a list of
[x, y] pairs, or what a project file has there; `scale` and `rotation` are numbers or lists of them;
`paste_back` is true or false. `project` is a project file, or what stands in one; with it, only the fields of
the clip, the model, the sampling and the outputs may be given besides. `layer` and `save_element` are true
(`report.JobFiles` has the names), or a file like `out`.
"""

import dataclasses
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

from gencompositor_jax import fields
from gencompositor_jax.controls.geometry.trajectory import Trajectory, from_json, from_points
from gencompositor_jax.controls.geometry.trajectory_text import FILES, TRACK, parse_trajectory
from gencompositor_jax.controls.media.codecs import VIEWING
from gencompositor_jax.controls.media.numbering import is_sequence
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.controls.scene import Layer, Scene, read_scene, scene_from_json, with_paths
from gencompositor_jax.errors import InputError, within
from gencompositor_jax.fields import Flag, Number, Text

Resolve = Callable[[str], str]  # a path as it is written -> the file; InputError for one that may not be read

# A field of a job -> the field of the layer, and of the scene.
_LAYER = {
    "scale": "scales",
    "rotation": "rotations",
    "anchor": "anchor",
    "key": "key",
    "alpha": "alpha",
    "segment": "segment",
    "extend": "extend",
    "in_frame": "in_frame",
    "out_frame": "out_frame",
    "easing": "easing",
}
_SCENE = (
    "fps",
    "start",
    "end",
    "range",
    "frames",
    "gaps",
    "plate_colour",
    "codec",
    "exr_layers",
    "output_colour",
    "weights",
    "framing",
    "tiles",
    "sigma",
    "tau",
    "latent_mask",
)
_SAMPLING = tuple(field.name for field in dataclasses.fields(SamplingOptions))
_OF_PROJECT = ("out", "layer", "save_element", "project", "checkpoint", *_SCENE, *_SAMPLING)
_OF_LAYER = ("background", "foreground", "trajectory", "relative", "timing", "mask", *_LAYER)
FIELDS = (*_OF_PROJECT, *_OF_LAYER)
_ENTRIES: dict[str, Any] = dict.fromkeys(FIELDS, (Any, None)) | {"out": Any}
_FILE = fields.schema("Job", **_ENTRIES)
_POINTS = re.compile(r"[0-9eE.,;+\-\s]*")


@dataclasses.dataclass(frozen=True)
class Job:
    """A scene and its output; checked when it is made. Raises InputError naming the field."""

    scene: Scene
    out: str  # a video, a folder for PNG images, or a pattern of images, relative to that of all outputs
    layer: bool | str = False  # whether the edit is also written as a layer, or to which file
    save_element: bool | str = False  # likewise, what was cut out

    def __post_init__(self) -> None:
        for name in ("out", "layer", "save_element"):
            given = getattr(self, name)
            if name == "out" or not isinstance(given, bool):
                object.__setattr__(self, name, _inside(given, name))
        if self.scene.sampling.paste_back:
            return
        own = self.scene.codec not in VIEWING or is_sequence(self.out)
        for name, asked in (("layer", self.layer), ("out", own)):
            if asked:
                raise InputError(
                    f"{name}: without paste-back there is no plate to be over; leave one of the two out"
                )


def _inside(given: Any, name: str) -> str:
    path = pathlib.PurePath(fields.read(Text, given, name))
    if path.is_absolute() or ".." in path.parts or "\0" in given or not path.name:
        raise InputError(f"{name}: {given!r}; pass a path inside the folder of the outputs")
    return path.as_posix()


def job_of(value: Any, resolve: Resolve, where: str = "job") -> Job:
    """The job that a JSON value describes; reads its project or trajectory file, but no clip.

    resolve: applied to every path in the value, and to those in its project file, which are absolute then.
    Raises InputError naming `where`, and the field.
    """
    entry = fields.given(fields.read(_FILE, value, where))
    with within(where):
        out, more = entry.pop("out"), {}
        for name in ("layer", "save_element"):
            given = entry.pop(name, False)
            more[name] = given if isinstance(given, str) else fields.read(Flag, given, name)
        scene = _of_project(entry, resolve) if "project" in entry else _of_layer(entry, resolve)
        return Job(scene, out, **more)


def _of_project(entry: Mapping[str, Any], resolve: Resolve) -> Scene:
    if clash := [name for name in entry if name in _OF_LAYER]:
        raise InputError(f"{clash[0]}: the project file has it; change it there")
    given = entry["project"]
    if isinstance(given, dict):
        scene = scene_from_json(given, "project")
    else:
        scene = read_scene(resolve(fields.read(Text, given, "project")))
    scene = with_paths(scene, resolve)
    own = {name: entry[name] for name in _SCENE if name in entry}
    if "checkpoint" in entry:
        own["checkpoint"] = _checkpoint(entry, resolve)
    sampling = {name: entry[name] for name in _SAMPLING if name in entry}
    return dataclasses.replace(scene, sampling=dataclasses.replace(scene.sampling, **sampling), **own)


def _of_layer(entry: Mapping[str, Any], resolve: Resolve) -> Scene:
    for name in ("background", "foreground", "trajectory"):
        if name not in entry:
            raise InputError(f"{name}: missing (or pass `project`)")
    own = {name: entry[name] for name in _SCENE if name in entry}
    layer = {field: entry[name] for name, field in _LAYER.items() if name in entry}
    for name in ("scales", "rotations"):
        if name in layer and not isinstance(layer[name], list):
            layer[name] = [layer[name]]
    if entry.get("mask") is not None:
        layer["mask"] = resolve(fields.read(Text, entry["mask"], "mask"))
    return Scene(
        background=resolve(fields.read(Text, entry["background"], "background")),
        layers=(
            Layer(
                foreground=resolve(fields.read(Text, entry["foreground"], "foreground")),
                trajectory=_trajectory(entry, resolve),
                **layer,
            ),
        ),
        checkpoint=_checkpoint(entry, resolve),
        sampling=SamplingOptions(**{name: entry[name] for name in _SAMPLING if name in entry}),
        **own,
    )


def _checkpoint(entry: Mapping[str, Any], resolve: Resolve) -> str | None:
    given = entry.get("checkpoint")
    return None if given is None else resolve(fields.read(Text, given, "checkpoint"))


def _trajectory(entry: Mapping[str, Any], resolve: Resolve) -> Trajectory:
    given, relative = entry["trajectory"], fields.read(Flag, entry.get("relative", False), "relative")
    if isinstance(given, str):
        found = _of_text(given.strip(), relative, resolve)
    elif isinstance(given, list) and given and all(isinstance(point, list) for point in given):
        found = from_points([_point(point, f"trajectory[{i}]") for i, point in enumerate(given)], relative)
    else:
        found = from_json(given, "trajectory")
        found = dataclasses.replace(found, relative=found.relative or relative)
    if entry.get("timing") is None:
        return found
    timing: Any = fields.read(Literal["arc", "frames"], entry["timing"], "timing")
    return dataclasses.replace(found, timing=timing)


def _of_text(text: str, relative: bool, resolve: Resolve) -> Trajectory:
    """A file must have its ending: other text is never looked up on the disk."""
    if text.lower().endswith(FILES):
        return parse_trajectory(resolve(text), relative)
    if not (text.startswith(TRACK) or _POINTS.fullmatch(text)):
        raise InputError(f"trajectory: {text[:60]!r}; pass points, a {', '.join(FILES)} file, or track:x,y")
    return parse_trajectory(text, relative)


def _point(value: list[Any], where: str) -> tuple[float, float]:
    if len(value) != 2:
        raise InputError(f"{where}: {len(value)} numbers; pass [x, y]")
    return fields.read(Number, value[0], where), fields.read(Number, value[1], where)
