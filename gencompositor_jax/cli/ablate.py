"""`gencompositor ablate`: trains and scores the ablations of the paper's ideas with equal budgets."""

import argparse
from pathlib import Path
from typing import Any


def register(subcommands: Any) -> None:
    """Add the subcommand and its arguments."""
    parser = subcommands.add_parser(
        "ablate",
        help="train and score ablations of the method",
        description="Trains the ablations of configs/ablations.py with equal budgets and several seeds on "
        "procedural clips, scores them on the procedural benchmark, and writes tables and pictures. If it is "
        "interrupted, the same command resumes. See docs/ablations.md.",
        epilog="Values of every run's config can be overridden: --config.batch_size=4",
        allow_abbrev=False,
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="created if absent")
    parser.add_argument(
        "--variants", metavar="NAME,...", help="only these, such as full,no_branch,no_gamma (default: all)"
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of each (default 3)")
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--steps-per-run", type=int, metavar="N", help="the budget of every run")
    budget.add_argument(
        "--minutes-per-run",
        type=float,
        metavar="M",
        help="instead: as many steps as a run of the full model takes in M minutes on this machine",
    )
    parser.add_argument(
        "--size",
        default="sweep",
        metavar="NAME",
        help="sweep (default), linear or tiny: of configs/ablations.py",
    )
    parser.add_argument("--clips", type=int, default=64, metavar="N", help="of the benchmark (default 64)")
    parser.add_argument(
        "--processes", type=int, default=1, metavar="N", help="ablations that are trained at once (default 1)"
    )
    parser.set_defaults(run=run, overrides=[])


def run(args: argparse.Namespace) -> None:
    """Run the sweep and print the table."""
    from gencompositor_jax.ablation.options import SweepOptions

    given = {} if args.variants is None else {"variants": tuple(args.variants.split(","))}
    options = SweepOptions(
        args.out,
        seeds=args.seeds,
        steps=args.steps_per_run,
        minutes=args.minutes_per_run,
        size=args.size,
        clips=args.clips,
        processes=args.processes,
        overrides=tuple(args.overrides),
        **given,
    )
    from gencompositor_jax.ablation import results, sweep
    from gencompositor_jax.inference.compiling import keep_compiled_programs

    keep_compiled_programs()
    print(results.as_markdown(sweep.run(options)))
    print(f"Written: {args.out}/ablation.json, table.csv, table.md and a picture per metric")
