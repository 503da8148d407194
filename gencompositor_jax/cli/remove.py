"""`gencompositor remove`: removes what a mask covers."""

import argparse
import time
from typing import Any

from gencompositor_jax.cli import options
from gencompositor_jax.cli.outputs import Outputs, note
from gencompositor_jax.errors import InputError


def register(subcommands: Any) -> None:
    """The arguments."""
    parser = subcommands.add_parser(
        "remove", help="remove what a mask covers from a video", allow_abbrev=False
    )
    parser.add_argument("--background", metavar="B", required=True, help="video file or folder of images")
    parser.add_argument(
        "--mask",
        metavar="M",
        required=True,
        help="clip, folder or picture of its size, white where to remove",
    )
    options.add_clip(parser)
    options.add_model(parser)
    options.add_compiled(parser)
    options.add_mesh(parser, "one clip")
    options.add_sampling(parser)
    options.add_output(parser, "removed.mp4")
    options.add_layer(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Checks everything, loads the model, samples, writes."""
    outputs, mesh = Outputs(args.out, args.layer), options.mesh_of(args.mesh)
    outputs.check(args.overwrite, with_project=False, own=True)
    outputs.check_inputs((args.background, args.mask))

    from gencompositor_jax.controls.media.ranges import seconds_of
    from gencompositor_jax.controls.plate.delivery import plan

    sampling, changes = options.sampling_of(args), options.changes_of(args)
    probed = options.probe_all((args.background, args.mask), args.gaps or "hold")
    start, end = args.start or 0.0, args.end
    if args.range is not None:
        if args.start is not None or args.end is not None:
            raise InputError("--range: --start and --end say the same in seconds; keep one of them")
        start, end = seconds_of(probed[args.background], args.range, args.fps)
    if args.detail == "element":
        note("--detail element: a removal has no element whose pixels could be kept")
    delivery = plan(
        probed[args.background],
        outputs.video,
        outputs.layer,
        codec=args.codec,
        exr_layers=bool(args.exr_layers),
        colour=args.plate_colour,
        fps=args.fps,
        start=start,
        end=end,
        overwrite=args.overwrite,
    )

    from gencompositor_jax.cli.rendering import checkpoint_arch, render
    from gencompositor_jax.controls.footage import load_background, load_mask, shortest
    from gencompositor_jax.controls.shot import RemovalLayer
    from gencompositor_jax.controls.stage import arch_for, make_stage

    started = time.perf_counter()
    arch = checkpoint_arch(args.checkpoint, sampling.prompt, **changes)
    count = args.frames
    if count is None:
        count = shortest(probed[args.background], (), args.fps, start, end)
    arch = arch_for(arch, count)
    background = load_background(
        probed[args.background], count, args.fps, start, end, arch.frames, args.plate_colour
    )
    layer = RemovalLayer(load_mask(probed[args.mask], background, start, end))
    stage = make_stage(background, [layer], arch, args.framing or "auto", sampling.paste_back)
    render(
        "remove",
        stage,
        sampling,
        outputs,
        checkpoint=args.checkpoint,
        weights=args.weights,
        changes=changes,
        compiled=args.compiled,
        mesh=mesh,
        overwrite=args.overwrite,
        read_seconds=time.perf_counter() - started,
        delivery=None if delivery is None else delivery.of_frames(count),
    )
