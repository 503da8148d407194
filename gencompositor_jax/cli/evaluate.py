"""`gencompositor evaluate`: a checkpoint and its baselines on held-out procedural clips."""

import argparse
from typing import Any

from gencompositor_jax.cli import options


def register(subcommands: Any) -> None:
    """The arguments."""
    parser = subcommands.add_parser(
        "evaluate", help="score a checkpoint on held-out procedural clips", allow_abbrev=False
    )
    parser.add_argument(
        "--checkpoint", metavar="DIR", help="folder of a checkpoint (default: the embedded model)"
    )
    parser.add_argument("--clips", type=int, default=64, metavar="N", help="number of clips (default 64)")
    options.add_steps(parser)
    options.add_seed(parser)
    parser.add_argument("--out", metavar="OUT.json", help="also write means, gains and every clip's scores")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing OUT.json")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print the table."""
    from gencompositor_jax.evaluation import heldout, report
    from gencompositor_jax.inference.compiling import keep_compiled_programs

    keep_compiled_programs()
    evaluation = heldout.run(
        args.checkpoint,
        clips=args.clips,
        options=options.sampling_of(args),
        out=args.out,
        overwrite=args.overwrite,
    )
    print(report.table(evaluation.report))
