"""What may be opened: local files and folders of a size that fits in memory. Checked before any decoder."""

import os
import re
import stat
from pathlib import Path

from gencompositor_jax.controls.media.numbering import is_pattern
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import PathLike

MAX_SIDE = 8192  # pixels; 8K video fits
DEFAULT_FPS = 24.0  # of images, and of files that state no rate
MAX_BYTES = 8 * 2**30  # of decoded frames in one read: 86 frames of 8K, or 58 s of 1080p at 24 fps

# "scheme:" at the start of a path (file:, http://, data:, concat:, pipe:); one letter is a Windows drive.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_PLAYLIST_NAME = re.compile(r"\.(m3u8?|mpd|(ff)?concat|pls|xspf|asx|wvx|smil|sdp|strm)$", re.IGNORECASE)
# The first bytes of playlists, whatever their name.
_PLAYLIST_START = re.compile(
    rb"(\xef\xbb\xbf)?\s*(#EXTM3U|ffconcat|\[playlist\]|\[reference\]|v=0\s"
    rb"|(<\?xml.*?)?<(mpd|smil|asx|playlist)\b)",
    re.IGNORECASE | re.DOTALL,
)
# The first bytes of ZIP, gzip, bzip2, xz, 7z and RAR.
_ARCHIVES = (b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf\x27\x1c", b"Rar!")


def local_path(source: PathLike) -> Path:
    """The file or folder a user named, or the pattern of files in a folder, if it may be opened.

    Reads at most 1 KB of it.

    InputError for URLs and other protocols (`http:`, `rtsp:`, `data:`, `concat:`, `file:`), playlists (by
    name or content; a decoder would open the files and addresses in them), devices, pipes and sockets, and
    for what is missing, empty or not readable.
    """
    text = os.fspath(source)
    if not text.strip() or "\0" in text:
        raise InputError(f"{text!r} is not a path: pass a video file or a folder of images")
    path = Path(text)
    try:
        status = path.stat()
    except OSError:
        status = None
    if "://" in text or (status is None and _SCHEME.match(text)):
        raise InputError(f"{text}: only local files are read: download it and pass the path of the file")
    if status is None and is_pattern(path.name) and path.parent.is_dir():
        return path
    if status is None:
        raise InputError(f"{text}: no such file or folder in {_nearest_folder(path)}: check the path")
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise InputError(f"{text}: is a device, pipe or socket: save the video to a file and pass its path")
    if not os.access(path, os.R_OK | (os.X_OK if stat.S_ISDIR(status.st_mode) else 0)):
        raise InputError(f"{text}: may not be read: check its permissions")
    if stat.S_ISREG(status.st_mode):
        if status.st_size == 0:
            raise InputError(f"{text}: is empty (0 bytes): export or download it again")
        _refuse_other_kinds(path)
    return path


def check_size(source: PathLike, width: int, height: int, frames: int = 1, channels: int = 3) -> None:
    """Raise InputError if `frames` of this size in pixels, `channels` bytes each, exceed the limits.

    Called before the frames are allocated.
    """
    if width < 1 or height < 1:
        raise InputError(f"{source}: frames of {width}x{height} pixels: the file is damaged, export it again")
    if max(width, height) > MAX_SIDE:
        raise InputError(
            f"{source}: frames of {width}x{height} pixels: the limit is {MAX_SIDE}x{MAX_SIDE}, scale it down"
        )
    size = width * height * channels * frames
    if size > MAX_BYTES:
        fit = MAX_BYTES // (width * height * channels)
        raise InputError(
            f"{source}: {frames} frames of {width}x{height} need {size / 2**30:.1f} GiB, the limit is "
            f"{MAX_BYTES // 2**30} GiB: pass --frames {fit} or less, or scale it down"
        )


def _refuse_other_kinds(path: Path) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}): check the file") from error
    if _PLAYLIST_NAME.search(path.name) or _PLAYLIST_START.match(head):
        raise InputError(f"{path}: is a playlist, not a video: pass the video file itself")
    if head.startswith(_ARCHIVES) or head[257:262] == b"ustar":
        raise InputError(f"{path}: is an archive, not a video: unpack it and pass what is inside")


def _nearest_folder(path: Path) -> Path:
    """The deepest folder of a path that exists."""
    return next((parent for parent in path.absolute().parents if parent.is_dir()), Path("/"))
