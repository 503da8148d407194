"""Files of users: only regular ones are opened, and texts have a limit.

Atomic writes: a file or folder appears under its name once it is complete, or not at all.
"""

import codecs
import errno
import io
import json
import os
import re
import shutil
import socket
import stat
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gencompositor_jax.errors import InputError

PathLike = str | os.PathLike[str]

MIN_FREE = 64 * 2**20  # bytes of free disk space below which no output is started
# A person or a program writes no larger text; a video passed by mistake is larger.
MAX_TEXT = 16 * 2**20  # bytes
MAX_TABLE = 2**30
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # pathlib leaves one of two slashes
_OTHER_MARKS = codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE
_FULL = {os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)}


def check_local(path: PathLike, what: str = "") -> None:
    """Raise InputError for what no local file can be called: an address such as gs://bucket/run (for which a
    folder `gs:` would be made), a name with a NUL, a blank one.

    what: the option or field, for the message.
    """
    text, name = os.fspath(path), f"{what} " if what else ""
    if "\0" in text or (text and not text.strip()):
        raise InputError(f"{name}{text!r}: is not the name of a file or folder: pass a path")
    if _ADDRESS.match(text):
        raise InputError(
            f"{name}{text}: is an address, and only local files and folders are read and written: copy it to "
            "this machine, or mount the bucket and pass its path"
        )


def open_regular(path: PathLike) -> io.BufferedReader:
    """Open a regular file for reading, unbuffered bytes being `raw`.

    A FIFO would wait for a writer and a device has no end: both are refused before anything is read. Raises
    InputError for these, for folders, and for what doesn't exist or can't be opened.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # a ValueError for a name with a NUL
        raise InputError(f"{path}: can't be opened ({_reason(error)})") from error
    kind = os.fstat(handle).st_mode
    if not stat.S_ISREG(kind):
        os.close(handle)
        raise InputError(f"{path}: {_not_regular(kind)}")
    return os.fdopen(handle, "rb")


def check_regular(path: PathLike) -> None:
    """Raise InputError unless a path is a regular file that may be read: before a library opens it."""
    open_regular(path).close()


def check_regular_below(folder: PathLike) -> None:
    """Raise InputError unless everything below a folder is a folder or a regular file."""
    for above, _, names in os.walk(folder, onerror=_raise):
        for name in names:
            path = os.path.join(above, name)
            try:
                kind = os.stat(path).st_mode
            except OSError as error:
                raise InputError(f"{path}: can't be opened ({_reason(error)})") from error
            if not stat.S_ISREG(kind):
                raise InputError(f"{path}: {_not_regular(kind)}")


def read_bytes(path: PathLike, limit: int = MAX_TEXT) -> bytes:
    """The content of a regular file. Raises InputError as `open_regular`, and above `limit` bytes."""
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        size = os.stat(path).st_size
        raise InputError(f"{path}: {size:,} bytes, where a text of at most {limit:,} is expected")
    return content


def read_text(path: PathLike, limit: int = MAX_TEXT) -> str:
    """The UTF-8 text of a regular file. Raises InputError where there is none that can be read."""
    content = read_bytes(path, limit)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if content.startswith(_OTHER_MARKS):
            raise InputError(f"{path}: is UTF-16 or UTF-32 text: save it as UTF-8") from error
        raise InputError(f"{path}: not UTF-8 text (byte {error.start}): save it as UTF-8") from error


def open_table(path: PathLike) -> io.StringIO:
    """A CSV file's text for Python's csv, at most 1 GiB; line breaks inside quotes are kept."""
    return io.StringIO(read_text(path, MAX_TABLE), newline="")


def read_json(path: PathLike) -> Any:
    """The JSON value in a file. Raises InputError with the line; see `parse_json`."""
    return parse_json(read_text(path), str(path))


def parse_json(text: str | bytes, where: str, line: int | None = None) -> Any:
    """The JSON value of a text: all of `where`, or one line of it.

    Raises InputError with the line; NaN, repeated fields and deep nesting are errors, too.
    """
    place = where if line is None else f"{where}: line {line}"

    def no_constant(name: str) -> None:
        raise InputError(f"{place}: {name} is not a number; write a finite one")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        out = dict(pairs)
        if len(out) != len(pairs):
            twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
            raise InputError(f"{place}: field {twice!r} stands twice in one object; keep one")
        return out

    try:
        return json.loads(text, parse_constant=no_constant, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        number = (line or 1) + error.lineno - 1
        raise InputError(f"{where}: line {number}, column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise InputError(f"{place}: nested too deeply") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{place}: not UTF-8 text (byte {error.start})") from error
    except InputError:
        raise
    except ValueError as error:  # an integer of thousands of digits
        raise InputError(f"{place}: {error}") from error


@contextmanager
def atomic_write(path: PathLike, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what the block writes there is renamed to `path` at its end.

    After an error nothing is left. Processes that write the same path at once use different temporary paths,
    and those of killed processes of this host are removed.

    Raises InputError if `path` exists and `overwrite` is False, if the disk is full, or on any other error of
    the operating system.
    """
    target = Path(path).absolute()
    _remove_leftovers(target)
    _check_new(path, overwrite)
    process = f"{_host()}-{os.getpid()}"
    part, old = (target.with_name(f".{target.name}.{process}{ending}") for ending in (".part", ".old"))
    try:
        yield part
        _check_new(path, overwrite)  # again: another run may have written it since
        if part.is_dir():
            if os.path.lexists(target):  # a rename replaces files and empty folders only
                target.rename(old)
        else:
            _sync(part)
        part.replace(target)
        _remove(old)
    except Exception as error:
        if (reason := system_error(error)) is None:
            raise
        if reason in _FULL:
            raise InputError(f"{path}: the disk is full ({reason}): free space or write elsewhere") from error
        raise InputError(f"{path}: can't be written ({reason}): write elsewhere") from error
    finally:
        _remove(part)


