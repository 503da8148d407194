"""The command `gencompositor`: one file per subcommand, each with `register` (its arguments) and `run`.

Subcommands import what they need when they run, JAX last, so that a wrong argument is refused at once.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from gencompositor_jax import __version__, libtpu
from gencompositor_jax.cli import (
    batch,
    benchmark,
    compile,
    compose,
    compose_dataset,
    convert,
    data,
    demo,
    evaluate,
    export,
    inspect,
    plan,
    preview,
    remove,
    serve,
    train,
)
from gencompositor_jax.errors import InputError

COMMANDS = (
    compose,
    preview,
    remove,
    batch,
    serve,
    demo,
    data,
    train,
    evaluate,
    compose_dataset,
    convert,
    export,
    inspect,
    compile,
    plan,
    benchmark,
)
OVERRIDE = "--config."


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, like all errors of the command."""

    def error(self, message: str) -> NoReturn:
        """Raises InputError instead of printing the whole usage."""
        raise InputError(f"{message} (see {self.prog} --help)")


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command; its errors are InputErrors."""
    parser = Parser(prog="gencompositor", description="Generative video compositing.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"gencompositor {__version__}")
    subcommands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.register(subcommands)
    return parser


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses a command line. `--config.KEY=VALUE` goes to `overrides` of the commands that take a config.

    Raises InputError for unknown arguments.
    """
    parser = build_parser()
    args, rest = parser.parse_known_args(argv)
    takes_config = hasattr(args, "overrides")
    unknown = [a for a in rest if not (takes_config and a.startswith(OVERRIDE))]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if takes_config:
        args.overrides = [a.removeprefix(OVERRIDE) for a in rest]
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command. Returns 0 or the command's own code, 2 for input that can't be used (one line on
    stderr), or 130 if interrupted.
    """
    try:
        args = parse(argv)
        code: int | None = args.run(args)
    except InputError as error:
        line = " ".join(str(error).split())  # quoted messages of libraries may have several
        print(f"gencompositor: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ngencompositor: interrupted, nothing half-written is left", file=sys.stderr)
        return 130
    return code or 0


def entry_point() -> NoReturn:
    """The entry point of the installed command."""
    libtpu.describe_host()
    sys.exit(main())
