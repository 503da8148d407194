"""What a run would overwrite of its own inputs."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from gencompositor_jax.controls.media.images import is_image
from gencompositor_jax.controls.media.numbering import is_pattern, matching
from gencompositor_jax.errors import InputError

PathLike = str | os.PathLike[str]


def check_no_input(outputs: Iterable[PathLike], inputs: Iterable[PathLike]) -> None:
    """Raise InputError where an output is a file of an input, which would be lost.

    Both may be files, folders of images, and patterns such as `name_####.png`.
    """
    read = {identity for path in inputs for identity in _identities(Path(path))}
    for output in outputs:
        if any(identity in read for identity in _identities(Path(output))):
            raise InputError(f"{output}: is an input of this run: write elsewhere")


def files_of(path: Path) -> list[Path]:
    """What a path names: itself, and the images of a folder or of a pattern."""
    found = [path]
    with suppress(OSError, InputError):
        if path.is_dir():
            found += [entry for entry in path.iterdir() if is_image(entry)]
        elif is_pattern(path.name):
            found += matching(path.parent, path.name)
    return found


def _identities(path: Path) -> Iterator[tuple[int, int]]:
    """The device and inode of all that a path names; nothing for what doesn't exist."""
    for each in files_of(path):
        with suppress(OSError, ValueError):
            facts = each.stat()
            yield facts.st_dev, facts.st_ino
