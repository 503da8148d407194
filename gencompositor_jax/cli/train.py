"""`gencompositor train`: trains a model with a config, in one process or in many."""

import argparse
import contextlib
import math
import os
import shlex
from pathlib import Path
from typing import Any

from gencompositor_jax.cli import processes
from gencompositor_jax.errors import InputError


def register(subcommands: Any) -> None:
    """Add the subcommand and its arguments."""
    parser = subcommands.add_parser(
        "train",
        help="train a model with a config",
        epilog="Any value of the config can be overridden: --config.optimizer.learning_rate=3e-4",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        required=True,
        metavar="FILE.py[:ARG]",
        help="a file, or a packaged config: configs/tiny.py, or tiny:gpu with an argument",
    )
    parser.add_argument(
        "--workdir", required=True, metavar="DIR", help="created if absent; resumes from its last checkpoint"
    )
    parser.add_argument(
        "--minutes", type=float, metavar="M", help="save and stop after M minutes; run again to resume"
    )
    processes.add(parser)
    parser.set_defaults(run=run, overrides=[])


def run(args: argparse.Namespace) -> None:
    """Train, and print the folder of the model."""
    from gencompositor_jax.training.config import load_config

    if args.minutes is not None and not (math.isfinite(args.minutes) and args.minutes >= 0):
        raise InputError(f"--minutes {args.minutes}: pass a number of minutes, 0 or more")
    processes.check(args)
    config = load_config(args.config, args.overrides)
    workdir = Path(args.workdir)
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"--workdir {workdir}: is a file; pass a folder")

    from gencompositor_jax.training import distributed

    distributed.initialize(args.coordinator, args.processes, args.process, args.coordinator_timeout)
    with distributed.exit_together(), contextlib.ExitStack() as stack:
        if not distributed.is_first():  # all processes would print the same
            devnull = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(devnull))

        from gencompositor_jax.inference.compiling import keep_compiled_programs
        from gencompositor_jax.training.loop import train

        keep_compiled_programs()  # a resumed run compiles nothing again
        model = train(config, workdir, args.minutes)
        if model is not None:
            print(f"Try it: gencompositor compose --checkpoint {shlex.quote(str(model))} ...")
