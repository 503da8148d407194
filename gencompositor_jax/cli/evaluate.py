"""`gencompositor evaluate`: a checkpoint on held-out clips, or folders of any method's results."""

import argparse
import os
from typing import Any

from gencompositor_jax.cli import options, scenes
from gencompositor_jax.errors import InputError

_FOLDERS = ("reference", "protocol", "resize", "frames", "stride", "metrics", "weights", "page")  # --results
_MODEL = ("checkpoint", "plate", "steps", "seed")  # without --results only


def register(subcommands: Any) -> None:
    """The arguments."""
    parser = subcommands.add_parser(
        "evaluate",
        help="score a checkpoint on held-out clips, or any method's results",
        description="Without --results: a checkpoint and its baselines on held-out procedural clips. With "
        "--results: folders of any method's results against a protocol's reference (docs/evaluation.md).",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--clips", type=int, metavar="N", help="number of clips (default 64, at most 256; results: all)"
    )
    parser.add_argument(
        "--out", metavar="OUT.json", help="also write means, intervals and every clip's scores"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    model = parser.add_argument_group("a checkpoint")
    model.add_argument(
        "--checkpoint", metavar="DIR", help="folder of a checkpoint (default: the embedded model)"
    )
    model.add_argument(
        "--plate",
        type=int,
        metavar="N",
        help="clips N times as large as the model's frames; measures sharpness and flicker, too",
    )
    options.add_steps(model)
    options.add_seed(model)
    folders = parser.add_argument_group("folders of results")
    folders.add_argument(
        "--results",
        action="append",
        metavar="[NAME=]DIR",
        help="a method's results; several, for a table of methods",
    )
    folders.add_argument("--reference", metavar="DIR", help="the data set, or the benchmark's folder")
    folders.add_argument(
        "--protocol", choices=("hyoutube", "trajectory", "procedural"), help="how they are scored"
    )
    folders.add_argument(
        "--resize",
        metavar="SIZE",
        help="protocol (default; hyoutube: 256), native, N or WIDTHxHEIGHT: the size that is scored",
    )
    folders.add_argument("--frames", type=int, metavar="N", help="only the first N frames of each clip")
    folders.add_argument("--stride", type=int, metavar="N", help="only every N-th frame (default 1)")
    folders.add_argument(
        "--page",
        metavar="OUT.html",
        help="also write one HTML file: tables, intervals, players of three clips",
    )
    folders.add_argument(
        "--metrics", metavar="NAME,...", help="only these (default: all whose weights are installed or given)"
    )
    folders.add_argument(
        "--weights",
        action="append",
        metavar="NAME=PATH",
        help="files of metrics that need some: alexnet, vgg16, clip, dino, clip-large, aesthetic, "
        "amt (docs/evaluation.md)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print the table."""
    names, unused = ("results", _MODEL) if args.results else ("a checkpoint", _FOLDERS)
    for name in unused:
        if getattr(args, name) is not None:
            raise InputError(f"--{name}: isn't an option of evaluating {names}; see evaluate --help")
    if args.results:
        run_results(args)
    else:
        run_model(args)


def run_model(args: argparse.Namespace) -> None:
    """The held-out protocol."""
    from gencompositor_jax.evaluation import heldout, plate, report
    from gencompositor_jax.inference.compiling import keep_compiled_programs

    keep_compiled_programs()
    how: Any = {
        "clips": 64 if args.clips is None else args.clips,
        "options": scenes.sampling_of(args),
        "out": args.out,
        "overwrite": args.overwrite,
    }
    if args.plate is not None:
        print(report.plate_table(plate.run(args.checkpoint, factor=args.plate, **how)))
    else:
        print(report.table(heldout.run(args.checkpoint, **how).report))


def run_results(args: argparse.Namespace) -> None:
    """Folders of results."""
    for name in ("reference", "protocol"):
        if getattr(args, name) is None:
            raise InputError(f"--{name} is missing: --results are scored against a protocol's reference")
    from pathlib import Path

    from gencompositor_jax.evaluation import page, results, scoring, tables
    from gencompositor_jax.evaluation.heldout import write_json
    from gencompositor_jax.evaluation.weights import parse_weights
    from gencompositor_jax.files import check_output_file

    given = {
        name: getattr(args, name) for name in ("frames", "stride", "clips") if getattr(args, name) is not None
    }
    chosen = results.ResultsOptions(
        args.protocol,
        tuple(results.parse_results(each) for each in args.results),
        Path(args.reference),
        size=results.parse_size(args.resize or "protocol"),
        metrics=None if args.metrics is None else tuple(args.metrics.split(",")),
        weights=parse_weights(args.weights or []),
        **given,
    )
    for name in ("out", "page"):
        if getattr(args, name) is not None:
            check_output_file(getattr(args, name), args.overwrite, f"--{name}")
    written = [os.path.realpath(path) for path in (args.out, args.page) if path is not None]
    if len(set(written)) < len(written):
        raise InputError(f"--page {args.page}: is --out, too; pass two files")
    report = scoring.score(chosen)
    if args.out is not None:
        write_json(Path(args.out), report)
    if args.page is not None:
        page.write(Path(args.page), report, chosen)
    print(tables.markdown(report))
