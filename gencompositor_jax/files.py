"""Written files: checked before the work that fills them, complete or absent, never unasked over others."""

import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gencompositor_jax.errors import InputError

MIN_FREE = 64 * 2**20  # bytes; less room on the disk than this and nothing is begun
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def check_output(path: str | os.PathLike[str], overwrite: bool) -> None:
    """Raises InputError if a file or folder can't be written here: to be called before heavy work.

    Refused: what exists (unless `overwrite`), a folder that holds anything but numbered PNG images even then,
    a device, an address, a missing or write-protected folder above, a disk with less than 64 MiB free.
    """
    text = os.fspath(path)
    target = Path(text)
    if not text.strip() or "://" in text or "\0" in text:
        raise InputError(f"{text!r}: results are written to local files: pass a path")
    folder = target.absolute().parent
    if not folder.is_dir():
        raise InputError(f"{text}: there is no folder {folder}: create it or write elsewhere")
    if os.path.lexists(target):
        if not overwrite:
            raise InputError(f"{text}: exists: pass --overwrite to replace it, or write elsewhere")
        if target.is_dir() and not all(re.fullmatch(r"\d+\.png", entry.name) for entry in target.iterdir()):
            raise InputError(f"{text}: holds more than numbered PNG images: write elsewhere")
        if target.exists() and not (target.is_file() or target.is_dir()):
            raise InputError(f"{text}: is a device, pipe or socket: write to a file")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{text}: {folder} may not be written to: check its permissions")
    if shutil.disk_usage(folder).free < MIN_FREE:
        raise InputError(f"{text}: the disk is full: free {MIN_FREE >> 20} MiB or write elsewhere")


@contextmanager
def finished(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Where to write so that `path` appears once it is complete: a new name beside it, renamed at the end.

    The writer creates a file or a folder under that name. When it fails, nothing stays. InputError as in
    `check_output`, and when the disk fills up or writing fails otherwise.
    """
    check_output(path, overwrite)
    target = Path(path).absolute()
    token = uuid.uuid4().hex[:8]
    part = target.with_name(f".{target.name}.{token}.part")
    try:
        yield part
        if part.is_dir() and target.is_dir():  # a rename replaces files, but no folder that holds something
            old = target.with_name(f".{target.name}.{token}.old")
            target.rename(old)
            part.rename(target)
            shutil.rmtree(old)
        else:
            part.replace(target)
    except OSError as error:
        if error.errno in _FULL:
            raise InputError(f"{path}: the disk is full: free some space or write elsewhere") from error
        raise InputError(f"{path}: can't be written ({error.strerror}): write elsewhere") from error
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


@contextmanager
def new_folder(folder: Path, overwrite: bool = False) -> Iterator[Path]:
    """A folder under a temporary name beside `folder`, which takes its name when the block ends well.

    What an earlier, killed writer left under that name is thrown away. Raises InputError if `folder` exists
    and `overwrite` is False, or where nothing can be written; then, as after any error, nothing is left.
    """
    if folder.exists() and not overwrite:
        raise InputError(f"{folder}: exists; pass --overwrite or another folder")
    part, old = (folder.with_name(folder.name + ending) for ending in (".part", ".old"))
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        part.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except Exception as error:
        if (reason := disk_says(error)) is None:
            raise
        raise InputError(f"{folder}: can't be written ({reason})") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def disk_says(error: Exception) -> str | None:
    """The operating system's reason for an error; None if it is of another kind."""
    if isinstance(error, OSError) and not isinstance(error, TimeoutError):
        return error.strerror or str(error)
    found = re.search(r"([^:]*) \[os_error_code=", str(error))  # TensorStore's errors have nothing but a text
    return found[1].strip() if found else None
