"""Project files, between the studio and the user's disk: there clips have the names of files."""

import dataclasses
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from gencompositor_jax.controls.scene import Scene, scene_from_json, scene_to_json, with_paths

Named = Callable[
    [str], str | None
]  # the name of a file -> the path of the studio's clip; None if it has none


def checked_project(value: Any) -> dict[str, Any]:
    """A project with all of its fields. Raises InputError naming the field."""
    return scene_to_json(scene_from_json(value, "project"))


def opened_project(value: Any, named: Named) -> dict[str, Any]:
    """A user's project with the studio's clips: `project`, the clips that are `missing`, and `notes` on what
    was changed.

    Clips are found by the names of their files, wherever those were. Raises InputError naming the field.
    """
    scene = scene_from_json(value, "project")
    notes = []
    for name in ("checkpoint", "weights"):
        if getattr(scene, name) is not None:
            notes.append(f"{name}: {getattr(scene, name)}; the studio runs its own model")
    found: dict[str, str | None] = {}

    def change(path: str) -> str:
        name = _file_name(path)
        found[name] = named(name)
        return found[name] or name

    scene = with_paths(_without_model(scene), change)
    missing = [
        {"field": field, "name": name} for field, name in _clips(scene) if name in found and not found[name]
    ]
    return {"project": scene_to_json(scene), "missing": missing, "notes": notes}


def _without_model(scene: Scene) -> Scene:
    return dataclasses.replace(scene, checkpoint=None, weights=None)


def _file_name(path: str) -> str:
    return PurePosixPath(path.replace("\\", "/")).name or path


def _clips(scene: Scene) -> list[tuple[str, str]]:
    """The fields that name clips, and what they name."""
    found = [("background.path", scene.background)]
    if scene.remove is not None:
        found.append(("remove", scene.remove))
    for i, layer in enumerate(scene.layers):
        found.append((f"layers[{i}].foreground", layer.foreground))
        if layer.mask is not None:
            found.append((f"layers[{i}].mask", layer.mask))
    return found
