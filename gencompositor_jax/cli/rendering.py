"""What `compose`, `preview` and `remove` share: from a scene to a stage, and to the files of a result."""

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Unpack

from gencompositor_jax.cli.outputs import Outputs, deliver, note, write, write_layer
from gencompositor_jax.errors import InputError

if TYPE_CHECKING:
    from gencompositor_jax.arch import Changes, ModelArch, Weights
    from gencompositor_jax.compositor import Compositor
    from gencompositor_jax.controls.media.video import Media
    from gencompositor_jax.controls.plate.delivery import Delivery
    from gencompositor_jax.controls.record import Pixels, Record
    from gencompositor_jax.controls.sampling import SamplingOptions
    from gencompositor_jax.controls.scene import Scene
    from gencompositor_jax.controls.stage import Stage
    from gencompositor_jax.inference.programs import Programs


def checkpoint_arch(
    folder: str | None, prompt: str | None = None, **changes: Unpack["Changes"]
) -> "ModelArch":
    """The architecture of a checkpoint (None: the embedded model), with changes; reads no weights.

    Raises InputError where the checkpoint lacks the prompt or has no tiles.
    """
    from gencompositor_jax import checkpoints
    from gencompositor_jax.arch import changed

    facts = checkpoints.read_metadata(checkpoints.packaged() if folder is None else folder)
    if folder is not None:
        checkpoints.check_sizes(Path(folder), facts.arch)
    checkpoints.check_prompt(prompt, facts.prompts)
    return changed(facts.arch, changes)


def read_stage(
    scene: "Scene", probed: "Mapping[str, Media] | None" = None
) -> "tuple[Stage, ModelArch, float]":
    """Reads and places a scene: its stage, the checkpoint's own architecture, and the seconds this took.

    Clips are probed before JAX is imported, so that a wrong path is refused at once. probed: those that are.
    """
    from gencompositor_jax.cli.scenes import probe_all

    probed = probed or probe_all(scene.clips, scene.gaps)

    from gencompositor_jax.controls.footage import scene_stage

    started = time.perf_counter()
    arch = checkpoint_arch(scene.checkpoint, scene.sampling.prompt, **scene.changes)
    return scene_stage(scene, arch, probed), arch, time.perf_counter() - started


def load(
    folder: str | None,
    programs: "Programs | None" = None,
    weights: "Weights | None" = None,
    mesh: "Mapping[str, int] | None" = None,
    **changes: Unpack["Changes"],
) -> "Compositor":
    """The compositor of a checkpoint. The one place where the command loads a model."""
    from gencompositor_jax.compositor import Compositor

    return Compositor.load(folder, programs=programs, weights=weights, mesh=mesh, **changes)


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """SIGTERM, by which farms end jobs, ends the process with code 143 after temporary files are removed."""

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@ended_by_sigterm()
def render(
    command: str,
    stage: "Stage",
    options: "SamplingOptions",
    outputs: Outputs,
    *,
    checkpoint: str | None,
    weights: "Weights | None",
    changes: "Changes",
    compiled: str | None,
    mesh: "Mapping[str, int] | None" = None,
    overwrite: bool,
    read_seconds: float,
    scene: "Scene | None" = None,
    delivery: "Delivery | None" = None,
    pixels: "Pixels | None" = None,
) -> None:
    """Loads the model, samples and writes everything; the outputs are checked.

    compiled: folder of compiled programs. mesh: sizes of its axes; None is all devices. scene: written as the
    project file; its record is that of an earlier run. delivery: what is written with the plate's own values.
    pixels: of the background, for the record.
    """
    from gencompositor_jax.cli.progress import bar
    from gencompositor_jax.controls.scene import write_scene
    from gencompositor_jax.jobs.beside import sheet_rows
    from gencompositor_jax.jobs.report import facts_of, record_of

    if (outputs.layer is not None or delivery is not None) and not options.paste_back:
        what = "--layer" if outputs.layer is not None else outputs.video
        raise InputError(f"{what}: without paste-back there is no plate to be over; drop --no-paste-back")
    if delivery is None:
        outputs.check_layer(stage.background, overwrite)
    started = time.perf_counter()
    programs = None if compiled is None else _programs(compiled, stage, options, weights)
    compositor = load(checkpoint, programs, weights, mesh, **changes)
    seconds = {"read": read_seconds, "load": time.perf_counter() - started}
    options = options.settled(stage.arch.diffusion)
    if scene is not None and pixels is not None:
        record = record_of(checkpoint, compositor.mesh, stage, pixels, delivery)
        _compare(scene.record, record, outputs, delivery)
        scene = dataclasses.replace(scene, sampling=options, record=record)
    with bar(options.schedule(stage.arch.diffusion)[0] * len(stage.shots)) as progress:
        composite = compositor.render(stage, options, latents=outputs.latents, progress=progress)
    composite = dataclasses.replace(composite, seconds=seconds | composite.seconds)
    if "sample" not in composite.seconds:
        note(f"nothing was sampled: an earlier run left {outputs.latents}")
    rows = sheet_rows(composite, stage)

    layer: dict[str, Any] = {}
    if delivery is not None:
        if scene is not None and delivery.images:
            write_scene(outputs.project, scene)  # so that --continue knows whose images these are
        layer = deliver(delivery, composite, stage, options.feather)
    elif outputs.layer is not None:
        error = write_layer(outputs, composite, stage, overwrite)
        layer = {"layer": {"path": outputs.layer, "error": round(error, 4)}}

    def facts() -> dict[str, Any]:
        return {"command": command, **facts_of(composite, compositor.mesh), **layer}

    viewing = delivery is None or delivery.out is None
    write(outputs, rows, composite.frames, facts, stage.background, scene, overwrite, viewing)
    Path(outputs.latents).unlink(missing_ok=True)  # of no more use


def _compare(made: "Record | None", now: "Record", outputs: Outputs, delivery: "Delivery | None") -> None:
    """Says what made a scene and differs now. Raises InputError where images of both would be mixed."""
    from gencompositor_jax.controls.record import differences

    found = [] if made is None else differences(made, now)
    if found and delivery is not None and delivery.kept:
        raise InputError(
            f"{outputs.project}: its images were made {found[0]}: pass --overwrite to make them anew"
        )
    for each in found:
        note(f"the project was made {each}: frames may differ")


def _programs(
    folder: str, stage: "Stage", options: "SamplingOptions", weights: "Weights | None"
) -> "Programs":
    """The compiled programs of a folder. Raises InputError where they don't fit the run."""
    from gencompositor_jax.inference.compiling import check_programs
    from gencompositor_jax.inference.programs import Programs

    if options.fast is not None:
        raise InputError("--fast: the programs of --compiled run the exact pass; pass one of the two")
    programs = Programs.load(folder)
    check_programs(programs, stage.arch, len(stage.background.frames), options, weights)
    return programs
