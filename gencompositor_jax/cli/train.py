"""`gencompositor train`: what a config says, in a folder, from where it stopped."""

import argparse
import math
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
    parser.set_defaults(run=run, overrides=[])


def run(args: argparse.Namespace) -> None:
    """Trains, and says where the model is."""
    from gencompositor_jax.training.config import load_config

    if args.minutes is not None and not (math.isfinite(args.minutes) and args.minutes >= 0):
        raise InputError(f"--minutes {args.minutes}: pass a number of minutes, 0 or more")
    config = load_config(args.config, args.overrides)
    workdir = Path(args.workdir)
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"--workdir {workdir}: is a file; pass a folder")

    from gencompositor_jax.training.loop import train

    model = train(config, workdir, args.minutes)
    print(f"Try it: gencompositor compose --checkpoint {model} ...")
