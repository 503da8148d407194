"""The command `gencompositor`: one file per subcommand, each with `register` (its arguments) and `run`.

Subcommands import what they need when they run, JAX last, so that a wrong argument is refused at once.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from gencompositor_jax import __version__, libtpu
from gencompositor_jax.cli import (
    ablate,
    app,
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
    keyframes,
    plan,
    preview,
    remove,
    serve,
    train,
)
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import check_local

COMMANDS = (
    compose,
    preview,
    remove,
    keyframes,
    batch,
    serve,
    app,
    demo,
    data,
    train,
    evaluate,
    compose_dataset,
    ablate,
    convert,
    export,
    inspect,
    compile,
    plan,
    benchmark,
)
OVERRIDE = "--config."
LONGEST = 400  # characters of a message
TEXTS = ("prompt",)  # arguments that may hold any text


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
    given = join_negative(sys.argv[1:] if argv is None else argv)
    for word in given:
        if word.startswith("--") and word.endswith("=--") and not word.startswith(OVERRIDE):
            parser.error(f"{word}: no value")  # argparse would make an empty list of it
    for option, value in zip(given, given[1:], strict=False):
        if value == "" and option.startswith(
            "--"
        ):  # an unset variable of a shell; as a folder it would be "."
            parser.error(f"{option}: is empty; pass a value or leave it out")
    args, rest = parser.parse_known_args(given)
    takes_config = hasattr(args, "overrides")
    unknown = [a for a in rest if not (takes_config and a.startswith(OVERRIDE))]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if takes_config:
        args.overrides = [a.removeprefix(OVERRIDE) for a in rest]
    _refuse_addresses(args)
    return args


def join_negative(argv: Sequence[str]) -> list[str]:
    """Arguments with values that begin with a minus joined to their options: `--rotation=-15,15`.

    argparse would take `-15,15` for an option.
    """
    out: list[str] = []
    for argument in argv:
        follows_option = bool(out) and re.fullmatch(r"--[a-z][a-z-]*", out[-1]) is not None
        if follows_option and re.match(r"-\.?\d", argument):
            out[-1] += f"={argument}"
        else:
            out.append(argument)
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command. Returns 0 or the command's own code, 2 for input that can't be used (one line on
    stderr), or 130 if interrupted.
    """
    try:
        args = parse(argv)
        code: int | None = args.run(args)
    except (InputError, OSError, UnicodeError) as error:
        print(f"gencompositor: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ngencompositor: interrupted, nothing half-written is left", file=sys.stderr)
        return 130
    return code or 0


def one_line(error: Exception) -> str:
    """The message of an error of the user or of the operating system, at most LONGEST characters."""
    if isinstance(error, UnicodeError):
        text = f"a name or text can't be encoded ({error.reason if hasattr(error, 'reason') else error})"
        text += ": rename the file in UTF-8, or write the text again"
    elif isinstance(error, OSError):
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        text = ": ".join([*names, error.strerror or str(error) or type(error).__name__])
        text += ": check the path, its permissions and the disk"
    else:
        text = str(error)
    text = " ".join(text.split())  # quoted messages of libraries may have several lines
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 83]}... {text[-79:]}"


def _refuse_addresses(args: argparse.Namespace) -> None:
    """Refuse gs://, s3:// and the like in every argument that names a file or folder, before any is used."""
    for name, value in vars(args).items():
        for each in value if isinstance(value, list) else [value]:
            if name in TEXTS or not isinstance(each, str | Path):
                continue
            option = name if name == "overrides" else f"--{name.replace('_', '-')}"
            check_local(str(each).partition("=")[2] if name == "overrides" else each, option)


def entry_point() -> NoReturn:
    """The entry point of the installed command."""
    libtpu.describe_host()
    sys.exit(main())
