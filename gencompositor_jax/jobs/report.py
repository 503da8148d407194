"""The files of a finished job: the video, and beside it a report and the project file.

street/bird.mp4         the frames; a folder of PNG images if the name has no ending; or bird.####.exr
street/bird.png         the contact sheet of a service's job
street/bird.json        settings, seconds, versions; written last, so a job is done where it is
street/bird.scene.json  the project file, for `gencompositor compose --project`
street/bird.layer.mov   the edit as a layer (ProRes 4444), where the job asks for it and names no file
street/bird.element.mov the element that was cut out, likewise
"""

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gencompositor_jax.controls.media.numbering import bare, is_sequence
from gencompositor_jax.controls.media.overwriting import files_of
from gencompositor_jax.controls.media.video_out import write_image_folder, write_video
from gencompositor_jax.controls.record import WORKING, Pixels, Record
from gencompositor_jax.controls.scene import read_scene, write_scene
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import atomic_write_text, read_json
from gencompositor_jax.versions import versions

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from gencompositor_jax.controls.plate.delivery import Delivery
    from gencompositor_jax.controls.stage import Stage
    from gencompositor_jax.inference.rendering import Composite
    from gencompositor_jax.jobs.spec import Job


@dataclasses.dataclass(frozen=True)
class JobFiles:
    """The files of one job, named after its video or its pattern of images."""

    video: Path
    given_layer: Path | None = None
    given_element: Path | None = None

    @classmethod
    def of(cls, job: "Job", root: Path) -> "JobFiles":
        """Those of a job below the folder of all outputs."""
        given = (root / name if isinstance(name, str) else None for name in (job.layer, job.save_element))
        return cls(root / job.out, *given)

    @property
    def is_folder(self) -> bool:
        """Whether images are written instead of a video."""
        return not self.video.suffix

    @property
    def is_sequence(self) -> bool:
        """Whether images are written under numbered names."""
        return is_sequence(self.video)

    def _beside(self, ending: str) -> Path:
        name = (bare(self.video.name) or "out") if self.is_sequence else self.video.stem
        return self.video.with_name(name + ending)

    @property
    def report(self) -> Path:
        """The report."""
        return self._beside(".json")

    @property
    def latents(self) -> Path:
        """What was sampled of a long clip, until all is written."""
        return self._beside(".latents.npz")

    @property
    def project(self) -> Path:
        """The project file."""
        return self._beside(".scene.json")

    @property
    def sheet(self) -> Path:
        """The contact sheet."""
        return self._beside(".png")

    @property
    def layer(self) -> Path:
        """The edit as a layer."""
        return self.given_layer or self._beside(".layer.mov")

    @property
    def element(self) -> Path:
        """The element as a clip."""
        return self.given_element or self._beside(".element.mov")

    @property
    def all(self) -> tuple[Path, ...]:
        """All of them that a job may name, and those that it always has."""
        given = [path for path in (self.given_layer, self.given_element) if path is not None]
        return self.video, self.project, self.report, *given

    @property
    def existing(self) -> list[Path]:
        """The files of the result that are there."""
        found = files_of(self.video)[1:] if self.is_sequence else [self.video]
        return [path for path in (*found, self.report) if path.exists()]

    def begun_by(self, digest: str) -> dict[str, Any] | None:
        """The report of the job with this digest if `write` has begun to write its files."""
        if not self.report.is_file():
            return None
        try:
            found = read_json(self.report)
        except InputError:
            return None
        return found if isinstance(found, dict) and found.get("job") == digest else None

    def report_of(self, digest: str) -> dict[str, Any] | None:
        """The report of the job with this digest if it is done: `write` has written everything, the result
        has the bytes that it had then, and the project file is of this model's weights.
        """
        found = self.begun_by(digest)
        if found is None or "seconds" not in found or self.existing == [self.report]:
            return None
        if found.get("bytes", size := _size_of(self.video)) != size or not self._is_of_these_weights():
            return None
        return found

    def _is_of_these_weights(self) -> bool:
        if not self.project.exists():
            return True
        try:
            scene = read_scene(self.project)
            return scene.record is None or scene.record.weights == _weights(scene.checkpoint)
        except (InputError, OSError):
            return False


