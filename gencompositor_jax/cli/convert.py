"""`gencompositor convert`: PyTorch weights to a checkpoint."""

import argparse
from pathlib import Path
from typing import Any

from gencompositor_jax.cli.outputs import note
from gencompositor_jax.errors import SHOWN, DifferencesError, InputError

LINES = 10  # differences that are printed
COMPONENTS = ("transformer", "branch", "vae", "scheduler", "text_encoder", "tokenizer")


def register(subcommands: Any) -> None:
    """The arguments."""
    parser = subcommands.add_parser(
        "convert",
        help="make a checkpoint from PyTorch weights (safetensors)",
        description="Makes a checkpoint from the release's weights and the other parts of CogVideoX-5b-I2V.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "folders",
        nargs="*",
        type=Path,
        metavar="FOLDER",
        help="folders with transformer/, branch/, vae/, scheduler/, text_encoder/ and tokenizer/; each of "
        "these is taken from the first folder that has it",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of the checkpoint")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder")
    for name in COMPONENTS:
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=Path,
            metavar="PATH",
            help=f"folder or file of the {name}",
        )
    parser.add_argument(
        "--init-from",
        type=Path,
        metavar="DIR",
        help="make initial weights for a training from plain CogVideoX-I2V (its folder)",
    )
    parser.add_argument(
        "--layout",
        choices=("released", "height", "width", "time", "shared"),
        default="released",
        help="with --init-from: position layout of the foreground (default released)",
    )
    parser.add_argument(
        "--dtype",
        choices=("keep", "bfloat16", "float16", "float32"),
        default="keep",
        help="type of the stored weights (default keep: that of the files)",
    )
    parser.add_argument(
        "--shard",
        type=int,
        default=1,
        metavar="N",
        help="split large arrays into N files, so that a mesh of N devices reads nothing twice (default 1)",
    )
    parser.add_argument(
        "--tiles",
        choices=("released", "none"),
        default="released",
        help="run the VAE in the release's tiles (default, as its scripts do) or on whole frames; compose "
        "--tiles changes it",
    )
    parser.add_argument(
        "--null-text",
        type=Path,
        metavar="FILE.npy",
        help="embedding of the empty prompt, instead of computing it",
    )
    parser.add_argument(
        "--prompt",
        action="append",
        default=[],
        metavar='NAME="TEXT"',
        help="also store the embedding of this prompt, for compose --prompt NAME; may be repeated",
    )
    parser.add_argument(
        "--allow-pickle", action="store_true", help="also read .bin, .pt and .pkl files (torch, weights_only)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Check everything, then converts. A long list of differences goes to a file beside the output."""
    from gencompositor_jax.files import atomic_write_text

    try:
        _run(args)
    except DifferencesError as error:
        if len(error.differences) <= SHOWN:
            raise
        file = args.out.with_name(f"{args.out.name}.differences.txt")
        atomic_write_text(file, "\n".join(error.differences) + "\n")
        for line in error.differences[:LINES]:
            note(line)
        raise InputError(f"{error.summary}: {error.differences[0]}; all are in {file}") from error


def _run(args: argparse.Namespace) -> None:
    from gencompositor_jax.conversion import text_encoder
    from gencompositor_jax.files import check_new_folder

    prompts = text_encoder.parse_prompts(args.prompt)
    if args.shard < 1:
        raise InputError(f"--shard {args.shard}: pass 1 or more")
    check_new_folder(args.out, args.overwrite, "model.json")
    null = None if args.null_text is None else text_encoder.read_null_text(args.null_text)
    found = _found(args, text_needed=null is None or bool(prompts))

    from gencompositor_jax.conversion import convert, init_from
    from gencompositor_jax.conversion.configs import read_config
    from gencompositor_jax.conversion.weights_folder import open_weights

    scheduler = found["scheduler"]
    scheduler = scheduler / "scheduler_config.json" if scheduler.is_dir() else scheduler
    opened = {
        name: open_weights(name, path, args.allow_pickle)
        for name, path in found.items()
        if name not in ("scheduler", "tokenizer")
    }
    for each in opened.values():
        if each.prefix:
            print(f"{each.folder}: the prefix {each.prefix!r} of all names is left out")
    parts = convert.Components(
        opened["transformer"], opened.get("branch"), opened["vae"], read_config(scheduler)
    )
    provenance: dict[str, Any] = {}
    if args.init_from is None:
        conversion = convert.check_released(parts, args.dtype, args.tiles == "released")
    else:
        conversion, notes = init_from.check(parts, args.layout, args.dtype, args.tiles == "released")
        provenance["init_from"] = notes
        print("\n".join(notes))
    if null is None or prompts:
        print("computing text embeddings")
        tokens = conversion.arch.backbone.text_tokens
        text = text_encoder.embed(opened["text_encoder"], found.get("tokenizer"), prompts, tokens, null)
    else:
        text = null

    from gencompositor_jax.cli.progress import gigabytes

    with gigabytes("converting") as progress:
        report = convert.run(conversion, text, args.out, args.shard, args.overwrite, provenance, progress)
    for component, names in report.unused.items():
        if names:
            print(f"{component}: known to be unused: {', '.join(names)}")
    read, written = report.bytes_read / 1e9, report.bytes_written / 1e9
    print(f"{report.folder}: {written:.2f} GB written from {read:.2f} GB; manifest.json lists the files")


def _found(args: argparse.Namespace, text_needed: bool) -> dict[str, Path]:
    """Paths of the needed components, and of the tokenizer if there is one."""
    from gencompositor_jax.conversion.weights_folder import find

    folders = [*([args.init_from] if args.init_from else []), *args.folders]
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder")
    needed = ["transformer", "vae", "scheduler"]
    needed += ["branch"] if args.init_from is None else []
    needed += ["text_encoder"] if text_needed else []
    found: dict[str, Path] = {}
    for name in (*needed, "tokenizer"):
        path = find(name, folders, getattr(args, name))
        if path is not None:
            found[name] = path
        elif name in needed:
            option = f"--{name.replace('_', '-')}"
            instead = " (or --null-text FILE.npy)" if name == "text_encoder" and not args.prompt else ""
            raise InputError(f"no {name} folder was found; pass {option}{instead}")
    return found
