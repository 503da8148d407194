"""`gencompositor inspect`: shows what a checkpoint holds and verifies its files."""

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gencompositor_jax.errors import InputError

if TYPE_CHECKING:
    from gencompositor_jax.checkpoints.manifest import ArraySpec


def register(subcommands: Any) -> None:
    """The arguments."""
    parser = subcommands.add_parser(
        "inspect", help="show what a checkpoint holds, and verify it", allow_abbrev=False
    )
    parser.add_argument(
        "checkpoint",
        nargs="?",
        type=Path,
        metavar="CHECKPOINT",
        help="its folder (default: the embedded model)",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="compare every file with its SHA-256 in the manifest (reads all files)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print. Raises InputError for a damaged checkpoint."""
    from gencompositor_jax import checkpoints
    from gencompositor_jax.checkpoints import manifest
    from gencompositor_jax.cli.progress import gigabytes

    folder = args.checkpoint or checkpoints.packaged()
    metadata, written = checkpoints.read_metadata(folder), manifest.read(folder)
    if written is None:
        if args.verify:
            raise InputError(f"{folder}: has no {manifest.NAME} to verify it with; convert or save it again")
        state = "not verified: no manifest"
    elif args.verify:
        with gigabytes("verifying") as progress:
            manifest.verify(folder, written, progress=progress)
        state = "verified: no file has changed"
    else:
        manifest.verify(folder, written, hash_up_to=0)
        state = "contents not verified; --verify compares all files"
    stored = checkpoints.stored_specs(folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    from gencompositor_jax.arch import to_json

    described = {
        "checkpoint": str(folder),
        "architecture": to_json(metadata.arch),
        "parameters": {name: count for name, (count, *_) in table(stored).items()},
        "dtypes": sorted({array.dtype for array in stored.values()}),
        "bytes": size,
        "prompts": list(metadata.prompts),
        "provenance": metadata.provenance,
        "state": state,
    }
    print(json.dumps(described, indent=2) if args.json else "\n".join(_lines(described, stored)))


def table(stored: "dict[str, ArraySpec]") -> dict[str, tuple[int, int, list[str]]]:
    """(numbers, bytes, types) of each component; position tables count as buffers, not as parameters."""
    import jax.numpy as jnp

    found: dict[str, tuple[int, int, list[str]]] = {}
    for name, array in stored.items():
        part = "/".join(name.split("/")[: 2 if "/buffers/" in name else 1])
        count, size, dtypes = found.get(part, (0, 0, []))
        numbers = math.prod(array.shape)
        size += numbers * jnp.dtype(array.dtype).itemsize
        found[part] = count + numbers, size, sorted({*dtypes, array.dtype})
    return found


def _lines(described: dict[str, Any], stored: "dict[str, ArraySpec]") -> list[str]:
    arch = described["architecture"]
    codec = arch["codec"]
    lines = [
        described["checkpoint"],
        f"  {arch['frames']} frames of {arch['width']} x {arch['height']}, positions {arch['layout']!r}, "
        f"latent mask {arch['latent_mask']!r}, prediction {arch['diffusion']['prediction']!r}",
        f"  foreground by {arch['fusion']!r}, background branch injected {arch['injection']!r}",
    ]
    for name in ("backbone", "branch") if arch["injection"] != "none" else ("backbone",):
        stack = arch[name]
        width = stack["num_heads"] * stack["head_dim"]
        lines.append(f"  {name}: {stack['num_layers']} blocks of width {width}, {stack['num_heads']} heads")
    tiles = f", tiles {codec['tile'] or 'none'}" if codec["kind"] == "vae" else ""
    lines.append(f"  codec: {codec['kind']}{tiles}")
    lines.append("")
    for part, (count, size, dtypes) in table(stored).items():
        lines.append(f"  {part:<20} {count:>15,} numbers {size / 1e6:>12,.1f} MB  {', '.join(dtypes)}")
    lines.append(f"  {'all files':<20} {'':>15}         {described['bytes'] / 1e6:>12,.1f} MB")
    if described["prompts"]:
        lines += ["", f"  prompts: {', '.join(described['prompts'])}"]
    lines += ["", "  provenance:"]
    lines += [f"    {line}" for line in json.dumps(described["provenance"], indent=2).splitlines()]
    return [*lines, "", f"  {described['state']}"]
