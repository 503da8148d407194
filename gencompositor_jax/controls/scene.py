"""The project file: everything `compose` is told, but for where the result goes, in one JSON file.

Example (every field but `version`, `background.path`, `layers`, `foreground` and `trajectory` may be left
out; these are the defaults, and `null` stands for "not set"):

    {
      "version": 1,
      "background": {"path": "street.mp4", "start": 0, "end": null, "fps": null},
      "frames": null,
      "layers": [
        {
          "foreground": "bird.mov",
          "key": "auto",
          "mask": null,
          "trajectory": {"keyframes": [{"x": 120, "y": 130}, {"x": 600, "y": 200}], "relative": false},
          "scales": [1],
          "rotations": [0],
          "anchor": "center",
          "extend": "error"
        }
      ],
      "checkpoint": null,
      "seed": 42,
      "steps": 20,
      "solver": "dpm",
      "framing": "auto",
      "paste_back": true,
      "feather": 2,
      "prompt": null,
      "guidance": 6,
      "fast": null,
      "weights": null,
      "tiles": null,
      "sigma": null,
      "tau": null,
      "latent_mask": null
    }

Layers are drawn in their order, the last one on top. A trajectory is written as trajectory.py says. Relative
paths count from the file's folder.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any, Literal, get_args

from gencompositor_jax.arch import Changes, LatentMaskRule, Tiles
from gencompositor_jax.controls import fields
from gencompositor_jax.controls.element.keying import parse_key
from gencompositor_jax.controls.element.loading import Extend
from gencompositor_jax.controls.geometry.placement import Anchor
from gencompositor_jax.controls.geometry.trajectory import Trajectory, from_json, to_json
from gencompositor_jax.controls.geometry.window import Framing
from gencompositor_jax.diffusion import approximations
from gencompositor_jax.diffusion.sampler import Solver
from gencompositor_jax.errors import InputError

VERSION = 1

Reader = Callable[[Any, str], Any]  # (value, where it stands) -> the checked value, or InputError


@dataclasses.dataclass(frozen=True)
class Layer:
    """One element and its way through the background."""

    foreground: str  # path of a clip or a folder of images
    trajectory: Trajectory
    key: str = "auto"  # auto, alpha, white, green, blue or #RRGGBB
    mask: str | None = None  # path of a mask clip
    scales: tuple[float, ...] = (1.0,)  # native pixels per element pixel, spread over the clip
    rotations: tuple[float, ...] = (0.0,)  # degrees counter-clockwise, spread over the clip
    anchor: Anchor = "center"
    extend: Extend = "error"  # where the element has fewer frames than the clip


@dataclasses.dataclass(frozen=True)
class Scene:
    """What to compose and how. Paths are as the process can open them."""

    background: str
    layers: tuple[Layer, ...]  # the last one on top
    start: float = 0.0  # seconds into the background
    end: float | None = None
    fps: float | None = None  # None keeps the background's
    frames: int | None = None  # None: as many as the checkpoint was trained for
    checkpoint: str | None = None  # None: the embedded model
    seed: int = 42
    steps: int = 20
    solver: Solver = "dpm"
    framing: Framing = "auto"  # what the model is shown; without paste-back always the whole background
    paste_back: bool = True
    feather: float = 2.0  # model pixels
    prompt: str | None = None  # name of a prompt that the checkpoint stores; None: the empty one
    guidance: float = 6.0  # how far the prompt leads; without one it has no effect
    fast: str | None = None  # approximations of the sampling, see `fast`
    weights: Literal["int8"] | None = None  # the network's in 8 bits
    tiles: Tiles | None = None  # of the VAE; None, as for the next three: as the checkpoint says
    sigma: float | None = None  # of the mask's inflation, model pixels
    tau: float | None = None  # response from which the inflated mask is set
    latent_mask: LatentMaskRule | None = None


def scene_changes(scene: Scene) -> Changes:
    """What a scene changes of its checkpoint's architecture; see `arch.changed`."""
    return Changes(tiles=scene.tiles, sigma=scene.sigma, tau=scene.tau, latent_mask=scene.latent_mask)


def read_scene(path: str | os.PathLike[str]) -> Scene:
    """Reads a project file; its relative paths become absolute. Raises InputError naming the field."""
    folder = pathlib.Path(path).absolute().parent
    return _with_paths(
        _from_json(fields.read_json(os.fspath(path)), str(path)), lambda p: os.path.normpath(folder / p)
    )


def write_scene(path: str | os.PathLike[str], scene: Scene) -> None:
    """Writes a project file, replacing one that is there.

    Paths inside the file's folder are written relative to it, so that the folder can be moved; others are
    absolute. Raises InputError where a field of the scene is invalid or the file can't be written.
    """
    check_scene(scene)
    file = pathlib.Path(path).absolute()

    def portable(named: str) -> str:
        absolute = pathlib.Path(os.path.abspath(named))
        return str(absolute.relative_to(file.parent) if absolute.is_relative_to(file.parent) else absolute)

    text = json.dumps(_to_json(_with_paths(scene, portable)), indent=2) + "\n"
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, file)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"{path}: can't be written ({error.strerror})") from error


def check_scene(scene: Scene) -> None:
    """Raises InputError naming the field where a scene made in Python holds what no file could."""
    _from_json(_to_json(scene), "scene")


