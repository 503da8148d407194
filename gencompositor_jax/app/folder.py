"""The studio's folder: clips, the queue, results. Nobody else may look into it."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gencompositor_jax.errors import InputError

PREFIX = "gencompositor-studio-"


@contextlib.contextmanager
def studio_folder(kept: str | None) -> Iterator[Path]:
    """The folder `kept`, created if need be; without one a private folder that is removed at the end.

    Raises InputError where it can't be made.
    """
    if kept is not None:
        try:
            Path(kept).mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--folder {kept}: can't be made ({error.strerror})") from error
        yield Path(kept).resolve()
        return
    _remove_leftovers(Path(tempfile.gettempdir()))
    made = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _remove_leftovers(parent: Path) -> None:
    """Removes what studios of this user that were killed have left: nobody has their lock."""
    for folder in parent.glob(PREFIX + "*"):
        with contextlib.suppress(OSError):
            status = folder.lstat()
            if status.st_uid != os.getuid() or not folder.is_dir() or folder.is_symlink():
                continue
            handle = os.open(folder / "lock", os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)
