"""`gencompositor compose-dataset`: results for a protocol, by the model or a baseline."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from gencompositor_jax.cli import options, scenes


def register(subcommands: Any) -> None:
    """The arguments."""
    parser = subcommands.add_parser(
        "compose-dataset",
        help="make a folder of results for evaluate --results",
        description="Composites all clips of a protocol's reference. If it is interrupted, the same command "
        "resumes. See docs/evaluation.md.",
        allow_abbrev=False,
    )
    parser.add_argument("--protocol", choices=("hyoutube", "trajectory", "procedural"), required=True)
    parser.add_argument("--reference", type=Path, required=True, metavar="DIR", help="the data set")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the results; created")
    parser.add_argument(
        "--method", choices=("model", "paste", "color_transfer", "seamless_clone"), default="model"
    )
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="default: the embedded model")
    parser.add_argument("--clips", type=int, metavar="N", help="the first N (default all)")
    options.add_steps(parser)
    options.add_seed(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Compose, and say how to score."""
    from gencompositor_jax.evaluation.composing import DatasetOptions, compose_dataset
    from gencompositor_jax.inference.compiling import keep_compiled_programs

    keep_compiled_programs()
    chosen = DatasetOptions(
        args.protocol,
        args.reference,
        args.out,
        args.method,
        args.checkpoint,
        args.clips,
        scenes.sampling_of(args),
    )
    made = compose_dataset(chosen)
    print(f"{args.out}: {made} clips made; clips that were there are kept")
    arguments = ["--protocol", args.protocol, "--reference", str(args.reference), "--results", str(args.out)]
    print(f"Score them: gencompositor evaluate {shlex.join(arguments)}")
