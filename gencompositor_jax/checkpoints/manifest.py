"""`manifest.json`: SHA-256 of every file of a checkpoint, type and shape of every array.

Orbax and safetensors don't detect flipped bits; the manifest does. It holds a hash of its own text, too.
"""

import dataclasses
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

from gencompositor_jax import fields
from gencompositor_jax.errors import InputError, listed
from gencompositor_jax.fields import Text, Whole, checked, length, within
from gencompositor_jax.files import (
    atomic_write_text,
    check_regular_below,
    open_regular,
    parse_json,
    read_text,
)

NAME = "manifest.json"
LEFTOVER = re.compile(r"manifest\.json\.part|\.manifest\.json\..*\.part")  # of a killed writer
FORMAT = 1
THREADS = 8  # for hashing: SHA-256 runs at 1 to 2 GB/s on one core, disks are faster
# Bytes up to which a folder is hashed completely at each loading; takes about a quarter of a second.
SMALL_FOLDER = 256 * 2**20
# Bytes up to which a file of a larger folder is hashed at each loading.
SMALL_FILE = 2**20

Progress = Callable[[int, int], None]  # (bytes hashed, total bytes)


@checked
@dataclasses.dataclass(frozen=True)
class FileHash:
    """Size and SHA-256 of one file."""

    bytes: Annotated[Whole, within(0)]
    sha256: Text


@checked
@dataclasses.dataclass(frozen=True)
class ArraySpec:
    """Type and shape of one array."""

    dtype: Text
    shape: Annotated[tuple[Annotated[Whole, within(0)], ...], length(0, 32)]


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Files by their path below the folder, arrays by their path in the tree (a/b/c)."""

    files: Mapping[str, FileHash]
    arrays: Mapping[str, ArraySpec]

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files.values())


# The fields of manifest.json.
_FILE = fields.schema(
    "Manifest", format=Whole, sha256=Text, files=dict[str, FileHash], arrays=dict[str, ArraySpec]
)


def hash_file(path: Path, progress: Callable[[int], None] | None = None) -> FileHash:
    """Size and SHA-256 of a file; `progress` is called with the number of bytes read at a time."""
    digest, size, piece = hashlib.sha256(), 0, bytearray(2**20)
    with open_regular(path) as file:
        while count := file.readinto(piece):
            digest.update(memoryview(piece)[:count])
            size += count
            if progress is not None:
                progress(count)
    return FileHash(size, digest.hexdigest())


def write(folder: Path, arrays: Mapping[str, ArraySpec], known: Mapping[str, FileHash] | None = None) -> None:
    """Write the manifest of a folder atomically, hashing all files but those with `known` hashes."""
    files = dict(known or {})
    names = _files_of(folder)
    files |= _hash_files(folder, [name for name in names if name not in files])
    atomic_write_text(folder / NAME, _text(Manifest({name: files[name] for name in names}, arrays)))


def read(folder: Path) -> Manifest | None:
    """Read the manifest of a folder; None without one. Raises InputError where it is damaged."""
    file = folder / NAME
    if not file.exists():
        return None
    try:
        text = read_text(file)
        read: Any = fields.read(_FILE, parse_json(text, str(file)), str(file))
    except InputError as error:
        raise InputError(f"{error}; damaged: copy or convert the checkpoint again") from error
    found = Manifest(read.files, read.arrays)
    if text != _text(found):
        raise InputError(f"{file}: damaged; copy or convert the checkpoint again")
    return found


def verify(
    folder: Path,
    manifest: Manifest,
    hash_up_to: int | None = None,
    progress: Progress | None = None,
    shard: tuple[int, int] = (0, 1),
) -> None:
    """Compare a folder with its manifest.

    hash_up_to: bytes above which only the size of a file is compared; None hashes all files. shard: (i, n)
    hashes every n-th file from the i-th on, so that n processes share the work. Raises InputError with the
    list of all files that are missing, unexpected or changed.
    """
    check_regular_below(folder)
    found = set(_files_of(folder))
    problems = [f"{name} is missing" for name in sorted(manifest.files.keys() - found)]
    problems += [f"{name} is not in the manifest" for name in sorted(found - manifest.files.keys())]
    total, done, lock = manifest.bytes, 0, threading.Lock()

    def add(read: int) -> None:
        nonlocal done
        with lock:
            done += read
            if progress is not None:
                progress(done, total)

    right_size = []
    for name in sorted(found & manifest.files.keys()):
        size = (folder / name).stat().st_size
        if size != manifest.files[name].bytes:
            problems.append(f"{name} has {size} bytes, not {manifest.files[name].bytes}")
        elif hash_up_to is None or size <= hash_up_to:
            right_size.append(name)
    index, count = shard
    hashed = _hash_files(folder, right_size[index::count], add)
    problems += [f"{name} has changed" for name, found in hashed.items() if found != manifest.files[name]]
    if problems:
        raise InputError(f"{folder}: damaged: {listed(problems)}; copy or convert the checkpoint again")


def quick_verify(folder: Path, manifest: Manifest) -> None:
    """`verify`, but hash only the small files of a large folder."""
    verify(folder, manifest, None if manifest.bytes <= SMALL_FOLDER else SMALL_FILE)


def weights_hash(folder: Path) -> str:
    """SHA-256 of a checkpoint: of its files' names and hashes, by the manifest where there is one.

    Copies have the same. Without a manifest all files are read.
    """
    known = read(folder)
    files = _hash_files(folder, _files_of(folder)) if known is None else known.files
    text = "".join(f"{name} {files[name].sha256}\n" for name in sorted(files))
    return hashlib.sha256(text.encode()).hexdigest()


def _hash_files(
    folder: Path, names: Iterable[str], progress: Callable[[int], None] | None = None
) -> dict[str, FileHash]:
    """`hash_file` of several files, in threads."""
    names = list(names)
    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(names, pool.map(lambda name: hash_file(folder / name, progress), names), strict=True))


def _files_of(folder: Path) -> list[str]:
    """Files below a folder except the manifest."""
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return sorted(name for name in files if name != NAME and not LEFTOVER.fullmatch(name))


def _text(manifest: Manifest) -> str:
    content: dict[str, Any] = {"format": FORMAT, **dataclasses.asdict(manifest)}
    content["sha256"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return json.dumps(content, indent=1, sort_keys=True) + "\n"
