"""`gencompositor evaluate`: a checkpoint and its baselines on held-out procedural clips."""

import argparse
from typing import Any


def register(subcommands: Any) -> None:
    """The arguments."""
    parser = subcommands.add_parser(
        "evaluate", help="judge a checkpoint on held-out procedural clips", allow_abbrev=False
    )
    parser.add_argument(
        "--checkpoint", metavar="DIR", help="folder of a checkpoint (default: the embedded model)"
    )
    parser.add_argument("--clips", type=int, default=64, metavar="N", help="how many (default 64)")
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="denoising steps (default 20)")
    parser.add_argument(
        "--seed", type=int, default=42, metavar="N", help="of the sampler's noise (default 42)"
    )
    parser.add_argument("--out", metavar="OUT.json", help="write means, gains and every clip's scores there")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Prints the table."""
    from gencompositor_jax.compositor import keep_compiled_programs
    from gencompositor_jax.evaluation import heldout, report

    keep_compiled_programs()
    judged = heldout.run(
        args.checkpoint,
        clips=args.clips,
        steps=args.steps,
        seed=args.seed,
        out=args.out,
        overwrite=args.overwrite,
    )
    print(report.table(judged.report))
