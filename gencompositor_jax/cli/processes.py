"""The options that connect the processes of a run; without them the cluster's environment does."""

import argparse
from typing import Any

from gencompositor_jax.errors import InputError


def add(parser: Any) -> None:
    """Adds them."""
    several = parser.add_argument_group(
        "several processes (not needed under Slurm, on TPU pods, on GKE, under Open MPI)"
    )
    several.add_argument(
        "--coordinator", metavar="HOST:PORT", help="the host of process 0, and a free port there"
    )
    several.add_argument(
        "--processes", type=int, metavar="N", help="number of processes, usually one per machine"
    )
    several.add_argument("--process", type=int, metavar="I", help="number of this process, 0 to N-1")
    several.add_argument(
        "--coordinator-timeout",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="how long to wait for the others (default 300)",
    )


def check(args: argparse.Namespace) -> None:
    """Raises InputError for an impossible time-out."""
    if not 0 < args.coordinator_timeout <= 86_400:
        raise InputError(f"--coordinator-timeout {args.coordinator_timeout}: pass seconds, at most 86400")
