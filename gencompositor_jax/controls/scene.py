"""The scene: everything that `compose` needs but for the output, and its project file in JSON.

Example (only `version`, `background.path`, `layers`, `foreground` and `trajectory` are required; the values
shown are the defaults, and `null` means "not set"):

    {
      "version": 1,
      "background": {"path": "street.mp4", "start": 0, "end": null, "range": null, "fps": null},
      "frames": null,
      "gaps": "hold",
      "remove": null,
      "plate_colour": null,
      "codec": null,
      "exr_layers": false,
      "output_colour": null,
      "layers": [
        {
          "foreground": "bird.mov",
          "key": "auto",
          "alpha": "auto",
          "mask": null,
          "segment": null,
          "trajectory": {"keyframes": [{"x": 120, "y": 130}, {"x": 600, "y": 200}], "relative": false},
          "scales": [1],
          "rotations": [0],
          "anchor": "center",
          "extend": "error",
          "in_frame": 0,
          "out_frame": null,
          "easing": "linear"
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
      "latent_mask": null,
      "record": null
    }

`remove` is a clip or picture of the background's size, white where something is removed before the layers are
drawn; with it `layers` may be empty. Layers are drawn in their order, the last one on top. trajectory.py
documents trajectories. Relative paths are relative to the file's folder.

A layer is there from `in_frame` to `out_frame`, frames of the result that count from 0. All else of it counts
over these frames: its clip begins in `in_frame`, and the times 0 and 1 of key frames are the two.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

from pydantic import AfterValidator, InstanceOf

from gencompositor_jax import fields
from gencompositor_jax.arch import Changes, LatentMaskRule, Tiles, Weights
from gencompositor_jax.controls.element.alpha import AlphaKind
from gencompositor_jax.controls.element.loading import Extend
from gencompositor_jax.controls.element.screen import parse_key
from gencompositor_jax.controls.element.segmenters.request import parse_segment
from gencompositor_jax.controls.geometry.easing import Easing
from gencompositor_jax.controls.geometry.placement import Anchor
from gencompositor_jax.controls.geometry.trajectory import JsonTrajectory, Rotation, Scale, to_json
from gencompositor_jax.controls.geometry.window import Framing
from gencompositor_jax.controls.media.codecs import Codec
from gencompositor_jax.controls.media.images import Gaps
from gencompositor_jax.controls.media.ranges import FrameRange
from gencompositor_jax.controls.record import Record
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.errors import InputError
from gencompositor_jax.fields import Flag, Number, Text, Whole, checked, length, within
from gencompositor_jax.files import PathLike, atomic_write_text, check_local, read_json

VERSION = 1
MAX_LAYERS, MAX_KEYS = 100, 10_000


def _local(path: str) -> str:
    check_local(path)
    return path


def _key(key: str) -> str:
    if key not in ("auto", "alpha"):
        parse_key(key)
    return key


def _segment(text: str) -> str:
    parse_segment(text)
    return text


def _version(value: Any) -> Any:
    if value != VERSION or isinstance(value, bool):
        raise InputError(
            f"{fields.shown(value)}; this program reads version {VERSION}, another one wrote the file"
        )
    return value


ClipPath = Annotated[Text, AfterValidator(_local)]
Start = Annotated[Number, within(0, 1e9)]
End = Annotated[Number, within(above=0, high=1e9)]
Rate = Annotated[Number, within(1e-3, 1000)]
InFrame = Annotated[Whole, within(0, 10**6)]
Sigma = Annotated[Number, within(above=0, high=200)]
Tau = Annotated[Number, within(above=0, high=1)]


@checked
@dataclasses.dataclass(frozen=True)
class Layer:
    """One element and its trajectory; checked when it is made. Raises InputError naming the field."""

    foreground: ClipPath  # path of a clip or a folder of images
    trajectory: JsonTrajectory
    key: Annotated[Text, AfterValidator(_key)] = "auto"  # auto, alpha, white, green, blue or #RRGGBB
    alpha: AlphaKind = "auto"  # whether its own alpha is multiplied into its colours
    mask: ClipPath | None = None  # path of a mask clip
    # What to find in the clip: auto, point:x,y, box:x,y,x,y, or words.
    segment: Annotated[Text, AfterValidator(_segment)] | None = None
    # Background pixels per element pixel, key frames spread over its frames; degrees are spread likewise.
    scales: Annotated[tuple[Scale, ...], length(1, MAX_KEYS)] = (1.0,)
    rotations: Annotated[tuple[Rotation, ...], length(1, MAX_KEYS)] = (0.0,)
    anchor: Anchor = "center"
    extend: Extend = "error"  # if the element has fewer frames than the layer
    in_frame: InFrame = 0  # first frame of the result in which the layer is there
    out_frame: InFrame | None = None  # the last one; None is the result's
    easing: Easing = "linear"  # of the layer's whole movement

    def __post_init__(self) -> None:
        if self.out_frame is not None and self.out_frame < self.in_frame:
            raise InputError(f"out_frame: {self.out_frame} is before in_frame, {self.in_frame}")


@checked
@dataclasses.dataclass(frozen=True)
class Scene:
    """What to compose and how; checked when it is made. Raises InputError naming the field.

    Paths are absolute, or relative to the working folder.
    """

    background: ClipPath
    layers: Annotated[tuple[Layer, ...], length(0, MAX_LAYERS)]  # the last one on top
    start: Start = 0.0  # seconds into the background
    end: End | None = None
    range: FrameRange | None = None  # instead of these: first and last frame, in the plate's own numbers
    fps: Rate | None = None  # None keeps the background's
    frames: Annotated[Whole, within(1, 10**6)] | None = None  # None: see `footage.shortest`
    gaps: Gaps = "hold"  # if numbers of image sequences are missing: repeat the frame before, or refuse
    plate_colour: Text | None = None  # what the background's values mean; None: what the file states
    codec: Codec | None = None  # of a video; None: H.264, 8 bits
    exr_layers: Flag = False  # whether EXR images of the result have layers
    output_colour: Text | None = None  # of what is written at the plate's depth; None: the plate's
    checkpoint: ClipPath | None = None  # None: the embedded model
    framing: Framing = "auto"  # the part of the background that the model sees
    sampling: InstanceOf[SamplingOptions] = SamplingOptions()
    weights: Weights | None = None  # the format of the networks' kernels
    tiles: Tiles | None = None  # of the VAE; None, here and below, keeps what the checkpoint says
    sigma: Sigma | None = None  # of the mask inflation, in model pixels
    tau: Tau | None = None  # response from which a pixel of the inflated mask is set
    latent_mask: LatentMaskRule | None = None
    remove: ClipPath | None = None  # path of a mask clip: what is removed before the layers are drawn
    record: Record | None = None  # of a scene that was made: by what

    def __post_init__(self) -> None:
        if not self.layers and self.remove is None:
            raise InputError("layers: the list is empty; give at least one entry, or a mask to remove")
        if self.range is not None and (self.start or self.end is not None):
            raise InputError("background.range: start and end say the same in seconds; keep one of them")
        if self.end is not None and self.end <= self.start:
            raise InputError(f"background.end: {self.end:g} must be after start, {self.start:g} seconds")

    @property
    def clips(self) -> tuple[str, ...]:
        """The paths of all clips that the scene reads."""
        masks = [mask for mask in (self.remove, *(layer.mask for layer in self.layers)) if mask is not None]
        return (self.background, *(layer.foreground for layer in self.layers), *masks)

    @property
    def passes(self) -> int:
        """How often the network samples the clip: once per layer, and once for what is removed."""
        return len(self.layers) + (self.remove is not None)

    @property
    def changes(self) -> Changes:
        """The fields of the checkpoint's architecture that the scene replaces; see `arch.changed`."""
        return Changes(tiles=self.tiles, sigma=self.sigma, tau=self.tau, latent_mask=self.latent_mask)


