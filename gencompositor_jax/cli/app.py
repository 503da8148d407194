"""`gencompositor app`: the studio, a page in the browser."""

import argparse
import webbrowser
from typing import Any

from gencompositor_jax.cli.options import mesh_of, use_segment_weights
from gencompositor_jax.cli.outputs import note
from gencompositor_jax.cli.rendering import checkpoint_arch
from gencompositor_jax.cli.serve import TOKEN, add_limits, add_model, check_address, limits_of, token_of
from gencompositor_jax.errors import InputError


def register(subcommands: Any) -> None:
    """The arguments."""
    parser = subcommands.add_parser(
        "app", help="draw and composite in the browser (extra `app`)", allow_abbrev=False
    )
    where = parser.add_argument_group("where")
    where.add_argument(
        "--folder",
        metavar="DIR",
        help="keep clips, runs and results there (default: a private folder, removed at the end)",
    )
    where.add_argument("--host", default="127.0.0.1", help="address (default 127.0.0.1: this machine only)")
    where.add_argument("--port", type=int, default=8765, help="default 8765; 0 is any free one")
    where.add_argument(
        "--token-file",
        metavar="FILE",
        help=f"the page asks for the token in it (or in ${TOKEN}); needed for other hosts than this one",
    )
    where.add_argument("--open", action="store_true", help="open it in the browser")
    add_model(parser)
    add_limits(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Checks everything and serves until SIGTERM or SIGINT. The model is loaded at the first run."""
    limits, token, mesh = limits_of(args), token_of(args.token_file), mesh_of(args.mesh)
    use_segment_weights(args)
    try:
        import cachetools  # noqa: F401
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError(f"app needs {error.name}: pip install 'gencompositor-jax[app]'") from error

    from gencompositor_jax.app.folder import studio_folder
    from gencompositor_jax.app.studio import create_app, make_studio
    from gencompositor_jax.jobs.models import Models
    from gencompositor_jax.serve.server import listen, run

    check_address(args.host, args.port, token)
    if args.checkpoint is not None:
        checkpoint_arch(args.checkpoint)
    models = Models(args.checkpoint, args.weights, mesh, estimates=True)
    if mesh is not None:
        models.devices()  # or it is refused
    with studio_folder(args.folder) as folder, listen(args.host, args.port) as listening:
        studio = make_studio(folder, limits, models, args.checkpoint, kept=args.folder is not None)
        host, port = listening.getsockname()[:2]
        name = f"[{host}]" if ":" in host else host
        url = f"http://{name}:{port}/"
        note(f"{url} is the studio; Ctrl-C ends it")
        if args.open:
            webbrowser.open(url)
        run(create_app(studio, token), studio.service, listening, requests=False)
