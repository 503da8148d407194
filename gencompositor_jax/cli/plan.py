"""`gencompositor plan`: memory, work and time of a config on devices that need not be present."""

import argparse
from typing import Any

from gencompositor_jax.cli.options import mesh_of
from gencompositor_jax.errors import InputError


def register(subcommands: Any) -> None:
    """The arguments."""
    parser = subcommands.add_parser(
        "plan",
        help="estimate memory, work and time on other machines, by compiling for them",
        epilog="Any value of the config can be overridden: --config.arch_changes.frames=17",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", required=True, metavar="FILE.py[:ARG]", help="for example configs/gencompositor_6b.py"
    )
    parser.add_argument("--mode", choices=("sample", "train"), default="sample", help="default sample")
    parser.add_argument(
        "--topology",
        required=True,
        metavar="T",
        help="TPU chips and their grid (v5e:2x2, v5p:4x4x4, v6e:1x1), virtual CPU devices (cpu:8), or this "
        "machine's GPUs (gpu)",
    )
    parser.add_argument(
        "--batch", type=int, metavar="B", help="clips per batch (default: the config's; 1 for sampling)"
    )
    parser.add_argument(
        "--frames", type=int, metavar="T", help="of the clip that is sampled (default: the model's)"
    )
    parser.add_argument(
        "--mesh",
        metavar="AXIS=N,...",
        help="devices along data, fsdp, context, tensor (default: the config's; for sampling, clips along "
        "data and heads along tensor)",
    )
    parser.add_argument(
        "--thorough",
        action="store_true",
        help="for TPUs: with all of XLA's optimisations, as it will run; takes minutes longer",
    )
    parser.add_argument("--json", action="store_true", help="also print the plan as one last line of JSON")
    parser.set_defaults(run=run, overrides=[])


def run(args: argparse.Namespace) -> None:
    """Compile and print."""
    from gencompositor_jax.training.config import load_config

    if args.batch is not None and args.batch < 1:
        raise InputError(f"--batch {args.batch}: pass 1 or more")
    mesh = mesh_of(args.mesh)
    if args.mode == "train" and args.frames is not None:
        raise InputError("--frames is for sampling: pass --config.arch_changes.frames for training")
    if args.mode == "sample" and any(o.startswith("mesh.") for o in args.overrides):
        raise InputError("--config.mesh is for training: pass --mesh for sampling")
    config = load_config(args.config, args.overrides)

    from gencompositor_jax.perf.plan import compiling, report, topology

    target = topology.find(args.topology)
    plan = compiling.make_plan(config, args.mode, target, args.batch, mesh, args.thorough, args.frames)
    print(report.text(plan))
    if args.json:
        print(report.as_json(plan))
