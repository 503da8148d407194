"""`gencompositor data`: check training videos, build records, add the VAE's moments, write the benchmark."""

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

from gencompositor_jax.errors import InputError


def register(subcommands: Any) -> None:
    """The arguments of `data check`, `data build`, `data moments` and `data procedural`."""
    parser = subcommands.add_parser(
        "data",
        help="check training data, build records, precompute latents, or write the procedural benchmark",
        allow_abbrev=False,
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    _register_check(actions)
    _register_build(actions)
    _register_moments(actions)
    _register_procedural(actions)


def _register_check(actions: Any) -> None:
    parser = actions.add_parser(
        "check",
        help="find missing and broken files of a VideoComp folder",
        description="The exit code is 2 if there are problems, else 0.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="with GTs/, fg/, ... and a CSV")
    _add_sampling(parser)
    parser.add_argument(
        "--decode", action="store_true", help="also decode every frame, which finds damaged pictures"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="threads (default: one per core)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON, with all problems")
    parser.set_defaults(run=run_check)


def _register_build(actions: Any) -> None:
    parser = actions.add_parser(
        "build",
        help="build sharded records from a VideoComp folder or a list of clips",
        description="If it is interrupted, the same command resumes. See docs/data.md.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "source",
        type=Path,
        metavar="SOURCE",
        help="a VideoComp folder, or a .csv or .jsonl list with the columns target, mask, and optionally "
        "background, caption, name, start",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="created if absent")
    parser.add_argument("--format", choices=("arrayrecord", "tfds"), default="arrayrecord")
    _add_sampling(parser)
    parser.add_argument("--height", type=int, default=480, help="of the model's frames (default 480)")
    parser.add_argument("--width", type=int, default=720, help="of the model's frames (default 720)")
    parser.add_argument(
        "--quality",
        type=int,
        default=90,
        metavar="Q",
        help="of the stored JPEG pictures, 1 to 100 (default 90)",
    )
    parser.add_argument(
        "--clips-per-shard",
        type=int,
        default=128,
        metavar="N",
        help="an interruption loses one shard at most (default 128)",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes (default: one per core; 0: only this one)"
    )
    parser.add_argument(
        "--max-broken",
        type=float,
        default=0.05,
        metavar="FRACTION",
        help="of the inputs that may be broken; they are left out and listed (default 0.05)",
    )
    parser.set_defaults(run=run_build)


def _register_moments(actions: Any) -> None:
    parser = actions.add_parser(
        "moments",
        help="add the VAE's moments to records, so that training doesn't encode their targets",
        description="Copies the records. If it is interrupted, the same command resumes.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="made by data build, --format arrayrecord"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="created if absent")
    parser.add_argument(
        "--checkpoint", type=Path, required=True, metavar="DIR", help="the model that training starts from"
    )
    parser.set_defaults(run=run_moments)


def _register_procedural(actions: Any) -> None:
    parser = actions.add_parser(
        "procedural",
        help="write the procedural benchmark as files, for any method",
        description="Version 1: 256 held-out clips of 9 frames of 96 x 64. See docs/evaluation.md.",
        allow_abbrev=False,
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="created")
    parser.add_argument(
        "--layout",
        choices=("hyoutube", "videocomp"),
        default="hyoutube",
        help="of HYouTube (default), for evaluate --results, or of the release's training folder",
    )
    parser.add_argument(
        "--format", choices=("png", "mp4"), help="of the clips (default png; layout videocomp: mp4)"
    )
    parser.add_argument("--clips", type=int, default=256, metavar="N", help="the first N (default all, 256)")
    parser.add_argument("--overwrite", action="store_true", help="replace a benchmark")
    parser.set_defaults(run=run_procedural)


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--csv", type=Path, metavar="FILE", help="which CSV, if the folder holds several")
    parser.add_argument("--frames", type=int, default=49, metavar="N", help="per clip (default 49)")
    parser.add_argument("--fps", type=float, default=8.0, help="frames per second of clips (default 8)")


def run_check(args: argparse.Namespace) -> None:
    """Print the report; raise InputError if there are problems."""
    from gencompositor_jax.data_pipelines.check import check, table

    report = check(
        args.folder,
        frames=args.frames,
        fps=args.fps,
        csv_file=args.csv,
        decode=args.decode,
        workers=args.workers,
    )
    print(json.dumps(report.to_json(), indent=2) if args.json else table(report))
    if report.problems:
        raise InputError(f"{args.folder}: {len(report.problems)} problems, see the report")
    if not report.usable:
        raise InputError(f"{args.folder}: no row of {report.csv} is usable, see the report")


def run_build(args: argparse.Namespace) -> None:
    """Build, print what was left out and how to train on the rest."""
    from gencompositor_jax.data_pipelines.build import Settings, build, inputs_of

    settings = Settings(args.frames, args.height, args.width, args.fps, args.quality, args.clips_per_shard)
    inputs = inputs_of(args.source, settings, args.csv)
    if args.format == "tfds":
        from gencompositor_jax.data_pipelines.tfds_builder import build
    built = build(inputs, args.out, settings, workers=args.workers, max_broken=args.max_broken)
    for entry in built.broken:
        print(f"left out: {entry['input']}: {entry['problem']}")
    print(f"{built.folder}: {built.clips:,} clips, {len(built.broken):,} broken inputs left out")
    print(f"Train on it: --config.data.source={args.format} --config.data.path={built.folder}")


def run_moments(args: argparse.Namespace) -> None:
    """Encode every clip once, with the checkpoint's VAE."""
    from gencompositor_jax import checkpoints
    from gencompositor_jax.data_pipelines.build import add_moments
    from gencompositor_jax.training import vae_moments

    arch = checkpoints.read_metadata(args.checkpoint).arch
    vae_moments.vae_of(arch)
    codec = checkpoints.load(args.checkpoint).arrays["codec"]
    encode = vae_moments.encoder(codec, arch)
    built = add_moments(args.folder, args.out, arch, encode, vae_moments.fingerprint(codec))
    print(f"{built.folder}: {built.clips:,} clips with moments")
    print(f"Train on it: --config.data.source=arrayrecord --config.data.path={built.folder}")


def run_procedural(args: argparse.Namespace) -> None:
    """Write the benchmark and say how to score results on it."""
    from gencompositor_jax.data_pipelines import benchmark, benchmark_files

    media: benchmark_files.Media = args.format or ("mp4" if args.layout == "videocomp" else "png")
    benchmark_files.write(args.out, args.layout, args.clips, media, args.overwrite)
    print(f"{args.out}: {args.clips} clips, version {benchmark.VERSION}")
    if args.layout == "hyoutube":
        arguments = ["--protocol", "procedural", "--reference", str(args.out), "--results", "DIR"]
        print(f"Score a method's results: gencompositor evaluate {shlex.join(arguments)}")
