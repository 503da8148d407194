"""A call of the command, and the sound calls that others are made of."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.doors.values import Content, documents

Make = Callable[[Path, Path], list[str]]  # (the call's own folder, folder of sound inputs) -> arguments


@dataclass(frozen=True)
class Call:
    """One call; `make` writes what it needs into a new folder, which is also the working folder."""

    door: str
    name: str
    make: Make


FEW = ("--config.data.clips=1", "--config.data.followed_clips=1")
PLACED = {
    "--background": "background",
    "--foreground": "element.png",
    "--trajectory": "10,12 30,16",
    "--checkpoint": "checkpoint",
    "--out": "out",
}
TRAIN = ["train", "--config", "gencompositor_6b:runlocal", "--workdir", "w"]


def compose(folder: Path, base: Path, command: str = "preview", **changes: str | None) -> list[str]:
    """`preview` or `compose` with the sound inputs and some other ones; None leaves an option out."""
    options = PLACED | {f"--{name.replace('_', '-')}": value for name, value in changes.items()}
    words = [command]
    for name, value in options.items():
        if value is not None:
            there = base / value if name in PLACED and PLACED[name] == value else None
            words.append(f"{name}={there if there is not None and there.exists() else value}")
    return words


def remove(base: Path, *more: str) -> list[str]:
    """`remove` with the sound inputs."""
    return [
        *("remove", f"--background={base / 'background'}", f"--mask={base / 'mask.png'}"),
        *(f"--checkpoint={base / 'checkpoint'}", "--out=out", *more),
    ]


def convert(base: Path, *more: str) -> list[str]:
    """`convert` with the sound folders after those of the call, which thus come first."""
    null = [] if any(word.startswith("--null-text") for word in more) else [f"--null-text={base}/null.npy"]
    return ["convert", *more, str(base / "release"), *null, "--out=out"]


def checkpoint(folder: Path, base: Path) -> Path:
    """A checkpoint in the call's folder, without its manifest, whose files may be replaced."""
    out = Path(shutil.copytree(base / "checkpoint", folder / "checkpoint"))
    (out / "manifest.json").unlink()
    return out


def component(folder: Path, base: Path, name: str) -> Path:
    """One component of the release in the call's folder."""
    return Path(shutil.copytree(base / "release" / name, folder / name))


def with_file(write: Callable[[Path, Path], tuple[Path, list[str]]], content: Content) -> Make:
    def make(folder: Path, base: Path) -> list[str]:
        path, words = write(folder, base)
        path.write_bytes(content() if callable(content) else content)
        return words

    return make


def json_door(
    door: str, document: Any, write: Callable[[Path, Path], tuple[Path, list[str]]]
) -> Iterator[Call]:
    for name, content in documents(document):
        yield Call(door, name, with_file(write, content))
