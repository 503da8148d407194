"""`gencompositor demo`: inputs made on the spot, composited with the embedded model."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from gencompositor_jax.cli import compose as compose_command
from gencompositor_jax.cli import options
from gencompositor_jax.cli.outputs import Outputs
from gencompositor_jax.errors import InputError


def register(subcommands: Any) -> None:
    """The arguments."""
    parser = subcommands.add_parser(
        "demo", help="make a small background and element and composite them", allow_abbrev=False
    )
    parser.add_argument(
        "--out-dir", default="demo", metavar="DIR", help="where everything goes (default demo)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what an earlier demo left there")
    options.add_sampling(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Makes the inputs and runs `compose` on them, as the user would."""
    from gencompositor_jax.cli.rendering import checkpoint_arch

    arch, folder = checkpoint_arch(None), Path(args.out_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out-dir {folder}: can't be made ({error.strerror})") from error
    outputs = Outputs(str(folder / "composite.mp4"))
    outputs.check(args.overwrite, with_project=True)

    from gencompositor_jax.cli import build_parser
    from gencompositor_jax.data_pipelines.demo import write_inputs

    made = write_inputs(folder, arch.frames, args.overwrite)
    words = ["compose", "--background", made.background, "--foreground", made.foreground]
    words += ["--trajectory", made.trajectory, "--scale", made.scale, "--out", outputs.video]
    for name, value in options.given_sampling(args).items():
        words += ["--no-paste-back"] if name == "paste_back" else [f"--{name}", str(value)]
    words += ["--overwrite"] * args.overwrite
    print(f"gencompositor {shlex.join(words)}")
    compose_command.run(build_parser().parse_args(words))
    print(f"Look at {outputs.sheet} (input, mask, foreground, result) and {outputs.video}.")
