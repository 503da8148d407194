"""`gencompositor compose`: the product."""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from gencompositor_jax.cli import options
from gencompositor_jax.cli.outputs import Outputs, device, note, versions, write
from gencompositor_jax.errors import InputError

if TYPE_CHECKING:
    from gencompositor_jax.arch import Changes, ModelArch
    from gencompositor_jax.compositor import Composite, Compositor, Weights
    from gencompositor_jax.controls.scene import Scene
    from gencompositor_jax.controls.stage import Stage
    from gencompositor_jax.inference.programs import Programs


def register(subcommands: Any) -> None:
    """The arguments."""
    parser = subcommands.add_parser("compose", help="put a moving element into a video", allow_abbrev=False)
    options.add_scene(parser)
    options.add_model(parser)
    options.add_compiled(parser)
    options.add_sampling(parser)
    options.add_output(parser, "out.mp4")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Checks everything, loads the model, generates, writes."""
    outputs = Outputs(args.out)
    outputs.check(args.overwrite, with_project=True)
    compose(options.scene_of(args), outputs, args.overwrite, args.compiled)


def compose(scene: "Scene", outputs: Outputs, overwrite: bool, compiled: str | None = None) -> None:
    """Composites a scene whose outputs were checked, with the programs of a folder if one is given."""
    from gencompositor_jax.controls import stage as staging
    from gencompositor_jax.controls.scene import scene_changes

    began = time.perf_counter()
    changes = scene_changes(scene)
    arch = checkpoint_arch(scene.checkpoint, scene.prompt, **changes)
    stage = staging.set_stage(scene, arch)
    read = time.perf_counter() - began
    for text in warnings(scene, arch, stage):
        note(text)

    from gencompositor_jax.cli.progress import bar
    from gencompositor_jax.compositor import scene_sampling

    began = time.perf_counter()
    how = scene.steps, scene.prompt, scene.guidance, scene.fast
    programs = programs_of(compiled, stage.arch, scene.weights, *how)
    compositor = load(scene.checkpoint, programs, scene.weights, **changes)
    loaded = time.perf_counter() - began
    with bar(scene.steps * len(stage.shots)) as progress:
        composite = compositor.render(stage, **scene_sampling(scene, progress, outputs.latents))
    finish(
        "compose", composite, stage, outputs, overwrite, scene, scene.start, {"read": read, "load": loaded}
    )


def finish(
    command: str,
    composite: "Composite",
    stage: "Stage",
    outputs: Outputs,
    overwrite: bool,
    scene: "Scene | None",
    start: float,
    seconds: dict[str, float],
) -> None:
    """Writes a composite and all that goes beside it; then its latents are of no more use."""
    from gencompositor_jax.controls.geometry.window import cut
    from gencompositor_jax.controls.media.sheet import overlay

    if composite.mask.shape == composite.background.shape[:3]:
        mask = overlay(composite.background, composite.mask, ways(stage))
    else:  # the model's own frames
        mask = overlay(composite.frames, composite.mask)
    rows = [
        ("input", composite.background),
        ("mask", mask),
        ("foreground", composite.foreground),
        ("result", composite.frames),
    ]
    shot = stage.shots[-1]
    share = np.prod(shot.window.size) / np.prod(composite.frames.shape[1:3])
    if composite.frames is not composite.raw and share < 0.5:
        rows.append(("closer", cut(composite.frames, shot.window)))
    facts = {
        "command": command,
        "settings": composite.settings,
        "seconds": {name: round(value, 3) for name, value in (seconds | composite.seconds).items()},
        "versions": versions(),
        "device": device(),
    }
    if "sample" not in composite.seconds:
        note(f"nothing was sampled: an earlier run left {outputs.latents}")
    write(outputs, rows, composite.frames, facts, stage.background, scene, overwrite, start)
    Path(outputs.latents).unlink(missing_ok=True)


def ways(stage: "Stage") -> np.ndarray | None:
    """float [L, T, 2]: the trajectories of the layers that have one, for `overlay`."""
    found = [shot.path.xy for shot in stage.shots if shot.path is not None]
    return np.stack(found) if found else None


def checkpoint_arch(
    folder: str | None, prompt: str | None = None, **changes: Unpack["Changes"]
) -> "ModelArch":
    """The architecture of a checkpoint, of the embedded one where None, with changes; reads no weights.

    Raises InputError where the checkpoint lacks the prompt or has no tiles.
    """
    from gencompositor_jax import checkpoints
    from gencompositor_jax.arch import changed

    facts = checkpoints.all_facts(checkpoints.packaged() if folder is None else folder)
    checkpoints.check_prompt(prompt, facts.prompts)
    return changed(facts.arch, changes)


def programs_of(
    folder: str | None,
    arch: "ModelArch",
    weights: "Weights | None",
    steps: int,
    prompt: str | None,
    guidance: float,
    fast: str | None = None,
) -> "Programs | None":
    """The compiled programs of a folder; None without one. Raises InputError where they don't fit the run."""
    from gencompositor_jax.compositor import is_guided, made_for
    from gencompositor_jax.inference.programs import Programs

    if folder is None:
        return None
    if fast is not None:
        raise InputError("--fast: the programs of --compiled are exact; leave one of the two out")
    programs = Programs.load(folder)
    programs.check(made_for(arch, steps, is_guided(prompt, guidance), weights))
    return programs


def load(
    folder: str | None,
    programs: "Programs | None" = None,
    weights: "Weights | None" = None,
    **changes: Unpack["Changes"],
) -> "Compositor":
    """The compositor of a checkpoint. The one place where the command loads a model."""
    from gencompositor_jax.compositor import Compositor

    return Compositor.load(folder, programs=programs, weights=weights, **changes)


def warnings(scene: "Scene", arch: "ModelArch", stage: "Stage") -> list[str]:
    """What is allowed but may surprise."""
    from gencompositor_jax.diffusion import sampler

    found = [shot.path.report for shot in stage.shots if shot.path is not None and shot.path.report]
    if stage.arch.frames != arch.frames:
        found.append(f"{stage.arch.frames} frames: the checkpoint was trained for {arch.frames}")
    if sampler.leaves_noise(scene.steps, arch.diffusion.train_steps):
        found.append(f"--steps {scene.steps} leaves a little noise; numbers that divide 1000 don't")
    return found