def read_scene(path: PathLike) -> Scene:
    """Reads a project file; its relative paths become absolute. Raises InputError naming the field."""
    folder = pathlib.Path(path).absolute().parent
    scene = scene_from_json(read_json(path), str(path))
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

    text = json.dumps(scene_to_json(with_paths(scene, portable)), indent=2)
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
    checkpoint, remove = (
        None if named is None else change(named) for named in (scene.checkpoint, scene.remove)
    )
    return dataclasses.replace(
        scene, background=change(scene.background), layers=layers, checkpoint=checkpoint, remove=remove
    )


def _annotations(kind: type, *without: str) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {f.name: (hints[f.name], f.default) for f in dataclasses.fields(kind) if f.name not in without}


_CLIP = ("start", "end", "range", "fps")
# The fields of a project file.
_FILE = fields.schema(
    "Project",
    version=Annotated[Any, AfterValidator(_version)],
    background=fields.schema(
        "Clip",
        path=ClipPath,
        start=(Start, 0.0),
        end=(End | None, None),
        range=(FrameRange | None, None),
        fps=(Rate | None, None),
    ),
    layers=Annotated[tuple[Layer, ...], length(0, MAX_LAYERS)],
    **_annotations(Scene, "background", "layers", "sampling", *_CLIP),
    **_annotations(SamplingOptions),
)


def scene_from_json(value: Any, where: str) -> Scene:
    """The scene that the JSON value of a project file describes, its paths as they are.

    Raises InputError naming `where`, and the field.
    """
    if isinstance(value, dict) and "keyframes" in value and "layers" not in value:
        raise InputError(
            f"{where}: is a trajectory, not a project file: pass it as the trajectory of a layer, or make a "
            "project file by keyframes --background B --foreground F"
        )
    found = fields.given(fields.read(_FILE, value, where))
    clip = fields.given(found.pop("background"))
    names = [field.name for field in dataclasses.fields(SamplingOptions)]
    del found["version"]
    try:
        sampling = SamplingOptions(**{name: found.pop(name) for name in names if name in found})
        return Scene(clip.pop("path"), sampling=sampling, **clip, **found)
    except InputError as error:  # of fields that contradict each other
        raise InputError(f"{where}: {error}") from error


def scene_to_json(scene: Scene) -> dict[str, Any]:
    """Inverse of `scene_from_json`, with every field."""
    flat = {field.name: getattr(scene, field.name) for field in dataclasses.fields(scene)}
    clip = {"path": flat.pop("background")} | {name: flat.pop(name) for name in _CLIP}
    layers = [
        {field.name: getattr(layer, field.name) for field in dataclasses.fields(layer)}
        | {"trajectory": to_json(layer.trajectory)}
        for layer in flat.pop("layers")
    ]
    sampling = dataclasses.asdict(flat.pop("sampling"))
    record = flat.pop("record")
    record = None if record is None else dataclasses.asdict(record)
    return {"version": VERSION, "background": clip, "layers": layers, **flat, **sampling, "record": record}
