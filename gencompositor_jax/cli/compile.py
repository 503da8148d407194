"""`gencompositor compile`: compiles the programs of one clip size for later processes."""

import argparse
import time
from pathlib import Path
from typing import Any

from gencompositor_jax.cli import options, scenes
from gencompositor_jax.files import check_new_folder


def register(subcommands: Any) -> None:
    """The arguments."""
    parser = subcommands.add_parser(
        "compile",
        help="compile what compose runs, for later starts on machines like this one",
        description="Use it with compose --compiled DIR and the same checkpoint, frames and steps.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--checkpoint", metavar="DIR", help="folder of a checkpoint (default: the embedded model)"
    )
    parser.add_argument("--weights", choices=("int8",), help="as for compose")
    parser.add_argument(
        "--frames",
        type=int,
        metavar="N",
        help="of a clip (default: what the checkpoint was trained for)",
    )
    options.add_steps(parser)
    parser.add_argument("--prompt", metavar="NAME", help="for a prompt with guidance (default: without one)")
    parser.add_argument(
        "--guidance", type=float, metavar="SCALE", help="1 is another program than all other scales"
    )
    parser.add_argument(
        "--tiles", choices=("released", "none"), help="of the VAE (default: as the checkpoint says)"
    )
    parser.add_argument(
        "--latent-mask", choices=("released", "union"), help="default: as the checkpoint was trained"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="gets the programs")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Compiles, and prints how to use the result."""
    check_new_folder(args.out, args.overwrite, "programs.json")

    sampling = scenes.sampling_of(args)

    from gencompositor_jax.cli.rendering import checkpoint_arch, load
    from gencompositor_jax.controls.stage import arch_for

    changes: Any = {"tiles": args.tiles, "latent_mask": args.latent_mask}
    arch_for(checkpoint_arch(args.checkpoint, sampling.prompt, **changes), args.frames)
    compositor = load(args.checkpoint, None, args.weights, {"data": 1}, **changes)
    started = time.perf_counter()
    how: Any = {"steps": sampling.steps, "prompt": sampling.prompt, "guidance": sampling.guidance}
    size = compositor.compile(args.out, frames=args.frames, overwrite=args.overwrite, **how)
    print(f"{args.out}: {size / 1e6:.1f} MB of programs, compiled in {time.perf_counter() - started:.0f} s")
    print(f"Use them: gencompositor compose --compiled {args.out} ... (same checkpoint, frames and steps)")
