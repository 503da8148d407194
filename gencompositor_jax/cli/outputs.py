"""The files of a run: a video or images, and beside it the contact sheet, the report and the project file."""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gencompositor_jax.controls.media.numbering import bare, is_sequence

if TYPE_CHECKING:
    from gencompositor_jax.controls.media.frames import Frames
    from gencompositor_jax.controls.media.video import Footage
    from gencompositor_jax.controls.plate.delivery import Delivery
    from gencompositor_jax.controls.scene import Scene
    from gencompositor_jax.controls.stage import Stage
    from gencompositor_jax.inference.rendering import Composite

SHOWN = 5  # times on a contact sheet


@dataclasses.dataclass(frozen=True)
class Outputs:
    """The files of one run, named after its video."""

    video: str
    layer: str | None = None  # the edit as a layer, or None
    element: str | None = None  # the element with alpha, or None

    @property
    def _stem(self) -> str:
        path = Path(self.video)
        if self.is_sequence:
            return str(path.with_name(bare(path.name) or "out"))
        return str(path.with_suffix("")) if path.suffix else str(path)

    @property
    def is_folder(self) -> bool:
        """Whether images are written instead of a video."""
        return not Path(self.video).suffix

    @property
    def is_sequence(self) -> bool:
        """Whether images are written under numbered names."""
        return is_sequence(self.video)

    @property
    def sheet(self) -> str:
        """The contact sheet."""
        return self._stem + ".png"

    @property
    def facts(self) -> str:
        """Settings, versions and seconds."""
        return self._stem + ".json"

    @property
    def project(self) -> str:
        """The project file that reproduces the run."""
        return self._stem + ".scene.json"

    @property
    def latents(self) -> str:
        """The sampled latents, until the others are written: after a failure the same command resumes from
        them.
        """
        return self._stem + ".latents.npz"

    def check(self, overwrite: bool, own: bool = False, hint: str = "--overwrite") -> None:
        """Raises InputError if one of them can't be written, or exists and `overwrite` is False.

        own: whether the command writes the plate's own values; `Delivery.of_frames` checks those files. hint:
        which option takes up an interrupted run.
        """
        from gencompositor_jax.controls.media.layer_out import check_layer_output
        from gencompositor_jax.controls.media.video_out import check_video_output
        from gencompositor_jax.errors import InputError
        from gencompositor_jax.files import check_output
        from gencompositor_jax.inference import latents_file

        written, sampled, reported = (os.path.lexists(p) for p in (self.video, self.latents, self.facts))
        if self.is_sequence:
            written = os.path.lexists(self.project)
        if written and sampled and not reported and not overwrite:
            raise InputError(
                f"{self.video}: written by an interrupted run: pass {hint} to resume, or write elsewhere"
            )
        if not (own and self.is_sequence):  # whose numbers aren't known yet
            (check_output if self.is_folder else check_video_output)(self.video, overwrite)
        for path in (self.sheet, self.facts, self.project):
            check_output(path, overwrite)
        latents_file.read(Path(self.latents))
        if self.element is not None:
            check_layer_output(self.element, (), overwrite, option="--save-element")

    def check_inputs(self, paths: Iterable[str]) -> None:
        """Raises InputError if a run would replace one of its clips or masks."""
        from gencompositor_jax.controls.media.overwriting import check_no_input

        more = [path for path in (self.layer, self.element) if path is not None]
        check_no_input((self.video, self.sheet, *more), paths)

    def check_layer(self, background: "Footage", overwrite: bool) -> None:
        """Raises InputError if the layer can't be written, or exists and `overwrite` is False."""
        from gencompositor_jax.controls.media.layer_out import check_layer_output

        if self.layer is not None:
            check_layer_output(self.layer, background.numbers, overwrite)


