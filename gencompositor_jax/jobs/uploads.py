"""Uploads: the files of one submission, written while they arrive, limited in size, removed if it fails."""

import contextlib
import errno
import hashlib
import secrets
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from gencompositor_jax.errors import InputError
from gencompositor_jax.files import MIN_FREE

MAX_NAME = 200  # bytes; file systems allow 255
LONGEST = 100  # characters
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MAX_FILES = 32


class TooLarge(InputError):
    """More bytes than the limit."""


class DiskFull(InputError):
    """No space for an upload, or for a result."""


class Uploads:
    """The files of one submission in a new folder below `parent`. As a context it removes what is left of it.

    limit: of the bytes of all files together. most: files.
    """

    def __init__(self, parent: Path, limit: int, most: int = MAX_FILES) -> None:
        self.folder = parent / secrets.token_hex(8)
        self.digests: dict[str, str] = {}  # SHA-256 of each complete file, by name
        self.size = 0
        self.limit, self.most = limit, most
        self._file: tuple[str, hashlib._Hash, Path] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def begin(self, name: str) -> None:
        """Starts a file. Raises InputError for a name with a folder in it, or one that was used before."""
        name = composed(name)
        if not _is_plain(name):
            raise InputError(f"upload {name[:100]!r}: pass a file name of letters, digits and . _ - ( ) +")
        if name in self.digests:
            raise InputError(f"upload {name!r}: sent twice; give each file a name of its own")
        if len(self.digests) >= self.most:
            raise InputError(f"upload {name!r}: more than {self.most} files")
        with disk_errors():
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / name
            path.touch(exist_ok=False)
        self._file = name, hashlib.sha256(), path

    def write(self, data: bytes) -> None:
        """Appends to the current file. Raises TooLarge or DiskFull."""
        assert self._file is not None, "begin() first"
        self.reserve(len(data))
        self.size += len(data)
        _, digest, path = self._file
        digest.update(data)
        with disk_errors(), path.open("ab") as file:
            file.write(data)

    def end(self) -> None:
        """Completes the current file. Raises InputError if it is empty."""
        assert self._file is not None, "begin() first"
        name, digest, path = self._file
        if not path.stat().st_size:
            raise InputError(f"upload {name!r}: empty")
        self.digests[name] = digest.hexdigest()
        self._file = None

    def reserve(self, size: int) -> None:
        """Raises TooLarge or DiskFull where so many more bytes are too many."""
        if self.size + size > self.limit:
            raise TooLarge(f"more than {self.limit / 2**20:g} MiB of uploads, the service's limit")
        check_disk(self.folder.parent, size)


def composed(name: str) -> str:
    """A name as it is stored: some systems send letters and their accents apart (NFD)."""
    return unicodedata.normalize("NFC", name)


def _is_plain(name: str) -> bool:
    """Whether a name has letters of any script, their marks, digits and a few others, and a sound length."""
    if not 1 <= len(name) <= LONGEST or len(name.encode("utf-8", "replace")) > MAX_NAME:
        return False
    letters = [unicodedata.category(each)[0] in "LNM" or each in "_ .()+-" for each in name]
    begins = unicodedata.category(name[0])[0] in "LN" or name[0] == "_"
    return begins and all(letters) and not name.endswith((".", " "))


def check_disk(folder: Path, needed: int = 0) -> None:
    """Raises DiskFull where so many bytes and 64 MiB don't fit."""
    free = shutil.disk_usage(folder).free
    if free < needed + MIN_FREE:
        raise DiskFull(f"the service's disk is full ({free >> 20} MiB free); try again later")


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    """Turns the system's error for a full disk into DiskFull."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise DiskFull("the service's disk is full; try again later") from error
