"""`gencompositor keyframes`: key frames from Nuke and After Effects, and to them."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gencompositor_jax.cli import options, scenes
from gencompositor_jax.cli.outputs import note
from gencompositor_jax.errors import InputError, within

if TYPE_CHECKING:
    from gencompositor_jax.controls.geometry.trajectory import Trajectory
    from gencompositor_jax.controls.keyframes.exchange import Place, Program
    from gencompositor_jax.controls.scene import Scene

PROGRAMS: "dict[str, Program]" = {".nk": "nuke", ".txt": "after-effects"}
OURS = ".json"


def register(subcommands: Any) -> None:
    """The arguments."""
    parser = subcommands.add_parser(
        "keyframes",
        help="take key frames from Nuke (.nk) or After Effects (.txt), or give them to these",
        epilog="docs/pipeline.md says how frames, pixels and interpolation correspond.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--from",
        dest="source",
        required=True,
        metavar="FILE",
        help="a script with a Tracker4 or Transform node (.nk), After Effects' keyframe data (.txt), or a "
        "project file (.json)",
    )
    parser.add_argument(
        "--to",
        required=True,
        metavar="FILE",
        help="a project file, whose layer gets the key frames (--overwrite); a new one (--background and "
        "--foreground), or a new trajectory file (--background alone); from a project file: .nk or .txt",
    )
    parser.add_argument("--layer", type=int, metavar="N", help="of the project file, from 1 at the bottom")
    parser.add_argument("--node", metavar="NAME", help="a node of the script, or words of a property's title")
    parser.add_argument(
        "--track", metavar="NAME", help="of a Tracker4; two (A,B) give scale and rotation, too"
    )
    parser.add_argument(
        "--first",
        type=float,
        metavar="FRAME",
        help="the number there of the clip's first frame (default: Nuke's, or that in a composition that "
        "begins with the background's first frame)",
    )
    parser.add_argument("--background", metavar="B", help="of a new file")
    parser.add_argument("--foreground", metavar="F", help="of a new project file")
    options.add_clip(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Converts one file into the other."""
    source, target = (Path(name).suffix.lower() for name in (args.source, args.to))
    if source in PROGRAMS and target == OURS:
        _take(args, PROGRAMS[source])
    elif source == OURS and target in PROGRAMS:
        _give(args, PROGRAMS[target])
    else:
        raise InputError(
            f"--from {args.source} --to {args.to}: one must be a .nk or .txt file, the other a .json file"
        )


def _take(args: argparse.Namespace, program: "Program") -> None:
    from gencompositor_jax.controls.geometry.trajectory import from_points, to_json
    from gencompositor_jax.controls.keyframes.exchange import place_of, taken
    from gencompositor_jax.controls.scene import Layer, Scene, read_scene, write_scene
    from gencompositor_jax.files import atomic_write, check_output, read_text

    if args.track is not None and program != "nuke":
        raise InputError(
            f"--track: {args.source} has no Tracker4; pass words of a property's title by --node"
        )
    text, clip = read_text(args.source), scenes.given_clip(args)
    check_output(args.to, args.overwrite)

    def converted(place: "Place") -> "Trajectory":
        tracks = [name.strip() for name in args.track.split(",")] if args.track else []
        with within(args.source):
            trajectory, notes = taken(text, program, place, args.node, tracks, args.first)
        for each in notes:
            note(f"{args.source}: {each}")
        print(f"{args.to}: {len(trajectory.keyframes)} key frames over {len(place.own)} frames")
        return trajectory

    if args.background is not None and args.foreground is None:
        made = to_json(converted(_whole(args)))
        with atomic_write(args.to, args.overwrite) as part:
            part.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
        return
    if args.background is not None:
        layer = Layer(args.foreground, from_points([(0, 0)]))
        scene, number = Scene(args.background, (layer,), **clip), 0
    elif not Path(args.to).is_file():
        raise InputError("--background is missing: key frames need its size and its numbers")
    elif clip or args.foreground is not None:
        raise InputError(f"--to {args.to}: the project file has its clips; change them there")
    else:
        scene = read_scene(args.to)
        number = _layer_of(scene, args.layer)
    media = scenes.probe_all(scene.clips, scene.gaps)
    trajectory = converted(place_of(scene, number, media))
    layer = scene.layers[number]
    # The key frames' own scales and rotations are absolute; the layer's would come on top of them.
    scales = layer.scales if all(point.scale is None for point in trajectory.keyframes) else (1.0,)
    turned = any(point.rotation is not None for point in trajectory.keyframes)
    changed = dataclasses.replace(
        layer,
        trajectory=trajectory,
        scales=scales,
        rotations=(0.0,) if turned else layer.rotations,
        easing="linear",
    )
    layers = tuple(changed if i == number else layer for i, layer in enumerate(scene.layers))
    write_scene(args.to, dataclasses.replace(scene, layers=layers))


def _give(args: argparse.Namespace, program: "Program") -> None:
    from gencompositor_jax.controls.keyframes.exchange import given
    from gencompositor_jax.controls.scene import read_scene
    from gencompositor_jax.files import atomic_write, check_output

    check_output(args.to, args.overwrite)
    if scenes.given_clip(args) or args.background is not None or args.foreground is not None:
        raise InputError(f"--from {args.source}: the project file has its clips; change them there")
    scene = read_scene(args.source)
    media = scenes.probe_all(scene.clips, scene.gaps)
    text = given(scene, _layer_of(scene, args.layer), media, program, args.first)
    with atomic_write(args.to, args.overwrite) as part:
        part.write_text(text, encoding="utf-8")
    print(f"{args.to}: position, scale and rotation in every frame of the layer")


def _whole(args: argparse.Namespace) -> "Place":
    """All frames of the background that the options choose."""
    from gencompositor_jax.controls.keyframes.exchange import Place
    from gencompositor_jax.controls.media.ranges import seconds_of
    from gencompositor_jax.controls.media.video import choose, probe

    media, start, end = probe(args.background, args.gaps or "hold"), args.start or 0.0, args.end
    if args.range is not None:
        start, end = seconds_of(media, args.range, args.fps)
    plate = choose(media, args.fps, start, end, args.frames, False)
    return Place(plate, range(len(plate.indices)))


def _layer_of(scene: "Scene", number: int | None) -> int:
    """The index of a layer, from its number."""
    count = len(scene.layers)
    if number is None and count == 1:
        return 0
    if number is None or not 1 <= number <= count:
        raise InputError(f"--layer {number}: the project has {count} layers: pass 1 to {count}")
    return number - 1