@contextmanager
def atomic_folder(folder: PathLike, overwrite: bool = False) -> Iterator[Path]:
    """`atomic_write` of a folder, which it creates empty, parents included."""
    with atomic_write(folder, overwrite) as part:
        part.mkdir(parents=True)
        yield part


def atomic_write_text(path: PathLike, text: str) -> None:
    """Write or replaces a UTF-8 file by `atomic_write`."""
    with atomic_write(path, overwrite=True) as part:
        part.write_text(text, encoding="utf-8")


def check_output_file(path: PathLike, overwrite: bool, option: str) -> None:
    """`check_output` of what can't be a folder; option: that names it."""
    check_output(path, overwrite)
    if Path(path).is_dir():
        raise InputError(f"{option} {path}: is a folder; pass a file's name")


def check_output(path: PathLike, overwrite: bool) -> None:
    """Raise InputError where a result can't be written; to be called before heavy work.

    Refused: what exists (unless `overwrite`), a folder that holds anything but numbered PNG images even then,
    a device, an address, a missing or write-protected folder above, a disk with less than 64 MiB free.
    """
    text = os.fspath(path)
    check_local(path)
    target = Path(text)
    if not text.strip() or "\0" in text:
        raise InputError(f"{text!r}: results are written to local files: pass a path")
    folder = target.absolute().parent
    if not folder.is_dir():
        raise InputError(f"{text}: there is no folder {folder}: create it or write elsewhere")
    _check_new(path, overwrite)
    if target.is_dir() and not all(re.fullmatch(r"\d+\.png", entry.name) for entry in target.iterdir()):
        raise InputError(f"{text}: holds more than numbered PNG images: write elsewhere")
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise InputError(f"{text}: is a device, pipe or socket: write to a file")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{text}: {folder} may not be written to: check its permissions")
    if shutil.disk_usage(folder).free < MIN_FREE:
        raise InputError(f"{text}: the disk is full: free {MIN_FREE >> 20} MiB or write elsewhere")


def check_new_folder(folder: Path, overwrite: bool, holds: str) -> None:
    """Raise InputError where `atomic_folder` would, as far as that is known before heavy work.

    holds: a file of every folder of this kind. `overwrite` replaces only those that have it, and empty ones:
    a folder of clips, named by mistake, must stay.
    """
    check_local(folder)
    _check_new(folder, overwrite)
    if folder.exists() and not (folder / holds).is_file() and (folder.is_file() or any(folder.iterdir())):
        raise InputError(f"{folder}: has no {holds}, so it is something else: write elsewhere, or remove it")
    above = _nearest_existing(folder.absolute().parent)
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(f"{folder}: can't be written ({above} is read-only or not a folder)")


def check_space(path: Path, needed: int) -> None:
    """Raise InputError where `needed` bytes and 64 MiB don't fit on the disk; `path` need not exist."""
    free = shutil.disk_usage(_nearest_existing(path.absolute())).free
    needed += MIN_FREE
    if free < needed:
        raise InputError(
            f"{path}: {needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free: free space or write elsewhere"
        )


def system_error(error: Exception) -> str | None:
    """The operating system's reason for an error; None for an error of another kind."""
    if isinstance(error, OSError) and not isinstance(error, TimeoutError):
        return error.strerror or str(error)
    found = re.search(r"([^:]*) \[os_error_code=", str(error))  # TensorStore raises ValueError with this text
    return found[1].strip() if found else None


def _not_regular(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "is a folder where a file is expected: not a regular file"
    return "is a device, pipe or socket, not a regular file: save its content to a file and pass that"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _raise(error: OSError) -> None:
    raise InputError(f"{error.filename}: can't be read ({error.strerror})") from error


def _check_new(path: PathLike, overwrite: bool) -> None:
    if os.path.lexists(path) and not overwrite:
        raise InputError(f"{path}: exists: pass --overwrite to replace it, or write elsewhere")


def _nearest_existing(path: Path) -> Path:
    return next(above for above in (path, *path.parents) if above.exists())


def _host() -> str:
    """A short name of this machine: process ids are unique on one machine only."""
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _remove_leftovers(target: Path) -> None:
    """Remove what killed processes of this host left of their writes to `target`, or restores the old
    target.
    """
    start, names = f".{target.name}.{_host()}-", list[str]()
    with suppress(OSError):
        names = os.listdir(target.parent)
    for name in names:
        process, dot, ending = name.removeprefix(start).partition(".")
        ours = name.startswith(start) and process.isdigit() and dot + ending in (".part", ".old")
        if not ours or _is_running(int(process)):
            continue
        if ending == "old" and not os.path.lexists(target):  # killed between its two renames
            target.with_name(name).rename(target)
        else:
            _remove(target.with_name(name))


def _is_running(process: int) -> bool:
    if process == os.getpid():
        return False  # an earlier process of the same number, as in a restarted container
    if os.name != "posix":
        return True  # elsewhere os.kill would end it
    try:
        os.kill(process, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    return True


def _sync(file: Path) -> None:
    """Force a file to the disk: some file systems report a lack of space only then."""
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
