"""From a project to what previews look at: kept clips and elements, placed by the program's own code.

Importing this module imports JAX.
"""

from collections.abc import Mapping
from typing import Any

from gencompositor_jax.app.context import Studio
from gencompositor_jax.app.previews import Preview
from gencompositor_jax.app.store import background_reader, element_reader
from gencompositor_jax.controls.footage import scene_stage
from gencompositor_jax.jobs.checking import check_clips, frames_of, sampling_arch
from gencompositor_jax.jobs.inputs import checked


def preview(studio: Studio, id: str, project: Mapping[str, Any]) -> Preview:
    """The preview of a project, made where it isn't kept. Raises InputError as a job of it would."""
    kept: Preview = studio.stages.get(id, lambda: _staged(studio, id, project))
    return kept


def _staged(studio: Studio, id: str, project: Mapping[str, Any]) -> Preview:
    inputs = studio.inputs
    job, media = checked({"project": project}, inputs, studio.service.limits, studio.media_of)
    with inputs.short_messages():
        scene, frames = job.scene, frames_of(job.scene, media)
        arch = sampling_arch(scene, studio.metadata, frames)
        check_clips(scene, frames, media)
        readers = background_reader(studio.frames), element_reader(studio.frames)
        return Preview(id, scene_stage(scene, arch, media, *readers))
