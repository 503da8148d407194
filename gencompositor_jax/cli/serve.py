"""`gencompositor serve`: composites over HTTP."""

import argparse
import os
from pathlib import Path
from typing import Any, get_type_hints

from gencompositor_jax.cli.options import add_segment_weights, mesh_of, use_segment_weights
from gencompositor_jax.cli.outputs import note
from gencompositor_jax.cli.rendering import checkpoint_arch
from gencompositor_jax.errors import InputError
from gencompositor_jax.jobs.limits import Limits

TOKEN = "GENCOMPOSITOR_TOKEN"
LIMITS = (  # option, field of `Limits`
    ("--max-queue", "queue", int, "jobs that may wait"),
    ("--max-upload-mib", "upload_mib", int, "of the files of one job together"),
    ("--max-frames", "frames", int, "of one result"),
    ("--max-megapixels", "megapixels", float, "of one frame of a clip"),
    ("--max-layers", "layers", int, "of one job"),
    ("--max-minutes", "minutes", float, "that a job may run"),
    ("--max-starts", "starts", int, "of a job, if the process ends during each"),
    ("--keep-hours", "keep_hours", float, "until a finished job and its files are removed"),
)


def register(subcommands: Any) -> None:
    """The arguments."""
    parser = subcommands.add_parser("serve", help="composite over HTTP (extra `serve`)", allow_abbrev=False)
    where = parser.add_argument_group("where")
    where.add_argument(
        "--folder", default="service", metavar="DIR", help="its queue and results (default service)"
    )
    where.add_argument(
        "--root", metavar="DIR", help="clients may name files below it (default: uploads only)"
    )
    where.add_argument("--host", default="127.0.0.1", help="address (default 127.0.0.1: this machine only)")
    where.add_argument("--port", type=int, default=8000, help="default 8000; 0 is any free one")
    where.add_argument(
        "--token-file",
        metavar="FILE",
        help=f"clients must send the token in it (or in ${TOKEN}); needed for other hosts than this one",
    )
    add_model(parser)
    add_limits(parser)
    parser.set_defaults(run=run)


def add_model(parser: argparse.ArgumentParser) -> None:
    """What runs the jobs."""
    model = parser.add_argument_group("the model")
    model.add_argument(
        "--checkpoint", metavar="DIR", help="folder of a checkpoint (default: the embedded model)"
    )
    model.add_argument("--weights", choices=("int8",), help="keep the network's in 8 bits")
    model.add_argument(
        "--mesh",
        metavar="AXIS=N,...",
        help="devices that run one job together: tensor=2,context=2 (default: each device runs a job)",
    )
    add_segment_weights(model)


def add_limits(parser: argparse.ArgumentParser) -> None:
    """The fields of `Limits`."""
    limits = parser.add_argument_group("limits")
    for option, field, kind, what in LIMITS:
        default = getattr(Limits(), field)
        limits.add_argument(option, type=kind, metavar="N", help=f"{what} (default {default:g})")


def run(args: argparse.Namespace) -> None:
    """Checks everything and serves until SIGTERM or SIGINT. The model is loaded at the first job."""
    limits, token = limits_of(args), token_of(args.token_file)
    mesh = mesh_of(args.mesh)
    use_segment_weights(args)
    try:
        import fastapi  # noqa: F401
        import fastapi_offline  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError(f"serve needs {error.name}: pip install 'gencompositor-jax[serve]'") from error

    from gencompositor_jax.jobs.models import Models
    from gencompositor_jax.jobs.service import Service
    from gencompositor_jax.serve.app import create_app
    from gencompositor_jax.serve.server import listen, run

    check_address(args.host, args.port, token)
    root = None if args.root is None else Path(args.root).resolve()
    if root is not None and not root.is_dir():
        raise InputError(f"--root {args.root}: no such folder")
    if args.checkpoint is not None:
        checkpoint_arch(args.checkpoint)
    models = Models(args.checkpoint, args.weights, mesh)
    if mesh is not None:
        models.devices()  # or it is refused
    with listen(args.host, args.port) as listening:
        service = Service(Path(args.folder), root, limits, models)
        host, port = listening.getsockname()[:2]
        name = f"[{host}]" if ":" in host else host
        counts = service.queue.counts()
        waiting = counts["queued"] + counts["running"]  # the last process was killed
        note(f"http://{name}:{port}/docs describes the service; {waiting} jobs wait from earlier")
        run(create_app(service, token), service, listening)


def check_address(host: str, port: int, token: str | None) -> None:
    """Raises InputError for a port that isn't one, and for a host that others reach without a token."""
    from gencompositor_jax.serve.access import is_loopback

    if not 0 <= port <= 65535:
        raise InputError(f"--port {port}: pass 0 to 65535")
    if token is None and not is_loopback(host):
        raise InputError(f"--host {host}: others can reach it; pass --token-file, or set {TOKEN}")


def limits_of(args: argparse.Namespace) -> Limits:
    """The limits of the command line. Raises InputError naming the option."""
    from gencompositor_jax import fields

    kinds, given = get_type_hints(Limits, include_extras=True), {}
    for option, field, *_ in LIMITS:
        value = getattr(args, option.removeprefix("--").replace("-", "_"))
        if value is not None:
            given[field] = fields.read(kinds[field], value, option)
    return Limits(**given)


def token_of(file: str | None) -> str | None:
    """The token in a file or in the environment; None if there is neither.

    Never an argument of the command: all users of a machine can read those.
    """
    from gencompositor_jax.files import read_text

    token = os.environ.get(TOKEN, "") if file is None else read_text(file)
    token, where = token.strip(), f"--token-file {file}" if file is not None else TOKEN
    if file is None and not token:
        return None
    if len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(f"{where}: pass at least 16 characters without spaces, as of `openssl rand -hex 16`")
    return token
