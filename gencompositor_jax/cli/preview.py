"""`gencompositor preview`: mask, trajectory and a plain paste, without a model."""

import argparse
from typing import TYPE_CHECKING, Any

import numpy as np

from gencompositor_jax.cli import options, rendering, scenes
from gencompositor_jax.cli.outputs import Outputs, note, write, write_elements

if TYPE_CHECKING:
    from gencompositor_jax.controls.media.frames import Frames


def register(subcommands: Any) -> None:
    """The arguments."""
    parser = subcommands.add_parser(
        "preview", help="show mask and trajectory in seconds, without sampling", allow_abbrev=False
    )
    options.add_scene(parser)
    options.add_model(parser)
    options.add_output(parser, "preview.mp4")
    options.add_element_output(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Places the layers and draws them. Reads the checkpoint's architecture, not its weights."""
    outputs = Outputs(args.out, element=args.save_element)
    outputs.check(args.overwrite)
    scene = scenes.scene_of(args)
    outputs.check_inputs(scene.clips)
    stage, _, seconds = rendering.read_stage(scene)
    write_elements(outputs, stage, args.overwrite)

    from gencompositor_jax.controls import shot as shots
    from gencompositor_jax.controls.conditions import check_mask
    from gencompositor_jax.controls.geometry.placement import paste_over
    from gencompositor_jax.controls.media.frames import Computed
    from gencompositor_jax.controls.media.sheet import overlay
    from gencompositor_jax.jobs.beside import paths_of
    from gencompositor_jax.versions import versions

    background, paths = stage.background.frames, paths_of(stage)
    size = background.shape[1], background.shape[2]
    for shot in stage.shots:
        if shot.path is not None and shot.path.report:
            note(shot.path.report)
        for text in () if shot.element is None else shot.element.notes:
            note(text)
    inflated = [False] * len(stage.shots)

    def draw(first: int, stop: int) -> np.ndarray:
        frames = background[first:stop]
        drawn, mask = frames, np.zeros(frames.shape[:3], bool)
        for i, whole in enumerate(stage.shots):
            shot = shots.piece(whole, slice(first, stop))
            inside = shots.inflated_mask(shot, stage.arch)
            inflated[i] |= bool(inside.any())
            mask |= shots.mask_in_background(shot, inside, size)
            paste = shots.plain_paste(shot, size)
            if paste is not None:
                drawn = paste_over(drawn, paste)
        if stop == len(background):
            check_mask(all(inflated))
        return overlay(drawn, mask, paths, first)

    def foreground(first: int, stop: int) -> np.ndarray:
        return shots.piece(stage.shots[-1], slice(first, stop)).foreground

    drawn = Computed(background.shape, draw)
    seen = Computed((len(background), stage.arch.height, stage.arch.width, 3), foreground)
    rows: list[tuple[str, Frames]] = [("input", background), ("mask", drawn), ("foreground", seen)]
    facts = {
        "command": "preview",
        "cut_out": stage.cut_out,
        "seconds": {"read": round(seconds, 3)},
        "versions": versions(),
    }
    write(outputs, rows, drawn, lambda: facts, stage.background, scene, args.overwrite)
