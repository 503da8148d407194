"""The studio's clips: files that were uploaded, each under one name below one folder.

A clip has an id, which is random and stands in URLs, and a path, which stands in projects: its file name,
with a number where another clip has that name. The table of both is a JSON file beside the folder.
"""

import dataclasses
import json
import secrets
import shutil
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from gencompositor_jax.app.names import of_sequence, unused
from gencompositor_jax.controls.media.images import ImageSequence, is_image
from gencompositor_jax.controls.media.video import Media, probe
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import atomic_write_text, read_json
from gencompositor_jax.jobs.uploads import Uploads

MOST = 500  # clips
LONGEST = 4000  # images of a sequence


class NoClip(Exception):
    """There is no such clip."""


class InUse(Exception):
    """The clip can't be removed yet."""


@dataclasses.dataclass(frozen=True)
class Clip:
    """An uploaded clip."""

    id: str
    path: str  # below the folder of all clips
    name: str  # as it was uploaded, made safe
    used: float  # Unix seconds: when it was uploaded, or a job last named it


class Clips:
    """The clips in `folder / "clips"`. Any thread may call any method."""

    def __init__(self, folder: Path, megapixels: float) -> None:
        """megapixels: the limit of a frame."""
        self.root, self._table = folder / "clips", folder / "clips.json"
        self.root.mkdir(mode=0o700, exist_ok=True)
        self._megapixels = megapixels
        self._lock = threading.Lock()
        self._clips = self._read()
        self._probed: dict[str, Media] = {}

    def add(self, uploads: Uploads) -> Clip:
        """Takes the complete files of an upload: a video, a picture, or the images of a sequence.

        Raises InputError where they aren't one clip, with nothing left of them.
        """
        names = sorted(uploads.digests)
        if len(names) > 1 and (others := [name for name in names if not is_image(Path(name))]):
            raise InputError(f"{others[0]}: several files are a sequence of images; send a video by itself")
        name = names[0] if len(names) == 1 else of_sequence(names)
        return self._moved(name, uploads.folder / name if len(names) == 1 else uploads.folder)

    def take(self, name: str, made: Path) -> Clip:
        """Takes a file or folder that the program has made itself."""
        return self._moved(name, made)

    def get(self, id: str) -> Clip:
        """A clip by its id. Raises NoClip."""
        with self._lock:
            if id not in self._clips:
                raise NoClip(f"no clip {id[:40]!r}; it was removed: upload it again")
            return self._clips[id]

    def all(self) -> list[Clip]:
        """All clips, the newest first."""
        with self._lock:
            return list(self._clips.values())[::-1]

    def named(self, name: str) -> Clip | None:
        """The newest clip of a path or name."""
        return next((clip for clip in self.all() if name in (clip.path, clip.name)), None)

    def file(self, clip: Clip) -> Path:
        """The file or folder of a clip."""
        return self.root / clip.path

    def media(self, clip: Clip) -> Media:
        """The probed clip. Raises InputError without the studio's folder in the message."""
        found = self._probed.get(clip.id)
        if found is None:
            try:
                found = probe(self.file(clip))
            except InputError as error:
                raise InputError(self.shortened(str(error))) from error
            self._probed[clip.id] = found
        return found

    def shortened(self, message: str) -> str:
        """A message without the studio's folder in it."""
        return message.replace(f"{self.root}/", "")

    def use(self, paths: Collection[str]) -> None:
        """Notes that the clips of these paths are used now."""
        now = time.time()
        with self._lock:
            for id, clip in self._clips.items():
                if clip.path in paths:
                    self._clips[id] = dataclasses.replace(clip, used=now)
            self._write()

    def remove(self, id: str, in_use: Collection[str]) -> None:
        """Removes a clip. Raises NoClip, or InUse where its path is among `in_use`."""
        clip = self.get(id)
        if clip.path in in_use:
            raise InUse(f"{clip.path}: a job that waits or runs needs it; cancel the job first")
        with self._lock:
            self._clips.pop(id, None)
            self._probed.pop(id, None)
            self._write()
        file = self.file(clip)
        if file.is_dir():
            shutil.rmtree(file, ignore_errors=True)
        else:
            file.unlink(missing_ok=True)

    def sweep(self, before: float, in_use: Collection[str]) -> None:
        """Removes clips that were last used before a time in Unix seconds."""
        for clip in self.all():
            if clip.used < before and clip.path not in in_use:
                self.remove(clip.id, in_use)

    def _moved(self, name: str, source: Path) -> Clip:
        with self._lock:
            if len(self._clips) >= MOST:
                raise InputError(f"{name}: the studio has {MOST} clips, the limit; remove some")
            path = unused(name, {clip.path for clip in self._clips.values()})
            clip = Clip(secrets.token_hex(8), path, name, time.time())
            target = self.root / path
            if target.exists():  # of a process that was killed
                shutil.rmtree(target, ignore_errors=True) if target.is_dir() else target.unlink()
            source.rename(target)
            self._clips[clip.id] = clip
        try:
            media = self.media(clip)
            if media.width * media.height > self._megapixels * 1e6:
                raise InputError(
                    f"{path}: frames of {media.width}x{media.height} pixels, the limit is "
                    f"{self._megapixels:g} megapixels; scale it down"
                )
        except BaseException:
            self.remove(clip.id, ())
            raise
        with self._lock:
            self._write()
        return clip

    def _read(self) -> dict[str, Clip]:
        if not self._table.exists():
            return {}
        found: Any = read_json(self._table)
        clips = [Clip(**row) for row in found]
        return {clip.id: clip for clip in clips if (self.root / clip.path).exists()}

    def _write(self) -> None:
        rows = [dataclasses.asdict(clip) for clip in self._clips.values()]
        atomic_write_text(self._table, json.dumps(rows))


def facts(clip: Clip, media: Media, size: int) -> dict[str, Any]:
    """A clip as the page sees it. size: of its files in bytes."""
    kind = "video"
    if isinstance(media, ImageSequence):
        kind = "image" if media.frames == 1 else "images"
    return {
        "id": clip.id,
        "path": clip.path,
        "name": clip.name,
        "kind": kind,
        "frames": media.frames,
        "fps": media.fps,
        "seconds": round(media.frames / media.fps, 4),
        "width": media.width,
        "height": media.height,
        "has_alpha": media.has_alpha,
        "has_audio": media.has_audio,
        "bytes": size,
    }