def write(
    files: JobFiles,
    job: "Job",
    stage: "Stage",
    composite: "Composite",
    facts: Mapping[str, Any],
    delivery: "Delivery | None" = None,
) -> None:
    """Writes everything, each file whole or not at all; existing ones are replaced, and folders made.

    facts: with `job`, the digest by which a later run recognises the files, and `seconds`. delivery: what is
    written with the plate's own values. Raises InputError where that fails, as on a full disk.
    """
    for folder in {path.parent for path in files.all}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: can't be made ({error.strerror})") from error
    # A killed process leaves a video that the next one may replace, since the report names its job.
    atomic_write_text(files.report, json.dumps({"job": facts["job"]}) + "\n")
    more: dict[str, Any] = {}
    if delivery is not None:
        from gencompositor_jax.inference.delivering import deliver  # imports JAX

        delivery = delivery.of_frames(len(stage.background.frames))
        more = deliver(delivery, composite, stage, job.scene.sampling.feather, lambda done, count: None)
    if delivery is None or delivery.out is None:
        _write_viewing_copy(files, job, stage, composite)
    if job.layer and delivery is None:
        from gencompositor_jax.jobs.beside import write_edit_layer  # imports JAX

        write_edit_layer(files.layer, composite, stage, overwrite=True)
    if job.save_element:
        from gencompositor_jax.jobs.beside import write_element_clips  # imports JAX

        for _ in write_element_clips(files.element, stage, overwrite=True):
            pass
    write_scene(files.project, job.scene)
    report = {**facts, **more, "bytes": _size_of(files.video)}
    atomic_write_text(files.report, json.dumps(report, indent=2) + "\n")


def _write_viewing_copy(files: JobFiles, job: "Job", stage: "Stage", composite: "Composite") -> None:
    if files.is_folder:
        write_image_folder(files.video, composite.frames, overwrite=True)
        return
    write_video(
        files.video,
        composite.frames,
        composite.fps,
        audio_from=job.scene.background,
        audio_start=stage.background.start,
        overwrite=True,
    )


def _size_of(path: Path) -> int:
    """Bytes of a file, of the files in a folder, or of those of a pattern."""
    files = path.iterdir() if path.is_dir() else files_of(path)[1:] if is_sequence(path) else [path]
    return sum(file.stat().st_size for file in files)


def record_of(
    checkpoint: str | None,
    mesh: "Mesh",
    stage: "Stage",
    pixels: Pixels,
    delivery: "Delivery | None" = None,
) -> Record:
    """The record of a result for its project file. pixels: of the background."""
    background = stage.background
    return Record(
        weights=_weights(checkpoint),
        versions=versions(),
        device=devices(mesh)["device"],
        frames=(background.numbers[0], background.numbers[-1]),
        size=(background.frames.shape[2], background.frames.shape[1]),
        fps=background.fps,
        plate=pixels,
        result=WORKING if delivery is None else delivery.result,
    )


def facts_of(composite: "Composite", mesh: "Mesh") -> dict[str, Any]:
    """The entries of a report that every job has."""
    return {
        "settings": composite.settings,
        "transferred": [round(share, 3) for share in composite.transferred],
        "seconds": {name: round(value, 3) for name, value in composite.seconds.items()},
        "versions": versions(),
        **devices(mesh),
    }


@functools.lru_cache(maxsize=16)
def _weights(checkpoint: str | None) -> str:
    """Of a loaded checkpoint; without a manifest all of its files are read."""
    from gencompositor_jax import checkpoints

    return checkpoints.weights_hash(checkpoints.packaged() if checkpoint is None else Path(checkpoint))


def devices(mesh: "Mesh") -> dict[str, Any]:
    """The devices that the network ran on, and the axes of their mesh."""
    found = mesh.devices.flat
    sizes = {axis: size for axis, size in mesh.shape.items() if size > 1}
    return {"device": f"{len(found)} x {found[0].device_kind}", "mesh": sizes}
