"""Checks of jobs before any model is loaded: their clips' headers, the checkpoint's metadata, the outputs."""

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gencompositor_jax import checkpoints
from gencompositor_jax.arch import ModelArch, changed
from gencompositor_jax.checkpoints import Metadata
from gencompositor_jax.controls.element.segmenters.request import check_inside, parse_segment
from gencompositor_jax.controls.footage import frames_of, timed
from gencompositor_jax.controls.media.layer_out import check_layer_name
from gencompositor_jax.controls.media.numbering import is_pattern
from gencompositor_jax.controls.media.overwriting import check_no_input, files_of
from gencompositor_jax.controls.media.video import Media, check_clip, probe
from gencompositor_jax.controls.media.video_out import CONTAINERS
from gencompositor_jax.controls.plate.delivery import Delivery
from gencompositor_jax.controls.plate.planning import plan_scene
from gencompositor_jax.controls.scene import Scene
from gencompositor_jax.controls.shot import layer_frames
from gencompositor_jax.controls.stage import arch_for
from gencompositor_jax.errors import InputError, within
from gencompositor_jax.jobs.manifest import Line
from gencompositor_jax.jobs.report import JobFiles
from gencompositor_jax.jobs.spec import Job

THREADS = 8  # for opening files: on a shared disk that mostly waits


class Checker:
    """Checks jobs; files and checkpoints that several of them name are opened once. Any thread may call it.

    root: of the outputs. overwrite: whether outputs of other jobs are replaced.
    """

    def __init__(self, root: Path, overwrite: bool = False) -> None:
        self.root, self.overwrite = root, overwrite
        self._probed = functools.lru_cache(maxsize=1024)(probe)
        self._metadata = functools.lru_cache(maxsize=16)(checkpoints.read_metadata)

    def all(self, lines: Sequence[Line], every: Sequence[Line] | None = None) -> list[Line]:
        """The lines, with the error of each that can't be made.

        every: all lines of the manifest, whose clips no other may replace; None is `lines`.
        """
        read: dict[str, int] = {}
        for line in lines if every is None else every:
            for clip in () if line.job is None else line.job.scene.clips:
                for path in files_of(Path(clip)) if is_pattern(Path(clip).name) else [clip]:
                    read.setdefault(os.path.realpath(path), line.number)
        with ThreadPoolExecutor(THREADS) as threads:
            return list(threads.map(lambda line: self._checked(line, read), lines))

    def arch(self, scene: Scene) -> ModelArch:
        """The architecture that a scene is made with, at its number of frames.

        Raises InputError where the checkpoint lacks its prompt, or can't make a clip of that length or in so
        many steps.
        """
        source = checkpoints.packaged() if scene.checkpoint is None else scene.checkpoint
        return sampling_arch(scene, self._metadata(source), self.frames(scene))

    def frames(self, scene: Scene) -> int:
        """Frames of the result."""
        return frames_of(scene, self.clips(scene))

    def clips(self, scene: Scene) -> dict[str, Media]:
        """The probed clips of a scene by their paths."""
        return {path: self._probed(path, scene.gaps) for path in scene.clips}

    def _checked(self, line: Line, read: Mapping[str, int]) -> Line:
        if line.job is None:
            return line
        try:
            scene, files = line.job.scene, JobFiles.of(line.job, self.root)
            delivery = self.delivery(line.job)
            self._check_output(files, line.digest, own=delivery is not None and delivery.out is not None)
            if line.job.layer and delivery is None:
                check_layer_name(files.layer, option="layer")
            if line.job.save_element:
                check_layer_name(files.element, option="save_element")
            check_no_input(files.all, scene.clips)
            if files.report_of(line.digest) is None:
                _check_others(files, line.number, read)
            self.arch(scene)
            check_clips(scene, self.frames(scene), self.clips(scene))
        except InputError as error:
            return dataclasses.replace(line, job=None, error=" ".join(str(error).split()))
        return line

    def delivery(self, job: Job) -> Delivery | None:
        """What a job writes with the plate's own values. Raises InputError where that can't be."""
        files, scene = JobFiles.of(job, self.root), job.scene
        layer = str(files.layer) if job.layer else None
        media = self._probed(scene.background, scene.gaps)
        return plan_scene(scene, media, str(files.video), layer, overwrite=True)

    def _check_output(self, files: JobFiles, digest: str, own: bool) -> None:
        if not own and not files.is_folder and files.video.suffix.lower() not in CONTAINERS:
            raise InputError(f"out: {files.video}: not a video format; use {', '.join(CONTAINERS)}")
        if files.begun_by(digest) is None and not self.overwrite:
            for file in files.existing[:1]:
                raise InputError(
                    f"out: {file}: exists, made by something else than this line; pass --overwrite to "
                    "replace it"
                )


def _check_others(files: JobFiles, number: int, read: Mapping[str, int]) -> None:
    """Raises InputError where a line would replace what another line reads. read: lines by their clips."""
    for file in files.all:
        for path in (real := os.path.realpath(file), *_inside(real)):
            if read.get(path, number) != number:
                raise InputError(f"out: {file}: line {read[path]} reads it: write elsewhere")


def _inside(folder: str) -> list[str]:
    """The entries of an image folder, or the files of a pattern, that would be replaced."""
    if os.path.isdir(folder):
        return [entry.path for entry in os.scandir(folder)]
    return [os.path.realpath(path) for path in files_of(Path(folder))[1:]]


def sampling_arch(scene: Scene, metadata: Metadata, frames: int) -> ModelArch:
    """The architecture that a scene of so many frames is made with.

    Raises InputError where the checkpoint lacks its prompt, or a clip of that length can't be made.
    """
    checkpoints.check_prompt(scene.sampling.prompt, metadata.prompts)
    arch = arch_for(changed(metadata.arch, scene.changes), frames)
    scene.sampling.schedule(arch.diffusion)
    return arch


def check_clips(scene: Scene, frames: int, media: Mapping[str, Media]) -> None:
    """Raises InputError where clips of a scene are too short for so many frames, or a mask has another size
    than its clip. media: the probed clips by their paths.
    """
    scene, background = timed(scene, media), media[scene.background]
    if scene.remove is not None:
        _check_size(media[scene.remove], background)
    rate = check_clip(background, fps=scene.fps, start=scene.start, end=scene.end, frames=frames)
    for i, layer in enumerate(scene.layers):
        with within(f"layers[{i}]"):
            own = layer_frames(layer.in_frame, layer.out_frame, frames)
        element = media[layer.foreground]
        if element.frames > 1 and layer.extend == "error":
            check_clip(element, fps=rate, frames=len(own))
        if layer.segment is not None:
            check_inside(parse_segment(layer.segment), element.width, element.height, str(element.path))
        if layer.mask is not None:
            _check_size(media[layer.mask], element)


def _check_size(mask: Media, clip: Media) -> None:
    if (mask.width, mask.height) != (clip.width, clip.height):
        raise InputError(
            f"{mask.path}: {mask.width}x{mask.height} pixels, {clip.path} has {clip.width}x{clip.height}; "
            "pass a mask clip of the same size"
        )
