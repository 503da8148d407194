"""The scene and the sampling options that the arguments of a command describe; see `options`."""

import argparse
import contextlib
import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

from gencompositor_jax.cli.options import use_segment_weights
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.errors import InputError

if TYPE_CHECKING:
    from gencompositor_jax.arch import Changes
    from gencompositor_jax.controls.media.images import Gaps
    from gencompositor_jax.controls.media.video import Media
    from gencompositor_jax.controls.scene import Scene

_LAYER = (
    "foreground",
    "trajectory",
    "scale",
    "rotation",
    "anchor",
    "key",
    "alpha",
    "mask",
    "segment",
    "extend",
    "timing",
    "in_frame",
    "out_frame",
    "easing",
)
_CLIP = ("fps", "start", "end", "range", "frames", "gaps", "plate_colour")
_WRITTEN = ("codec", "exr_layers", "output_colour")
_SAMPLING = ("seed", "steps", "solver", "feather", "detail", "prompt", "guidance", "fast")
_OPTIONS = {"scales": "scale", "rotations": "rotation"}  # by fields of other names
_DEFAULTS = SamplingOptions()
_CHANGES = ("tiles", "sigma", "tau", "latent_mask")
_MODEL = ("checkpoint", "weights", "framing", *_CHANGES)


@contextlib.contextmanager
def by_options(args: argparse.Namespace) -> Iterator[None]:
    """Name the option in the message of an InputError that begins with its field: `--fps: nan is not ...`."""
    try:
        yield
    except InputError as error:
        found = re.match(r"(?:background\.)?([a-z_]+)(?=:|\[| ')", str(error))
        name = None if found is None else _OPTIONS.get(found[1], found[1])
        if found is None or name is None or getattr(args, name, None) is None:
            raise
        raise InputError(f"--{name.replace('_', '-')}{str(error)[found.end() :]}") from error


def removal_of(args: argparse.Namespace) -> "Scene":
    """The scene of a removal, which has no layers. Raises InputError naming the option."""
    from gencompositor_jax.controls.scene import Scene

    changes_of(args)
    given = _given(args, _CLIP + _WRITTEN + _MODEL)
    with by_options(args):
        return Scene(args.background, (), sampling=sampling_of(args), remove=args.mask, **given)


def scene_of(args: argparse.Namespace) -> "Scene":
    """The scene that the arguments, or the project file they name, describe; JAX isn't imported yet.

    Raises InputError naming the option or the field.
    """
    use_segment_weights(args)
    if args.project is not None:
        scene = _from_project(args)
    else:
        with by_options(args):
            scene = _from_options(args)
    if args.segment_weights is not None and all(layer.segment is None for layer in scene.layers):
        raise InputError("--segment-weights: nothing is segmented; pass --segment, too")
    return scene


def _from_options(args: argparse.Namespace) -> "Scene":
    for name in ("background", "foreground", "trajectory"):
        if getattr(args, name) is None:
            raise InputError(f"--{name} is missing (or pass --project with a project file)")

    from gencompositor_jax.controls.geometry.trajectory_text import parse_numbers, parse_trajectory
    from gencompositor_jax.controls.scene import Layer, Scene

    changes_of(args)
    trajectory = parse_trajectory(args.trajectory, args.relative)
    if args.timing is not None:
        trajectory = dataclasses.replace(trajectory, timing=args.timing)
    layer: dict[str, Any] = _given(
        args, ("anchor", "key", "alpha", "mask", "segment", "extend", "in_frame", "out_frame", "easing")
    )
    for option, field in (("scale", "scales"), ("rotation", "rotations")):
        if getattr(args, option) is not None:
            layer[field] = parse_numbers(getattr(args, option), f"--{option}")
    layers = (Layer(foreground=args.foreground, trajectory=trajectory, **layer),)
    return Scene(
        args.background, layers, sampling=sampling_of(args), **_given(args, _CLIP + _WRITTEN + _MODEL)
    )


def sampling_of(args: argparse.Namespace, base: SamplingOptions = _DEFAULTS) -> SamplingOptions:
    """The sampling options of the command line, and those of `base` where it has none.

    A command may lack some of them. Raises InputError naming the option.
    """
    return dataclasses.replace(base, **given_sampling(args))


def given_sampling(args: argparse.Namespace) -> dict[str, Any]:
    """The sampling options that were passed."""
    paste_back = {"paste_back": False} if getattr(args, "no_paste_back", False) else {}
    return _given(args, _SAMPLING) | paste_back


def given_clip(args: argparse.Namespace) -> dict[str, Any]:
    """The options of `add_clip` that were passed."""
    return _given(args, _CLIP)


def probe_all(paths: Iterable[str], gaps: "Gaps" = "hold") -> "dict[str, Media]":
    """Clips by their paths, headers only. Raises InputError for the first that can't be used."""
    from gencompositor_jax.controls.media.video import probe

    return {path: probe(path, gaps) for path in dict.fromkeys(paths)}


def changes_of(args: argparse.Namespace) -> "Changes":
    """The fields of the checkpoint's architecture to replace. Raises InputError naming the option."""
    from gencompositor_jax import fields
    from gencompositor_jax.controls.scene import Sigma, Tau

    for name, kind in (("sigma", Sigma), ("tau", Tau)):
        if getattr(args, name) is not None:
            fields.read(kind, getattr(args, name), f"--{name}")
    return cast("Changes", _given(args, _CHANGES))


def _from_project(args: argparse.Namespace) -> "Scene":
    """A project file; the command line may replace the clip and the sampling, not the layers."""
    clash = [name for name in ("background", *_LAYER) if getattr(args, name) is not None]
    if args.relative:
        clash.append("relative")
    if clash:
        raise InputError(f"--{clash[0]}: the project file {args.project} has it; change it there")

    from gencompositor_jax.controls.scene import read_scene

    scene = read_scene(args.project)
    given = _given(args, _CLIP + _WRITTEN + _MODEL)
    if "range" in given:
        given = {"start": 0.0, "end": None} | given
    elif "start" in given or "end" in given:
        given["range"] = None
    with by_options(args):
        return dataclasses.replace(scene, sampling=sampling_of(args, scene.sampling), **given)


def _given(args: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    """The named options that were passed; a command may lack some."""
    return {name: value for name in names if (value := getattr(args, name, None)) is not None}
