"""What may be opened: a local file or folder, of a size that fits; nothing else ever meets a decoder."""

import os
import re
import stat
from pathlib import Path

from gencompositor_jax.errors import InputError

MAX_SIDE = 8192  # pixels: 8K video fits
DEFAULT_FPS = 24.0  # of images, and of files that state no rate
MAX_BYTES = 8 * 2**30  # of decoded frames in one read: 86 frames of 8K, most of a minute of 1080p

# "scheme:" at the start of a path (file:, http://, data:, concat:, pipe:). One letter is a Windows drive.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_PLAYLIST_NAME = re.compile(r"\.(m3u8?|mpd|(ff)?concat|pls|xspf|asx|wvx|smil|sdp|strm)$", re.IGNORECASE)
# A playlist under another name gives itself away by its first words.
_PLAYLIST_START = re.compile(
    rb"(\xef\xbb\xbf)?\s*(#EXTM3U|ffconcat|\[playlist\]|\[reference\]|v=0\s"
    rb"|(<\?xml.*?)?<(mpd|smil|asx|playlist)\b)",
    re.IGNORECASE | re.DOTALL,
)


def local_path(source: str | os.PathLike[str]) -> Path:
    """The file or folder a user named, or an InputError that says what is wrong with it. Reads at most 1 KB.

    Refused: URLs and other protocols (`http:`, `rtsp:`, `data:`, `concat:`, `file:`), playlists (by name or
    content; they make a decoder open other files and addresses), devices, pipes and sockets, and what is
    missing, empty or not readable.
    """
    text = os.fspath(source)
    if not text.strip() or "\0" in text:
        raise InputError(f"{text!r} is no path: name a video file or a folder of images")
    path = Path(text)
    try:
        status = path.stat()
    except OSError:
        status = None
    if "://" in text or (status is None and _SCHEME.match(text)):
        raise InputError(f"{text}: only local files are read: download it and pass the file's path")
    if status is None:
        raise InputError(f"{text}: no such file or folder in {_nearest_folder(path)}: check the path")
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise InputError(f"{text}: is a device, pipe or socket: save the video to a file and pass that")
    if not os.access(path, os.R_OK | (os.X_OK if stat.S_ISDIR(status.st_mode) else 0)):
        raise InputError(f"{text}: may not be read: check its permissions")
    if stat.S_ISREG(status.st_mode):
        if status.st_size == 0:
            raise InputError(f"{text}: is empty (0 bytes): export or download it again")
        _refuse_playlist(path)
    return path


def check_size(
    source: str | os.PathLike[str], width: int, height: int, frames: int = 1, channels: int = 3
) -> None:
    """Raises InputError where frames of this size would not fit, so that nothing absurd is ever allocated.

    `width`, `height` in pixels; `frames` of `channels` bytes per pixel are to be held at once.
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


def _refuse_playlist(path: Path) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}): check the file") from error
    if _PLAYLIST_NAME.search(path.name) or _PLAYLIST_START.match(head):
        raise InputError(f"{path}: is a playlist, not a video: pass the video file itself")


def _nearest_folder(path: Path) -> Path:
    """The deepest folder of a path that exists: what is wrong begins after it."""
    return next((parent for parent in path.absolute().parents if parent.is_dir()), Path("/"))
