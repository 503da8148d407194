"""`gencompositor demo`: composites a generated element and background with the embedded model."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from gencompositor_jax.cli import compose as compose_command
from gencompositor_jax.cli import options, scenes
from gencompositor_jax.cli.outputs import Outputs
from gencompositor_jax.errors import InputError


def register(subcommands: Any) -> None:
    """The arguments."""
    parser = subcommands.add_parser(
        "demo", help="generate a small background and element and composite them", allow_abbrev=False
    )
    parser.add_argument(
        "--out-dir", default="demo", metavar="DIR", help="folder of inputs and results (default demo)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the files of an earlier demo")
    options.add_sampling(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Make the inputs and run `compose` on them."""
    from gencompositor_jax.cli.rendering import checkpoint_arch

    arch, folder = checkpoint_arch(None), Path(args.out_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out-dir {folder}: can't be made ({error.strerror})") from error
    outputs = Outputs(str(folder / "composite.mp4"))
    outputs.check(args.overwrite)

    from gencompositor_jax.cli import build_parser
    from gencompositor_jax.data_pipelines.demo import write_inputs

    inputs = write_inputs(folder, arch.frames, args.overwrite)
    words = ["compose", "--background", inputs.background, "--foreground", inputs.foreground]
    words += ["--trajectory", inputs.trajectory, "--scale", inputs.scale, "--out", outputs.video]
    for name, value in scenes.given_sampling(args).items():
        words += ["--no-paste-back"] if name == "paste_back" else [f"--{name}", str(value)]
    words += ["--overwrite"] * args.overwrite
    print(f"gencompositor {shlex.join(words)}")
    compose_command.run(build_parser().parse_args(words))
    print(f"Look at {outputs.sheet} (input, mask, foreground, result) and {outputs.video}.")
