"""SHA-256 of every file of a checkpoint, and type and shape of every array, in `manifest.json` beside them.

Orbax and safetensors return flipped bits silently, so a checkpoint that must be trusted is compared with what
was written. The manifest holds a hash of its own text, too.
"""

import dataclasses
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gencompositor_jax.errors import InputError
from gencompositor_jax.files import atomic_write_text

NAME = "manifest.json"
LEFTOVER = re.compile(r"manifest\.json\.part|\.manifest\.json\..*\.part")  # of a killed writer
FORMAT = 1
THREADS = 8  # that hash files side by side: SHA-256 runs at 1 to 2 GB/s on one core, disks are faster
CHEAP = (
    256 * 2**20
)  # bytes: folders up to this size are hashed whole at each loading (about a quarter of a second)
SMALL_FILE = 2**20  # bytes: of larger folders, files up to this size are

Progress = Callable[[int, int], None]  # (bytes done, bytes in all)


@dataclasses.dataclass(frozen=True)
class FileFacts:
    """Size and hash of one file."""

    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class ArrayFacts:
    """Type and shape of one array."""

    dtype: str
    shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What was written. Files by their path below the folder, arrays by their path in the tree (a/b/c)."""

    files: Mapping[str, FileFacts]
    arrays: Mapping[str, ArrayFacts]

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(facts.bytes for facts in self.files.values())


def hash_file(path: Path, progress: Callable[[int], None] | None = None) -> FileFacts:
    """Size and SHA-256 of a file, read in pieces; `progress` hears the size of each."""
    digest, size, piece = hashlib.sha256(), 0, bytearray(2**20)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(piece):
            digest.update(memoryview(piece)[:count])
            size += count
            if progress is not None:
                progress(count)
    return FileFacts(size, digest.hexdigest())


def write(
    folder: Path, arrays: Mapping[str, ArrayFacts], known: Mapping[str, FileFacts] | None = None
) -> None:
    """Writes the manifest of a folder; it hashes all files but those that are `known` from their writing.

    It appears whole or not at all, so that a folder may get its manifest after it has got its name.
    """
    files = dict(known or {})
    names = _files_of(folder)
    files |= _hash_files(folder, [name for name in names if name not in files])
    atomic_write_text(folder / NAME, _text(Manifest({name: files[name] for name in names}, arrays)))


def read(folder: Path) -> Manifest | None:
    """The manifest of a folder, None where there is none. Raises InputError where it is damaged."""
    file = folder / NAME
    if not file.exists():
        return None
    try:
        text = file.read_text(encoding="utf-8")
        fields = json.loads(text)
        files = {name: FileFacts(**facts) for name, facts in fields["files"].items()}
        arrays = {name: ArrayFacts(a["dtype"], tuple(a["shape"])) for name, a in fields["arrays"].items()}
        found: Manifest | None = Manifest(files, arrays)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        text, found = "", None
    if found is None or text != _text(found):
        raise InputError(f"{file}: damaged; copy or convert the checkpoint again")
    return found


def verify(
    folder: Path,
    manifest: Manifest,
    hash_up_to: int | None = None,
    progress: Progress | None = None,
    share: tuple[int, int] = (0, 1),
) -> None:
    """Compares a folder with its manifest.

    hash_up_to: files larger than this are only compared in size; None hashes all. share: (i, n) hashes every
    n-th file from the i-th on, so that n processes do it together. Raises InputError with the list of all
    files that are missing, unknown or changed.
    """
    there = set(_files_of(folder))
    problems = [f"{name} is missing" for name in sorted(manifest.files.keys() - there)]
    problems += [f"{name} is not in the manifest" for name in sorted(there - manifest.files.keys())]
    total, done, lock = manifest.bytes, 0, threading.Lock()

    def count(read: int) -> None:
        nonlocal done
        with lock:
            done += read
            if progress is not None:
                progress(done, total)

    right_size = []
    for name in sorted(there & manifest.files.keys()):
        size = (folder / name).stat().st_size
        if size != manifest.files[name].bytes:
            problems.append(f"{name} has {size} bytes, not {manifest.files[name].bytes}")
        elif hash_up_to is None or size <= hash_up_to:
            right_size.append(name)
    first, shares = share
    hashed = _hash_files(folder, right_size[first::shares], count)
    problems += [f"{name} has changed" for name, facts in hashed.items() if facts != manifest.files[name]]
    if problems:
        raise InputError(f"{folder}: damaged: {'; '.join(problems)}; copy or convert the checkpoint again")


def verify_cheaply(folder: Path, manifest: Manifest) -> None:
    """`verify`, reading all of a small checkpoint, and of a large one the files that cost nothing."""
    verify(folder, manifest, None if manifest.bytes <= CHEAP else SMALL_FILE)


def _hash_files(
    folder: Path, names: Iterable[str], progress: Callable[[int], None] | None = None
) -> dict[str, FileFacts]:
    """`hash_file` of several files of a folder, in threads."""
    names = list(names)
    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(names, pool.map(lambda name: hash_file(folder / name, progress), names), strict=True))


def _files_of(folder: Path) -> list[str]:
    """Files below a folder but for the manifest itself."""
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return sorted(name for name in files if name != NAME and not LEFTOVER.fullmatch(name))


def _text(manifest: Manifest) -> str:
    fields: dict[str, Any] = {"format": FORMAT, **dataclasses.asdict(manifest)}
    fields["sha256"] = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    return json.dumps(fields, indent=1, sort_keys=True) + "\n"
