"""The scene: everything that `compose` needs but for the output, and its project file in JSON.

Example (only `version`, `background.path`, `layers`, `foreground` and `trajectory` are required; the values
shown are the defaults, and `null` means "not set"):

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
      "steps": null,
      "solver": null,
      "framing": "auto",
      "paste_back": true,
      "feather": 2,
      "detail": "auto",
      "prompt": null,
      "guidance": 6,
      "fast": null,
      "weights": null,
      "tiles": null,
      "sigma": null,
      "tau": null,
      "latent_mask": null
    }

Layers are drawn in their order, the last one on top. trajectory.py documents trajectories. Relative paths
are relative to the file's folder.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, get_args

from gencompositor_jax import fields
from gencompositor_jax.arch import Changes, LatentMaskRule, Tiles, Weights
from gencompositor_jax.controls.element.keying import parse_key
from gencompositor_jax.controls.element.loading import Extend
from gencompositor_jax.controls.geometry.placement import Anchor
from gencompositor_jax.controls.geometry.trajectory import Trajectory, from_json, to_json
from gencompositor_jax.controls.geometry.window import Framing
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import PathLike, atomic_write_text

VERSION = 1


@dataclasses.dataclass(frozen=True)
class Layer:
    """One element and its trajectory; checked when it is made. Raises InputError naming the field."""

    foreground: str  # path of a clip or a folder of images
    trajectory: Trajectory
    key: str = "auto"  # auto, alpha, white, green, blue or #RRGGBB
    mask: str | None = None  # path of a mask clip
    scales: tuple[float, ...] = (1.0,)  # background pixels per element pixel, key frames spread over the clip
    rotations: tuple[float, ...] = (0.0,)  # degrees counter-clockwise, spread likewise
    anchor: Anchor = "center"
    extend: Extend = "error"  # if the element has fewer frames than the clip

    def __post_init__(self) -> None:
        fields.check(self, _LAYER)


@dataclasses.dataclass(frozen=True)
class Scene:
    """What to compose and how; checked when it is made. Raises InputError naming the field.

    Paths are absolute, or relative to the working folder.
    """

    background: str
    layers: tuple[Layer, ...]  # the last one on top
    start: float = 0.0  # seconds into the background
    end: float | None = None
    fps: float | None = None  # None keeps the background's
    frames: int | None = None  # None: as many as the checkpoint was trained for
    checkpoint: str | None = None  # None: the embedded model
    framing: Framing = "auto"  # the part of the background that the model sees
    sampling: SamplingOptions = SamplingOptions()
    weights: Weights | None = None  # the format of the networks' kernels
    tiles: Tiles | None = None  # of the VAE; None, here and below, keeps what the checkpoint says
    sigma: float | None = None  # of the mask inflation, in model pixels
    tau: float | None = None  # response from which a pixel of the inflated mask is set
    latent_mask: LatentMaskRule | None = None

    def __post_init__(self) -> None:
        fields.check(self, _SCENE)
        if self.end is not None and self.end <= self.start:
            raise InputError(f"background.end: {self.end:g} must be after start, {self.start:g} seconds")

    @property
    def clips(self) -> tuple[str, ...]:
        """The paths of all clips that the scene reads."""
        masks = [layer.mask for layer in self.layers if layer.mask is not None]
        return (self.background, *(layer.foreground for layer in self.layers), *masks)

    @property
    def changes(self) -> Changes:
        """The fields of the checkpoint's architecture that the scene replaces; see `arch.changed`."""
        return Changes(tiles=self.tiles, sigma=self.sigma, tau=self.tau, latent_mask=self.latent_mask)


def read_scene(path: PathLike) -> Scene:
    """Reads a project file; its relative paths become absolute. Raises InputError naming the field."""
    folder = pathlib.Path(path).absolute().parent
    scene = _from_json(fields.read_json(os.fspath(path)), str(path))
    return with_paths(scene, lambda named: os.path.normpath(folder / named))


def write_scene(path: PathLike, scene: Scene) -> None:
    """Writes a project file, replacing an existing one.

    Paths inside the file's folder are written relative to it, so that the folder can be moved; others are
    absolute. Raises InputError where the file can't be written.
    """
    file = pathlib.Path(path).absolute()

    def portable(named: str) -> str:
        absolute = pathlib.Path(os.path.abspath(named))
        return str(absolute.relative_to(file.parent) if absolute.is_relative_to(file.parent) else absolute)

    text = json.dumps(_to_json(with_paths(scene, portable)), indent=2)
    atomic_write_text(file, text + "\n")


