"""`gencompositor compose`: the product."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gencompositor_jax.cli import options, rendering, scenes
from gencompositor_jax.cli.outputs import Outputs, note, write_elements
from gencompositor_jax.cli.resuming import is_done, same_scene
from gencompositor_jax.errors import InputError

if TYPE_CHECKING:
    from gencompositor_jax.arch import ModelArch
    from gencompositor_jax.controls.scene import Scene
    from gencompositor_jax.controls.stage import Stage


def register(subcommands: Any) -> None:
    """The arguments."""
    parser = subcommands.add_parser("compose", help="put a moving element into a video", allow_abbrev=False)
    options.add_scene(parser)
    options.add_model(parser)
    options.add_compiled(parser)
    options.add_mesh(parser, "one clip")
    options.add_sampling(parser)
    options.add_output(parser, "out.mp4")
    options.add_layer(parser)
    options.add_element_output(parser)
    options.add_resume(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Checks everything, loads the model, samples, writes."""
    make("compose", args, Outputs(args.out, args.layer, args.save_element), scenes.scene_of)


def make(
    command: str,
    args: argparse.Namespace,
    outputs: Outputs,
    scene_of: "Callable[[argparse.Namespace], Scene]",
) -> None:
    """What `compose` and `remove` do: from arguments to the files of a result.

    scene_of: called once the names of the outputs are checked.
    """
    mesh = options.mesh_of(args.mesh)
    if args.resume and args.overwrite:
        raise InputError("--continue: --overwrite would make everything anew; pass one of the two")
    replace = args.overwrite or args.resume
    outputs.check(replace, own=True, hint="--continue")
    scene = scene_of(args)
    outputs.check_inputs(scene.clips)
    probed = scenes.probe_all(scene.clips, scene.gaps)

    from gencompositor_jax.controls.plate.description import describe
    from gencompositor_jax.controls.plate.planning import plan_scene

    delivery = plan_scene(scene, probed[scene.background], outputs.video, outputs.layer, replace)
    stage, arch, seconds = rendering.read_stage(scene, probed)
    if delivery is not None:
        delivery = delivery.of_frames(len(stage.background.frames))
    if args.resume:
        scene = same_scene(outputs, scene, stage.arch.diffusion)
        delivery = None if delivery is None else delivery.resumed()
        if is_done(outputs, delivery):
            print(f"{outputs.video}: is there and whole, as {outputs.project} says")
            return
    for text in warnings(scene, arch, stage):
        note(text)
    write_elements(outputs, stage, replace)
    rendering.render(
        command,
        stage,
        scene.sampling,
        outputs,
        checkpoint=scene.checkpoint,
        weights=scene.weights,
        changes=scene.changes,
        compiled=args.compiled,
        mesh=mesh,
        overwrite=replace,
        read_seconds=seconds,
        scene=scene,
        delivery=delivery,
        pixels=describe(probed[scene.background], scene.plate_colour),
    )


def warnings(scene: "Scene", arch: "ModelArch", stage: "Stage") -> list[str]:
    """What is allowed but may surprise."""
    from gencompositor_jax.controls.geometry.light import SOLID
    from gencompositor_jax.controls.media.frames import pieces
    from gencompositor_jax.diffusion import sampler

    found = [shot.path.report for shot in stage.shots if shot.path is not None and shot.path.report]
    found += [text for shot in stage.shots if shot.element is not None for text in shot.element.notes]
    if stage.arch.frames != arch.frames:
        found.append(f"{len(stage.background.frames)} frames: the checkpoint was trained for {arch.frames}")
    if stage.is_long:
        count, window = len(stage.background.frames), arch.frames
        found.append(f"{count} frames: sampled in windows of the {window} the checkpoint was trained for")
    if scene.sampling.detail == "element":
        if not scene.layers:
            found.append("--detail element: a removal has no element whose pixels could be kept")
        placed = [shot.element for shot in stage.shots if shot.element is not None]
        soft = [
            element.name
            for element in placed
            if all(part[..., 3].max() < 255 * SOLID for part in pieces(element.frames))
        ]
        found += [f"--detail element: {name} is nowhere half opaque, so the model draws it" for name in soft]
    steps, _ = scene.sampling.schedule(arch.diffusion)
    if sampler.leaves_noise(steps, arch.diffusion.train_steps):
        found.append(f"--steps {steps} leaves a little noise; numbers that divide 1000 don't")
    return found
