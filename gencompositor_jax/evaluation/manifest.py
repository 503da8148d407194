"""The trajectory protocol: groups of a background, an element and a trajectory, listed in a manifest.

    REFERENCE/manifest.json
        {"version": 1, "frames": 49, "groups": [
            {"name": "001", "background": "backgrounds/001.mp4", "foreground": "elements/001.mov",
             "trajectory": "120,130 360,90 600,200", "scale": 0.6, "mask": "masks/001.mp4"}]}

Paths are relative to the manifest. `scale`, `rotation`, `anchor` and `key` are options of `compose`. `mask`
(the element's silhouette in the result) is optional; with it the background is scored outside the inflated
mask. `real` is the clip that FVD and KVD compare with, by default the background. Clips are the first
`frames` frames. Results are RESULTS/NAME.mp4 or RESULTS/NAME/IMG.png.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

from gencompositor_jax import fields
from gencompositor_jax.controls.geometry.placement import Anchor
from gencompositor_jax.controls.geometry.trajectory import Rotation, Scale, Trajectory
from gencompositor_jax.controls.geometry.trajectory_text import parse_trajectory
from gencompositor_jax.errors import InputError, within
from gencompositor_jax.evaluation.layouts import ReferenceClip, check_clips
from gencompositor_jax.fields import Text, Whole
from gencompositor_jax.files import read_json

MANIFEST = "manifest.json"
VERSION = 1
PATHS = ("background", "foreground", "mask", "real")


@dataclasses.dataclass(frozen=True)
class Group:
    """One group; paths are absolute or relative to the working folder."""

    name: str
    background: Path
    foreground: Path
    trajectory: Trajectory
    mask: Path | None = None
    real: Path | None = None
    scale: float = 1.0
    rotation: float = 0.0
    anchor: Anchor = "center"
    key: str = "auto"


# The fields of the manifest.
_FILE = fields.schema(
    "Groups",
    version=Whole,
    frames=Annotated[Whole, fields.within(1, 10**6)],
    groups=Annotated[
        fields.list_of(
            fields.schema(
                "Group",
                name=Text,
                background=Text,
                foreground=Text,
                mask=(Text | None, None),
                real=(Text | None, None),
                trajectory=Text,
                scale=(Scale, 1.0),
                rotation=(Rotation, 0.0),
                anchor=(Anchor, "center"),
                key=(Text, "auto"),
            )
        ),
        fields.length(1, 10**6),
    ],
)


def read_groups(folder: Path) -> tuple[list[Group], int]:
    """The groups, and the number of frames of each. Raises InputError naming the field or the file."""
    path = folder / MANIFEST
    content = fields.read(_FILE, read_json(path), str(path))
    if content.version != VERSION:
        raise InputError(f"{path}: version {content.version}; this release reads {VERSION}")
    frames: int = content.frames
    groups = [_group(each, folder, f"{path}: groups[{i}]") for i, each in enumerate(content.groups)]
    if len({group.name for group in groups}) < len(groups):
        raise InputError(f"{path}: two groups have one name: names are those of the results")
    return groups, frames


def reference_clips(folder: Path, clips: int | None = None) -> list[ReferenceClip]:
    """The groups as clips without a ground truth. Raises InputError."""
    groups, frames = read_groups(folder)
    check_clips(clips, len(groups), folder)
    return [
        ReferenceClip(g.name, "", None, g.mask, background=g.real or g.background, length=frames)
        for g in groups[:clips]
    ]


def _group(entry: Any, folder: Path, where: str) -> Group:
    found = fields.given(entry)
    for name in PATHS:
        if found.get(name) is not None:
            found[name] = folder / found[name]
            if not found[name].exists():
                raise InputError(f"{where}.{name}: {found[name]}: no such file")
    name = found["name"]
    if Path(name).name != name:
        raise InputError(f"{where}.name: {name}: is the name of a result, without folders")
    with within(f"{where}.trajectory"):
        found["trajectory"] = parse_trajectory(found["trajectory"])
    return Group(**found)