def write(
    outputs: Outputs,
    rows: "list[tuple[str, Frames]]",
    frames: "Frames",
    facts: Callable[[], dict[str, Any]],
    background: "Footage",
    scene: "Scene | None",
    overwrite: bool,
    viewing: bool = True,
) -> None:
    """Writes everything, each file whole or not at all, the report last, and prints their names.

    facts: the report, asked for once all frames are written. background: the footage whose rate and sound
    the result has. viewing: whether the frames are to be written; else they were, with the plate's values.
    """
    from gencompositor_jax.cli.progress import bar
    from gencompositor_jax.controls.media.frames import Computed, step_of
    from gencompositor_jax.controls.media.sheet import contact_sheet, write_png
    from gencompositor_jax.controls.media.video_out import write_image_folder, write_video
    from gencompositor_jax.controls.scene import write_scene
    from gencompositor_jax.files import atomic_write

    started = time.perf_counter()
    if viewing:
        with bar(len(frames), "writing", "frame") as progress:

            def make(first: int, stop: int) -> Any:
                made = frames[first:stop]
                progress(stop, len(frames))
                return made

            shown = Computed(frames.shape, make, step=step_of(frames))
            if outputs.is_folder:
                write_image_folder(outputs.video, shown, overwrite)
            else:
                write_video(
                    outputs.video,
                    shown,
                    background.fps,
                    audio_from=background.path,
                    audio_start=background.start,
                    overwrite=overwrite,
                )
    write_png(outputs.sheet, contact_sheet(rows, SHOWN), overwrite)
    beside = [outputs.sheet, outputs.facts]
    if scene is not None:
        write_scene(outputs.project, scene)
        beside.append(outputs.project)
    report = facts()
    report["seconds"]["write"] = round(time.perf_counter() - started, 3)
    with atomic_write(outputs.facts, overwrite) as part:
        part.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    height, width = frames.shape[1:3]
    print(f"{outputs.video}: {len(frames)} frames of {width}x{height} at {background.fps:g} fps")
    print(f"beside it: {', '.join(beside)}")


def write_layer(outputs: Outputs, composite: "Composite", stage: "Stage", overwrite: bool) -> float:
    """Writes the edit as a layer and prints its name. Returns the error of `write_edit_layer`."""
    from gencompositor_jax.jobs.beside import write_edit_layer

    assert outputs.layer is not None
    worst = write_edit_layer(outputs.layer, composite, stage, overwrite)
    print(f"{outputs.layer}: the edit as a layer, straight alpha; over the plate it is the composite")
    return worst


def deliver(delivery: "Delivery", composite: "Composite", stage: "Stage", feather: float) -> dict[str, Any]:
    """Writes what has the plate's own values, and prints the layer's name and what was clipped.

    Returns the entries of the report.
    """
    from gencompositor_jax.cli.progress import bar
    from gencompositor_jax.inference import delivering

    with bar(delivery.plate.shape[0], "writing", "frame") as progress:
        facts = delivering.deliver(delivery, composite, stage, feather, progress)
    plate = facts["plate"]
    if delivery.layer is not None:
        alpha = "premultiplied" if delivery.written.is_exr else "straight"
        print(f"{delivery.layer}: the edit as a layer, {alpha} alpha; over the plate it is the composite")
    if plate["unseen"]:
        note(
            f"{_share(plate['unseen'])} of the mask is beyond the working picture's white or gamut: the "
            "model saw it clipped, and it is kept where the element doesn't cover it"
        )
    if plate["clipped"]:
        note(f"{_share(plate['clipped'])} of the mask didn't fit {delivery.plate.depth} and was clipped")
    if (output := facts.get("output")) and output["clipped"]:
        note(f"{_share(output['clipped'])} of the pixels are beyond {output['colour']} and were clipped")
    return facts


def write_elements(outputs: Outputs, stage: "Stage", overwrite: bool) -> None:
    """Writes what was cut out, if that was asked for, and prints the names."""
    from gencompositor_jax.jobs.beside import write_element_clips

    if outputs.element is not None:
        for path, how in write_element_clips(outputs.element, stage, overwrite):
            print(f"{path}: the element ({how}), straight alpha; correct it and pass it as --foreground")


def note(text: str) -> None:
    """Prints a line for the user on stderr."""
    print(f"gencompositor: {text}", file=sys.stderr)


def _share(part: float) -> str:
    return f"{part:.1%}" if part >= 0.001 else "less than 0.1%"
