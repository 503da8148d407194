"""`gencompositor export`: a checkpoint to PyTorch weights."""

import argparse
from pathlib import Path
from typing import Any


def register(subcommands: Any) -> None:
    """The arguments."""
    parser = subcommands.add_parser(
        "export", help="write a checkpoint as PyTorch weights (safetensors)", allow_abbrev=False
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="folder of a checkpoint")
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="DIR",
        help="folder for transformer/, branch/, vae/ and scheduler/, as the release reads them",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Export."""
    from gencompositor_jax.cli.progress import gigabytes
    from gencompositor_jax.conversion.export import export

    with gigabytes("exporting") as progress:
        size = export(args.checkpoint, args.out, args.overwrite, progress=progress)
    print(f"{args.out}: {size / 1e9:.2f} GB written")
