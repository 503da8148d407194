"""Calls that meet a FIFO, a device, a folder or a link where a file is meant, and the other way around."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.doors.arguments import paths
from tests.doors.call import FEW, TRAIN, Call, checkpoint, component, compose, convert

SPECIAL = ("fifo", "zero", "null", "link to zero", "file", "folder", "dangling", "loop", "unreadable", "tty")


def special(path: Path, kind: str) -> Path:
    """Make something that is no regular file, or not the expected kind of one."""
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "zero" | "null" | "tty":
            return Path(f"/dev/{kind}")
        case "link to zero":
            path.symlink_to("/dev/zero")
        case "file":
            path.write_bytes(b"text")
        case "folder":
            path.mkdir()
        case "dangling":
            path.symlink_to("nothing")
        case "loop":
            path.symlink_to(path)
        case "unreadable":
            path.write_bytes(b"text")
            path.chmod(0)
    return path


# Files inside folders that a command reads by names of its own.
INSIDE: tuple[tuple[str, Callable[[Path, Path], tuple[Path, list[str]]]], ...] = (
    *(
        (name, lambda f, b, name=name: (checkpoint(f, b) / name, ["inspect", "checkpoint"]))
        for name in ("model.json", "manifest.json", "arrays/_METADATA", "arrays/manifest.ocdbt", "arrays")
    ),
    ("unknown", lambda f, b: (Path(shutil.copytree(b / "checkpoint", f / "c")) / "x", ["inspect", "c"])),
    (
        "unknown, verified",
        lambda f, b: (Path(shutil.copytree(b / "checkpoint", f / "c")) / "x", ["inspect", "--verify", "c"]),
    ),
    *(
        (f"{part}/{name}", lambda f, b, part=part, name=name: (component(f, b, part) / name, convert(b, ".")))
        for part, name in (
            ("transformer", "config.json"),
            ("transformer", "diffusion_pytorch_model.safetensors.index.json"),
            ("transformer", "diffusion_pytorch_model-00001-of-00002.safetensors"),
            ("branch", "diffusion_pytorch_model.safetensors"),
            ("vae", "diffusion_pytorch_model.safetensors"),
            ("vae", "x.safetensors"),
            ("scheduler", "scheduler_config.json"),
        )
    ),
    *(
        (name, lambda f, b, name=name: (f / name, compose(f, b, "compose", overwrite=None)))
        for name in ("out.latents.npz", "out.png", "out.json", "out.scene.json", "out")
    ),
    ("programs.json", lambda f, b: (_in(f, "p", "programs.json"), compose(f, b, "compose", compiled="p"))),
    *(
        (f"w/{name}", lambda f, b, name=name: (_in(f, "w", name), TRAIN))
        for name in ("goodput.json", "metrics.jsonl", "config.json", "checkpoints", "model", "tensorboard")
    ),
    (
        "d/dataset.json",
        lambda f, b: (
            _in(f, "d", "dataset.json"),
            ["data", "moments", "d", "--out=e", f"--checkpoint={b / 'checkpoint'}"],
        ),
    ),
    *(
        (
            f"d/{name}",
            lambda f, b, name=name: (
                _in(f, "d", name),
                [*TRAIN, "--config.data.source=cache", "--config.data.path=d", *FEW],
            ),
        )
        for name in ("whole", "whole/cache.json", "whole/clips-000000.npy", "followed")
    ),
    ("v/data.csv", lambda f, b: (_in(f, "v", "data.csv"), ["data", "check", "v"])),
)


def _in(folder: Path, name: str, file: str) -> Path:
    path = folder / name / file
    path.parent.mkdir(parents=True)
    return path


def specials(base: Path) -> Iterator[Call]:
    """FIFOs, devices and folders where a file is meant, and the other way around."""
    for what, call in paths(base):
        for kind in SPECIAL:

            def make(folder: Path, base: Path, call: Any = call, kind: str = kind) -> list[str]:
                return call(folder, base, str(special(folder / "special", kind)))

            yield Call("FIFOs, devices, folders", f"{what}: {kind}", make)
    for what, write in INSIDE:
        for kind in ("fifo", "link to zero", "folder", "dangling", "unreadable", "file"):

            def inside(folder: Path, base: Path, write: Any = write, kind: str = kind) -> list[str]:
                path, words = write(folder, base)
                if path.is_dir():
                    shutil.rmtree(path)
                path.unlink(missing_ok=True)
                special(path, kind)
                return words

            yield Call("FIFOs, devices, folders", f"{what}: {kind}", inside)
