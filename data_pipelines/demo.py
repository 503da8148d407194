"""The demo's inputs: a background video, an element with alpha, a trajectory."""

import dataclasses
import os
from pathlib import Path

from gencompositor_jax.controls.media.video_out import write_image_folder, write_video
from gencompositor_jax.data_pipelines.procedural import HELD_OUT_SEED, make_clip

SEED = HELD_OUT_SEED + 19  # not in the training data
HEIGHT, WIDTH, FPS = 384, 576, 8.0


@dataclasses.dataclass(frozen=True)
class DemoInputs:
    """What `write_inputs` wrote, as options of the command line."""

    background: str  # an .mp4 of WIDTH x HEIGHT pixels
    foreground: str  # a folder of PNG images with alpha
    trajectory: str = "126,256 276,134 446,236"
    scale: str = "0.4,0.34"  # it recedes


def write_inputs(folder: str | os.PathLike[str], frames: int, overwrite: bool = False) -> DemoInputs:
    """Make a clip of `frames` frames and write its scene and its element into an existing folder.

    Raises InputError if they can't be written, or exist and `overwrite` is False.
    """
    clip = make_clip(SEED, frames, HEIGHT, WIDTH, family="wings")
    inputs = DemoInputs(str(Path(folder) / "background.mp4"), str(Path(folder) / "element"))
    write_video(inputs.background, clip.background, FPS, overwrite=overwrite)
    write_image_folder(inputs.foreground, clip.element, overwrite)
    return inputs
