"""`gencompositor train`: what a config says, in a folder, from where it stopped, in one process or many."""

import argparse
import contextlib
import math
import os
from pathlib import Path
from typing import Any

from gencompositor_jax.errors import InputError


def register(subcommands: Any) -> None:
    """The arguments."""
    parser = subcommands.add_parser(
        "train",
        help="train a model as a config says",
        epilog="Any value of the config can be replaced: --config.optimizer.learning_rate=3e-4",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", required=True, metavar="FILE.py[:ARG]", help="for example configs/tiny.py or its :gpu"
    )
    parser.add_argument(
        "--workdir", required=True, metavar="DIR", help="made if absent; goes on from what is there"
    )
    parser.add_argument(
        "--minutes", type=float, metavar="M", help="stop after that time, saved; call again to go on"
    )
    several = parser.add_argument_group(
        "several processes (not needed under Slurm, on TPU pods, on GKE, under Open MPI)"
    )
    several.add_argument(
        "--coordinator", metavar="HOST:PORT", help="where process 0 runs, and a free port there"
    )
    several.add_argument("--processes", type=int, metavar="N", help="how many, usually one per machine")
    several.add_argument("--process", type=int, metavar="I", help="which one this is, 0 to N-1")
    several.add_argument(
        "--coordinator-timeout",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="how long to wait for the others (default 300)",
    )
    parser.set_defaults(run=run, overrides=[])


def run(args: argparse.Namespace) -> None:
    """Trains, and says where the model is."""
    from gencompositor_jax.training.config import load_config

    if args.minutes is not None and not (math.isfinite(args.minutes) and args.minutes >= 0):
        raise InputError(f"--minutes {args.minutes}: pass a number of minutes, 0 or more")
    if not 0 < args.coordinator_timeout <= 86_400:
        raise InputError(f"--coordinator-timeout {args.coordinator_timeout}: pass seconds, at most 86400")
    config = load_config(args.config, args.overrides)
    workdir = Path(args.workdir)
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"--workdir {workdir}: is a file; pass a folder")

    from gencompositor_jax.training import distributed

    distributed.start(args.coordinator, args.processes, args.process, args.coordinator_timeout)
    with distributed.together(), contextlib.ExitStack() as stack:
        if not distributed.is_first():  # what all of them would say is said once
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))

        from gencompositor_jax.inference.compiling import keep_compiled_programs
        from gencompositor_jax.training.loop import train

        keep_compiled_programs()  # a run that goes on compiles nothing again
        model = train(config, workdir, args.minutes)
        if model is not None:
            print(f"Try it: gencompositor compose --checkpoint {model} ...")
