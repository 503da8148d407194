"""The models of a service: one `Compositor` per device, or per mesh of devices, loaded at its first job."""

import dataclasses
import functools
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gencompositor_jax.arch import Weights
from gencompositor_jax.controls.media.video import Media
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import atomic_write
from gencompositor_jax.inference.timer import Timer
from gencompositor_jax.jobs.spec import Job
from gencompositor_jax.jobs.workers import OnStep

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from gencompositor_jax.checkpoints import Metadata
    from gencompositor_jax.compositor import Compositor

# Compiled programs that a process keeps. Clients choose shapes, and each has programs of its own.
MAX_PROGRAMS = 32
LATENTS = "latents.npz"
ESTIMATE = "estimate.webp"


class Models:
    """Runs jobs with one checkpoint. JAX is imported when the devices are first asked for."""

    def __init__(
        self,
        checkpoint: str | None = None,
        weights: Weights | None = None,
        mesh: Mapping[str, int] | None = None,
        estimates: bool = False,
    ) -> None:
        """mesh: of the devices that run one job; None is one device each. estimates: whether a frame of the
        present estimate is written to the job's folder before each step is reported.
        """
        self.estimates = estimates
        self.checkpoint, self.weights, self.mesh = checkpoint, weights, mesh
        self._lock = threading.Lock()
        self._loaded: dict[str, Compositor] = {}

    def devices(self) -> Sequence[str]:
        """The devices of this process, or meshes of them, each of which runs one job."""
        return list(self._meshes)

    def check(self, job: Job, media: Mapping[str, Media]) -> None:
        """Raises InputError where the checkpoint lacks what the job asks for, or a clip is too short.

        Reads no weights. media: the job's probed clips by their paths.
        """
        from gencompositor_jax.jobs.checking import check_clips, frames_of, sampling_arch

        if job.scene.weights is not None and job.scene.weights != self.weights:
            raise InputError(f"weights: {job.scene.weights}; the service runs its own, leave the field out")
        frames = frames_of(job.scene, media)
        sampling_arch(job.scene, self._metadata, frames)
        check_clips(job.scene, frames, media)

    def run(self, device: str, job: Job, media: Mapping[str, Media], folder: Path, on_step: OnStep) -> None:
        """Writes the video to `folder / job.out`, and beside it a contact sheet and what `report` lists."""
        from gencompositor_jax.controls.footage import scene_stage
        from gencompositor_jax.controls.media.sheet import contact_sheet, write_png
        from gencompositor_jax.controls.plate.description import describe
        from gencompositor_jax.jobs.beside import sheet_rows
        from gencompositor_jax.jobs.report import JobFiles, facts_of, record_of, write

        compositor = self._changed(self._compositor(device), job)
        timer = Timer()
        with timer("read"):
            stage = scene_stage(job.scene, compositor.arch, media)
        on_estimate = functools.partial(_write_estimate, folder / ESTIMATE) if self.estimates else None
        composite = compositor.render(
            stage,
            job.scene.sampling,
            latents=folder / LATENTS,
            progress=on_step,
            on_estimate=on_estimate,
        )
        composite = dataclasses.replace(composite, seconds=timer.seconds | composite.seconds)
        facts = {"command": "serve", "job": folder.name, **facts_of(composite, compositor.mesh)}
        pixels = describe(media[job.scene.background], job.scene.plate_colour)
        record = record_of(self.checkpoint, compositor.mesh, stage, pixels)
        job = dataclasses.replace(job, scene=dataclasses.replace(job.scene, record=record))
        files = JobFiles(folder / job.out)
        write_png(files.sheet, contact_sheet(sheet_rows(composite, stage)), overwrite=True)
        write(files, job, stage, composite, facts)
        for name in (LATENTS, ESTIMATE):
            (folder / name).unlink(missing_ok=True)
        _forget_programs()

    @functools.cached_property
    def _meshes(self) -> "dict[str, Mesh]":
        from gencompositor_jax.inference import meshes

        return {_name(mesh): mesh for mesh in meshes.equal_meshes(self.mesh or {})}

    @functools.cached_property
    def _metadata(self) -> "Metadata":
        from gencompositor_jax import checkpoints

        return checkpoints.read_metadata(self.checkpoint or checkpoints.packaged())

    def _compositor(self, device: str) -> "Compositor":
        from gencompositor_jax.compositor import Compositor

        with self._lock:  # one after the other: the host holds one more copy while it loads
            if device not in self._loaded:
                self._loaded[device] = Compositor.load(
                    self.checkpoint, weights=self.weights, mesh=self._meshes[device]
                )
            return self._loaded[device]

    def _changed(self, compositor: "Compositor", job: Job) -> "Compositor":
        """The same weights with the job's changes of the architecture."""
        from gencompositor_jax.arch import changed
        from gencompositor_jax.compositor import Compositor

        arch = changed(compositor.arch, job.scene.changes)
        if arch == compositor.arch:
            return compositor
        return Compositor(dataclasses.replace(compositor.model, arch=arch), compositor.source)


def _write_estimate(path: Path, picture: np.ndarray) -> None:
    from PIL import Image

    with atomic_write(path, overwrite=True) as part:
        Image.fromarray(picture).save(part, "WEBP", quality=85)


def _name(mesh: "Mesh") -> str:
    """cpu:0, or tpu:0-3 for a mesh of several devices."""
    first, *_, last = [*mesh.devices.flat] * 2
    numbers = f"{first.id}" if mesh.size == 1 else f"{first.id}-{last.id}"
    return f"{first.platform}:{numbers}"


def _forget_programs() -> None:
    """Frees the compiled programs once there are many; JAX's cache on disk still has them."""
    import jax

    from gencompositor_jax.inference import pipeline

    programs: Any = pipeline.advance
    if programs._cache_size() > MAX_PROGRAMS:
        jax.clear_caches()
