"""Which files a job may read: uploads of its own, and files below the one folder that a service allows."""

import contextlib
import dataclasses
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from gencompositor_jax.controls.media.codecs import VIEWING
from gencompositor_jax.controls.media.images import Gaps
from gencompositor_jax.controls.media.video import Media, probe
from gencompositor_jax.errors import InputError
from gencompositor_jax.jobs.limits import Limits
from gencompositor_jax.jobs.spec import Job, job_of
from gencompositor_jax.jobs.uploads import composed

UPLOAD = "upload:"
OUT = "result.mp4"  # the result's name in the folder of a job
_VIEWING = "the service writes a viewing copy"
# Fields of a job that a service has itself, and why.
OWN = {
    "out": "the service names it",
    "checkpoint": "the service has one model",
    "save_element": _VIEWING,
    "codec": _VIEWING,
    "exr_layers": _VIEWING,
    "output_colour": _VIEWING,
}


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The files that one job may read; call it with a path as the client wrote it.

    `upload:street.mp4` is an uploaded file. Other paths are relative to `root`, or absolute and below it.
    Links are followed first; what they lead to must be a regular file, or a folder of regular files, below
    the same folder. A project file may name files beside it.
    """

    root: Path | None  # None: uploads only
    uploads: Path  # a folder with the job's own files; it need not exist

    def __call__(self, named: str) -> str:
        """The file's real path. Raises InputError, the same for a file that doesn't exist as for one that
        may not be read.
        """
        if named.startswith(UPLOAD):
            path, base, remedy = (
                self.uploads / composed(named.removeprefix(UPLOAD)),
                self.uploads,
                "send it with the job",
            )
        elif Path(named).is_relative_to(self.uploads):  # beside an uploaded project file
            path, base, remedy = Path(named), self.uploads, "send it with the job"
        elif self.root is None:
            raise InputError(
                f"{named!r}: this service reads uploads only; send the file and write {UPLOAD}NAME"
            )
        else:
            path, base, remedy = self.root / named, self.root, "check the path"
        found = _real(path, base.resolve())
        if found is None:
            where = "among the uploads" if base is self.uploads else "in the service's folder"
            raise InputError(f"{self.shortened(named)!r}: no such file {where}; {remedy}")
        return str(found)

    def shortened(self, message: str) -> str:
        """A message without the service's own folders in it."""
        for base, short in ((self.uploads, UPLOAD), (self.root, "")):
            if base is not None:
                for folder in {str(base), str(base.resolve())}:
                    message = message.replace(folder + os.sep, short)
        return message

    @contextlib.contextmanager
    def short_messages(self) -> Iterator[None]:
        """Shortens the messages of InputErrors."""
        try:
            yield
        except InputError as error:
            raise type(error)(self.shortened(str(error))) from error


def checked(
    request: object, inputs: Inputs, limits: Limits, probed: Callable[[str, Gaps], Media] = probe
) -> tuple[Job, dict[str, Media]]:
    """The job that a client's fields describe, if a service may run it, and its probed clips by their paths.

    probed: in place of `probe`, for whoever keeps what it returns. Raises InputError naming the field or the
    file, the job's or the limit's.
    """
    from gencompositor_jax.jobs.checking import frames_of  # imports JAX

    if isinstance(request, dict):
        for name, why in OWN.items():
            if name in request:
                raise InputError(f"{name}: {why}; leave the field out")
        if isinstance(request.get("layer"), str):
            raise InputError("layer: the service names it; pass true or false")
        request = {**request, "out": OUT}
    with inputs.short_messages():
        job = job_of(request, inputs)
        if job.scene.checkpoint is not None:
            raise InputError("project: it has a checkpoint, the service has one model; set it to null")
        if job.scene.codec not in VIEWING or job.scene.exr_layers or job.scene.output_colour:
            raise InputError(
                f"project: codec, exr_layers, output_colour: {_VIEWING}; set them to null, false and null"
            )
        if job.scene.passes > limits.layers:
            raise InputError(
                f"project: {job.scene.passes} layers, the service's limit is {limits.layers}; use fewer"
            )
        _check_frames(job.scene.frames or 0, limits)
        media = {clip: probed(clip, job.scene.gaps) for clip in job.scene.clips}
        for clip, found in media.items():
            if found.width * found.height > limits.megapixels * 1e6:
                raise InputError(
                    f"{clip}: frames of {found.width}x{found.height} pixels, the service's limit is "
                    f"{limits.megapixels:g} megapixels; scale it down"
                )
        _check_frames(frames_of(job.scene, media), limits)
    return job, media


def _check_frames(frames: int, limits: Limits) -> None:
    if frames > limits.frames:
        raise InputError(f"frames: {frames}, the service's limit is {limits.frames}; ask for fewer")


def _real(path: Path, base: Path) -> Path | None:
    """The path without links, if it is a regular file, or a folder of such, below `base`; else None."""
    try:
        found = path.resolve(strict=True)
        if found == base or not found.is_relative_to(base):
            return None
        mode = found.stat().st_mode
        if stat.S_ISDIR(mode):
            return found if all(_is_inside(Path(entry), base) for entry in os.scandir(found)) else None
        return found if stat.S_ISREG(mode) else None
    except (OSError, ValueError, RuntimeError):  # missing, too long, with a NUL, a loop of links
        return None


def _is_inside(entry: Path, base: Path) -> bool:
    """Whether an entry of a folder is a file or folder below `base`; dangling links are not."""
    found = entry.resolve(strict=True)
    return found.is_relative_to(base) and (found.is_file() or found.is_dir())