def _from_json(value: Any, where: str) -> Scene:
    found = _read(value, f"{where}: ", _SCENE, ("version", "background", "layers"))
    found.pop("version")
    scene = Scene(**found.pop("background"), **found)
    if scene.end is not None and scene.end <= scene.start:
        raise InputError(
            f"{where}: background.end: {scene.end:g} must be after start, {scene.start:g} seconds"
        )
    approximations.parse(scene.fast).check(scene.steps)
    return scene


def _to_json(scene: Scene) -> dict[str, Any]:
    flat = {field.name: getattr(scene, field.name) for field in dataclasses.fields(scene)}
    clip = {"path": flat.pop("background")} | {name: flat.pop(name) for name in ("start", "end", "fps")}
    layers = []
    for layer in flat.pop("layers"):
        entry = {field.name: getattr(layer, field.name) for field in dataclasses.fields(layer)}
        lists = {name: list(entry[name]) for name in ("scales", "rotations")}
        layers.append(entry | lists | {"trajectory": to_json(layer.trajectory)})
    return {"version": VERSION, "background": clip, "layers": layers, **flat}


def _with_paths(scene: Scene, change: Callable[[str], str]) -> Scene:
    """The scene with `change` applied to each path in it."""
    layers = tuple(
        dataclasses.replace(
            layer,
            foreground=change(layer.foreground),
            mask=None if layer.mask is None else change(layer.mask),
        )
        for layer in scene.layers
    )
    checkpoint = None if scene.checkpoint is None else change(scene.checkpoint)
    return dataclasses.replace(
        scene, background=change(scene.background), layers=layers, checkpoint=checkpoint
    )


def _read(value: Any, where: str, readers: dict[str, Reader], required: tuple[str, ...]) -> dict[str, Any]:
    """The fields of an object, each read by its reader. `where` is what a field's name is put behind."""
    entry = fields.record(value, where.rstrip(": ."), tuple(readers), required)
    return {name: readers[name](item, where + name) for name, item in entry.items()}


def _version(value: Any, where: str) -> int:
    if value != VERSION or isinstance(value, bool):
        raise InputError(
            f"{where}: {value!r}; this program reads version {VERSION}, another one wrote the file"
        )
    return VERSION


def _background(value: Any, where: str) -> dict[str, Any]:
    clip = _read(value, f"{where}.", _BACKGROUND, ("path",))
    return {"background": clip.pop("path"), **clip}


def _layers(value: Any, where: str) -> tuple[Layer, ...]:
    return tuple(
        Layer(**_read(item, f"{where}[{i}].", _LAYER, ("foreground", "trajectory")))
        for i, item in enumerate(fields.sequence(value, where))
    )


def _path(value: Any, where: str) -> str:
    path = fields.text(value, where)
    if "://" in path:
        raise InputError(f"{where}: {path}: only local files are read; download it and give the file's path")
    return path


def _key(value: Any, where: str) -> str:
    key = fields.text(value, where)
    if key not in ("auto", "alpha"):
        try:
            parse_key(key)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
    return key


def _fast(value: Any, where: str) -> str:
    return str(approximations.parse(fields.text(value, where), where))


def _optional(reader: Reader) -> Reader:
    return lambda value, where: None if value is None else reader(value, where)


def _number(**bounds: float) -> Reader:
    return lambda value, where: fields.number(value, where, **bounds)


def _numbers(**bounds: float) -> Reader:
    return lambda value, where: tuple(
        fields.number(item, f"{where}[{i}]", **bounds) for i, item in enumerate(fields.sequence(value, where))
    )


def _integer(low: int, high: int) -> Reader:
    return lambda value, where: fields.integer(value, where, low, high)


def _choice(options: Any) -> Reader:
    return lambda value, where: fields.choice(value, where, get_args(options))


_BACKGROUND: dict[str, Reader] = {
    "path": _path,
    "start": _number(low=0),
    "end": _optional(_number(above=0)),
    "fps": _optional(_number(above=0, high=1000)),
}

_LAYER: dict[str, Reader] = {
    "foreground": _path,
    "key": _key,
    "mask": _optional(_path),
    "trajectory": from_json,
    "scales": _numbers(above=0),
    "rotations": _numbers(),
    "anchor": _choice(Anchor),
    "extend": _choice(Extend),
}

_SCENE: dict[str, Reader] = {
    "version": _version,
    "background": _background,
    "frames": _optional(_integer(1, 10**6)),
    "layers": _layers,
    "checkpoint": _optional(_path),
    "seed": _integer(0, 2**32 - 1),
    "steps": _integer(1, 1000),
    "solver": _choice(Solver),
    "framing": _choice(Framing),
    "paste_back": fields.flag,
    "feather": _number(low=0, high=1000),
    "prompt": _optional(fields.text),
    "guidance": _number(low=0, high=100),
    "fast": _optional(_fast),
    "weights": _optional(lambda value, where: fields.choice(value, where, ("int8",))),
    "tiles": _optional(_choice(Tiles)),
    "sigma": _optional(_number(above=0, high=200)),
    "tau": _optional(_number(above=0, high=1)),
    "latent_mask": _optional(_choice(LatentMaskRule)),
}
