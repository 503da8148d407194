"""`gencompositor preview`: mask, trajectory and a plain paste, without a model."""

import argparse
from typing import Any

import numpy as np

from gencompositor_jax.cli import options, rendering
from gencompositor_jax.cli.outputs import Outputs, note, write


def register(subcommands: Any) -> None:
    """The arguments."""
    parser = subcommands.add_parser(
        "preview", help="show mask and trajectory in seconds, without sampling", allow_abbrev=False
    )
    options.add_scene(parser)
    options.add_model(parser)
    options.add_output(parser, "preview.mp4")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Places the layers and draws them. Reads the checkpoint's architecture, not its weights."""
    outputs = Outputs(args.out)
    outputs.check(args.overwrite, with_project=True)
    scene = options.scene_of(args)
    stage, _, seconds = rendering.read_stage(scene)

    from gencompositor_jax.controls import shot as shots
    from gencompositor_jax.controls.geometry.placement import paste_over
    from gencompositor_jax.controls.media.sheet import overlay

    background = stage.background.frames
    size = background.shape[1:3]
    mask = np.zeros(background.shape[:3], bool)
    drawn = background
    for shot in stage.shots:
        inside = shots.conditions(shot, shots.shown(shot, background), stage.arch).mask[..., 0] > 0
        mask |= shots.mask_in_background(shot, inside, size)
        paste = shots.plain_paste(shot, size)
        if paste is not None:
            drawn = paste_over(drawn, paste)
        if shot.path is not None and shot.path.report:
            note(shot.path.report)
    drawn = overlay(drawn, mask, rendering.paths_of(stage))
    rows = [("input", background), ("mask", drawn), ("foreground", stage.shots[-1].foreground)]
    from gencompositor_jax.jobs.report import versions

    facts = {"command": "preview", "seconds": {"read": round(seconds, 3)}, "versions": versions()}
    write(outputs, rows, drawn, facts, stage.background, scene, args.overwrite, scene.start)
