"""`gencompositor convert`: PyTorch weights to a checkpoint."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gencompositor_jax.errors import InputError

if TYPE_CHECKING:
    from gencompositor_jax.conversion.convert import Text

COMPONENTS = ("transformer", "branch", "vae", "scheduler", "text_encoder", "tokenizer")


def register(subcommands: Any) -> None:
    """The arguments."""
    parser = subcommands.add_parser(
        "convert",
        help="make a checkpoint from PyTorch weights (safetensors)",
        description="Makes a checkpoint from the release's weights and CogVideoX-5b-I2V's other parts.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "folders",
        nargs="*",
        type=Path,
        metavar="FOLDER",
        help="folders that hold transformer/, branch/, vae/, scheduler/, text_encoder/ and tokenizer/; each "
        "is taken from the first that has it",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the checkpoint's folder")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    for name in COMPONENTS:
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=Path,
            metavar="PATH",
            help=f"the {name} itself: a folder or a file",
        )
    parser.add_argument(
        "--init-from",
        type=Path,
        metavar="DIR",
        help="start a training from plain CogVideoX-I2V (its folder) instead of converting the release",
    )
    parser.add_argument(
        "--layout",
        choices=("released", "height", "width", "time", "shared"),
        default="released",
        help="with --init-from: where the foreground's positions are (default released)",
    )
    parser.add_argument(
        "--dtype",
        choices=("keep", "bfloat16", "float16", "float32"),
        default="keep",
        help="type of the stored weights (default keep: as in the files)",
    )
    parser.add_argument(
        "--shard",
        type=int,
        default=1,
        metavar="N",
        help="cut large arrays in N files each, so that a mesh of N devices reads nothing twice (default 1)",
    )
    parser.add_argument(
        "--tiles",
        choices=("released", "none"),
        default="released",
        help="run the VAE in the release's tiles (default, as its scripts do) or on whole frames; compose "
        "can switch it",
    )
    parser.add_argument(
        "--null-text",
        type=Path,
        metavar="FILE.npy",
        help="the empty prompt's embedding, instead of computing it",
    )
    parser.add_argument(
        "--prompt",
        action="append",
        default=[],
        metavar='NAME="TEXT"',
        help="store this prompt's embedding, too, for compose --prompt NAME; may be repeated",
    )
    parser.add_argument(
        "--allow-pickle", action="store_true", help="also read .bin, .pt and .pkl files (torch, weights only)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Checks everything, then converts."""
    from gencompositor_jax.conversion import text as text_lib
    from gencompositor_jax.conversion.sources import find, open_source

    prompts = text_lib.parse_prompts(args.prompt)
    if args.shard < 1:
        raise InputError(f"--shard {args.shard}: pass 1 or more")
    if args.out.exists() and not args.overwrite:
        raise InputError(f"{args.out}: exists; pass --overwrite or another folder")
    for folder in (*args.folders, *([args.init_from] if args.init_from else [])):
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder")
    null = None if args.null_text is None else text_lib.read_null_text(args.null_text)
    folders = [*args.folders, *([args.init_from] if args.init_from else [])]
    if args.init_from:
        folders = [args.init_from, *args.folders]
    where = {name: find(name, folders, getattr(args, name)) for name in COMPONENTS}
    needed = ["transformer", "vae", "scheduler"] + (["branch"] if args.init_from is None else [])
    needed += ["text_encoder"] if null is None or prompts else []
    for name in needed:
        if where[name] is None:
            instead = " (or --null-text FILE.npy)" if name == "text_encoder" and not prompts else ""
            raise InputError(f"no {name} folder was found; pass --{name.replace('_', '-')}{instead}")

    from gencompositor_jax.conversion import convert, init_from
    from gencompositor_jax.conversion.configs import Config
    from gencompositor_jax.conversion.sources import read_config

    def opened(name: str) -> Any:
        path = where[name]
        assert path is not None, name
        return open_source(name, path, args.allow_pickle)

    scheduler = where["scheduler"]
    assert scheduler is not None
    scheduler = scheduler / "scheduler_config.json" if scheduler.is_dir() else scheduler
    parts = convert.Components(
        opened("transformer"),
        opened("branch") if args.init_from is None else None,
        opened("vae"),
        Config(scheduler, read_config(scheduler)),
    )
    provenance: dict[str, Any] = {}
    if args.init_from is None:
        work = convert.check_released(parts, args.dtype, args.tiles == "released")
    else:
        work, notes = init_from.check(parts, args.layout, args.dtype, args.tiles == "released")
        provenance["init_from"] = notes
        for line in notes:
            print(line)
    stack = work.arch.backbone
    text: Text
    if null is not None and not prompts:
        text = null
    else:
        print("computing text embeddings")
        text = text_lib.embed(opened("text_encoder"), where["tokenizer"], prompts, stack.text_tokens, null)

    from gencompositor_jax.cli.progress import gigabytes

    with gigabytes("converting") as progress:
        report = convert.run(work, text, args.out, args.shard, args.overwrite, provenance, progress)
    for component, names in report.unused.items():
        if names:
            print(f"{component}: known to be unused: {', '.join(names)}")
    read, written = report.bytes_read / 1e9, report.bytes_written / 1e9
    print(
        f"{report.folder}: {written:.2f} GB written from {read:.2f} GB; the files are listed in manifest.json"
    )
