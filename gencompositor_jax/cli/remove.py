"""`gencompositor remove`: fills in what stands where a mask is."""

import argparse
import time
from typing import Any

from gencompositor_jax.cli import options
from gencompositor_jax.cli.outputs import Outputs


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
    options.add_sampling(parser)
    options.add_output(parser, "removed.mp4")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Checks everything, loads the model, generates, writes."""
    outputs = Outputs(args.out)
    outputs.check(args.overwrite, with_project=False)

    from gencompositor_jax.controls.media.video import probe, read_video

    probe(args.background)
    probe(args.mask)

    from gencompositor_jax.cli.compose import checkpoint_arch, finish, load, programs_of
    from gencompositor_jax.cli.progress import bar
    from gencompositor_jax.compositor import check_sampling
    from gencompositor_jax.controls import stage as staging
    from gencompositor_jax.controls.geometry.window import Framing

    began = time.perf_counter()
    start = args.start if args.start is not None else 0.0
    changes = options.changes_of(args)
    arch = staging.arch_for(checkpoint_arch(args.checkpoint, args.prompt, **changes), args.frames)
    background = read_video(args.background, fps=args.fps, start=start, end=args.end, frames=arch.frames)
    mask = staging.read_mask(args.mask, background, start, args.end)
    framing: Framing = "whole" if args.no_paste_back else args.framing or "auto"
    stage = staging.Stage(background, (staging.removal_shot(mask, arch, framing),), arch)
    sampling = {"steps": 20, "prompt": None, "guidance": 6.0, "fast": None} | options.sampling_of(args)
    check_sampling(**sampling)
    read = time.perf_counter() - began

    began = time.perf_counter()
    how = (sampling[name] for name in ("steps", "prompt", "guidance", "fast"))
    programs = programs_of(args.compiled, arch, args.weights, *how)
    compositor = load(args.checkpoint, programs, args.weights, **changes)
    loaded = time.perf_counter() - began
    with bar(sampling["steps"]) as progress:
        composite = compositor.render(stage, **sampling, latents=outputs.latents, progress=progress)
    finish("remove", composite, stage, outputs, args.overwrite, None, start, {"read": read, "load": loaded})
