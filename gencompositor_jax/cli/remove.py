"""`gencompositor remove`: removes what a mask covers."""

import argparse
from typing import Any

from gencompositor_jax.cli import compose, options, scenes
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
    options.add_mesh(parser, "one clip")
    options.add_sampling(parser)
    options.add_output(parser, "removed.mp4")
    options.add_layer(parser)
    options.add_resume(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Checks everything, loads the model, samples, writes; the project file is of a scene without layers."""
    compose.make("remove", args, Outputs(args.out, args.layer), scenes.removal_of)