def with_paths(scene: Scene, change: Callable[[str], str]) -> Scene:
    """The scene with `change` applied to each path in it: of clips, masks and the checkpoint."""
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


def _from_json(value: Any, where: str) -> Scene:
    names = [field.name for field in dataclasses.fields(Scene) if field.name not in (*_CLIP, "sampling")]
    sampling_names = [field.name for field in dataclasses.fields(SamplingOptions)]
    known = ("version", *names, *sampling_names)
    found = dict(fields.record(value, where, known, ("version", "background", "layers")))
    with fields.within(f"{where}: "):
        _check_version(found.pop("version"))
        clip = fields.record(found.pop("background"), "background", ("path", *_CLIP), ("path",))
        clip = fields.read(clip, {"path": _path, **_CLIP}, "background.")
        sampling = SamplingOptions(**{name: found.pop(name) for name in sampling_names if name in found})
        layers = [
            _layer(item, f"layers[{i}]")
            for i, item in enumerate(fields.sequence(found.pop("layers"), "layers"))
        ]
        return Scene(clip.pop("path"), tuple(layers), sampling=sampling, **clip, **found)


def _layer(value: Any, where: str) -> Layer:
    names = [field.name for field in dataclasses.fields(Layer)]
    entry = dict(fields.record(value, where, names, ("foreground", "trajectory")))
    trajectory = from_json(entry.pop("trajectory"), f"{where}.trajectory")
    with fields.within(f"{where}."):
        return Layer(trajectory=trajectory, **entry)


def _to_json(scene: Scene) -> dict[str, Any]:
    flat = {field.name: getattr(scene, field.name) for field in dataclasses.fields(scene)}
    clip = {"path": flat.pop("background")} | {name: flat.pop(name) for name in _CLIP}
    layers = [
        {field.name: getattr(layer, field.name) for field in dataclasses.fields(layer)}
        | {"trajectory": to_json(layer.trajectory)}
        for layer in flat.pop("layers")
    ]
    sampling = dataclasses.asdict(flat.pop("sampling"))
    return {"version": VERSION, "background": clip, "layers": layers, **flat, **sampling}


def _check_version(value: Any) -> None:
    if value != VERSION or isinstance(value, bool):
        raise InputError(
            f"version: {value!r}; this program reads version {VERSION}, another one wrote the file"
        )


def _path(value: Any, where: str) -> str:
    path = fields.text(value, where)
    if "://" in path:
        raise InputError(f"{where}: {path}: only local files are read; download it and pass the file's path")
    return path


def _key(value: Any, where: str) -> str:
    key = fields.text(value, where)
    if key not in ("auto", "alpha"):
        with fields.within(f"{where}: "):
            parse_key(key)
    return key


def _instance(kind: type) -> fields.Reader:
    def reader(value: Any, where: str) -> Any:
        if not isinstance(value, kind):
            raise InputError(f"{where}: {type(value).__name__}; pass a {kind.__name__}")
        return value

    return reader


def _choice(options: Any) -> fields.Reader:
    return partial(fields.choice, options=get_args(options))


_CLIP: Mapping[str, fields.Reader] = {
    "start": partial(fields.number, low=0),
    "end": fields.optional(partial(fields.number, above=0)),
    "fps": fields.optional(partial(fields.number, above=0, high=1000)),
}

_LAYER: Mapping[str, fields.Reader] = {
    "foreground": _path,
    "key": _key,
    "mask": fields.optional(_path),
    "trajectory": _instance(Trajectory),
    "scales": fields.each(partial(fields.number, above=0)),
    "rotations": fields.each(fields.number),
    "anchor": _choice(Anchor),
    "extend": _choice(Extend),
}

_SCENE: Mapping[str, fields.Reader] = {
    "background": _path,
    "layers": fields.each(_instance(Layer)),
    **_CLIP,
    "frames": fields.optional(partial(fields.integer, low=1, high=10**6)),
    "checkpoint": fields.optional(_path),
    "framing": _choice(Framing),
    "sampling": _instance(SamplingOptions),
    "weights": fields.optional(_choice(Weights)),
    "tiles": fields.optional(_choice(Tiles)),
    "sigma": fields.optional(partial(fields.number, above=0, high=200)),
    "tau": fields.optional(partial(fields.number, above=0, high=1)),
    "latent_mask": fields.optional(_choice(LatentMaskRule)),
}
