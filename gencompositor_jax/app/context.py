"""What the studio's routes share: its clips, what it keeps of them, and the service that runs jobs."""

import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from gencompositor_jax.app.clips import Clips
from gencompositor_jax.app.elements import Cutting
from gencompositor_jax.app.store import Store, element_reader, kept_frames
from gencompositor_jax.app.videos import Videos
from gencompositor_jax.controls.element.element import Cutout
from gencompositor_jax.controls.media.images import Gaps
from gencompositor_jax.controls.media.video import Media, probe
from gencompositor_jax.jobs.inputs import Inputs
from gencompositor_jax.jobs.service import Service
from gencompositor_jax.jobs.table import Entry

if TYPE_CHECKING:
    from gencompositor_jax.checkpoints import Metadata

PICTURES = 2**26  # bytes of encoded frames
STAGES = 2**30  # bytes of the frames that previews hold
REMEMBERED = 256  # elements and previews that a URL can name


class Forgotten(Exception):
    """An id that was given out once, or never."""


@dataclasses.dataclass(frozen=True)
class Studio:
    """The parts of a studio."""

    service: Service
    clips: Clips
    videos: Videos
    checkpoint: str | None  # None: the embedded model
    kept: bool  # whether its folder outlives the process
    frames: Store = dataclasses.field(default_factory=kept_frames)
    pictures: Store = dataclasses.field(default_factory=lambda: Store(PICTURES, len))
    stages: Store = dataclasses.field(default_factory=lambda: Store(STAGES, lambda preview: preview.size))
    asked: Store = dataclasses.field(default_factory=lambda: Store(REMEMBERED, lambda _: 1))

    @property
    def inputs(self) -> Inputs:
        """Which files projects may name: the clips."""
        return Inputs(self.clips.root, self.service.incoming / "none")

    @functools.cached_property
    def metadata(self) -> "Metadata":
        """Of the model; imports JAX, reads no weights."""
        from gencompositor_jax import checkpoints

        return checkpoints.read_metadata(self.checkpoint or checkpoints.packaged())

    def media_of(self, path: str, gaps: Gaps = "hold") -> Media:
        """The probed clip at a resolved path."""
        name = self.clips.shortened(path)
        clip = next((clip for clip in self.clips.all() if clip.path == name), None)
        return probe(path, gaps) if clip is None or gaps != "hold" else self.clips.media(clip)

    def resolved(self, named: str) -> Media:
        """The probed clip that a project names. Raises InputError."""
        with self.inputs.short_messages():
            return self.media_of(self.inputs(named))

    def in_use(self) -> set[str]:
        """Paths of the clips that jobs which wait or run need."""
        paths = {clip.path for clip in self.clips.all()}
        waiting = [self.service.queue.newest(self.service.limits.queue, "queued")]
        waiting.append(self.service.queue.newest(100, "running"))
        return {text for jobs in waiting for job in jobs for text in _texts(job.request) if text in paths}

    def sweep(self) -> None:
        """Removes the clips that haven't been used for long."""
        self.clips.sweep(time.time() - 3600 * self.service.limits.keep_hours, self.in_use())

    def note_use(self, entry: Entry) -> None:
        """Keeps the clips of a job as long as its result."""
        if entry.state in ("queued", "done"):
            self.clips.use(set(_texts(entry.request)))

    def remember(self, what: str, value: Mapping[str, Any], given: Any) -> str:
        """An id under which `recall` finds what was asked for; the same for the same clips and fields."""
        clips = sorted((clip.path, clip.id) for clip in self.clips.all() if clip.path in set(_texts(value)))
        text = json.dumps([what, value, clips], sort_keys=True)
        id = hashlib.sha256(text.encode()).hexdigest()[:24]
        self.asked.get((what, id), lambda: given)
        return id

    def recall(self, what: str, id: str) -> Any:
        """What was asked for under an id. Raises Forgotten."""

        def missing() -> Any:
            raise Forgotten(f"no {what} {id[:40]!r}; it was forgotten: ask for it again")

        return self.asked.get((what, id), missing)

    def element(self, cutting: Cutting) -> Cutout:
        """An element. Raises InputError where it can't be cut out."""
        from gencompositor_jax.controls.footage import cut_of  # imports JAX

        with self.inputs.short_messages():
            layer = cutting.layer
            names = [layer.foreground] + ([] if layer.mask is None else [layer.mask])
            media = {name: self.resolved(name) for name in names}
            read = element_reader(self.frames)
            return read(media[layer.foreground], fps=cutting.fps, end=cutting.end, **cut_of(layer, media))


def _texts(value: Any) -> Iterator[str]:
    """All texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
