"""The stage: a background with its layers placed, and every check that needs no weights.

`preview` ends here; `compose` and `remove` continue with the network. Whatever the request came from (Python,
the command line, a project file), `make_stage` places it.
"""

import dataclasses
from collections.abc import Sequence

from gencompositor_jax import codec
from gencompositor_jax.arch import ModelArch
from gencompositor_jax.controls.geometry.window import Framing
from gencompositor_jax.controls.media.video import Video
from gencompositor_jax.controls.shot import ElementLayer, RemovalLayer, Shot, element_shot, removal_shot


@dataclasses.dataclass(frozen=True)
class Stage:
    """A background at its own size, and the layers to be composited into it."""

    background: Video  # uint8 RGB [T, H, W, 3]
    shots: tuple[Shot, ...]  # the last one on top
    arch: ModelArch  # the checkpoint's, at this clip's number of frames


def make_stage(
    background: Video,
    layers: Sequence[ElementLayer | RemovalLayer],
    arch: ModelArch,
    framing: Framing = "auto",
    paste_back: bool = True,
) -> Stage:
    """Places layers over a background of `arch.frames` frames.

    framing: "whole" shows the model the whole background, "follow" a window that follows the layer, "auto"
    such a window where the element would be too small in the whole. Without paste-back the model's frames are
    the result, so the whole is shown. Raises InputError where a layer can't be placed.
    """
    framing = framing if paste_back else "whole"
    shots = tuple(
        removal_shot(layer, arch, framing)
        if isinstance(layer, RemovalLayer)
        else element_shot(layer, background.frames, arch, framing)
        for layer in layers
    )
    return Stage(background, shots, arch)


def arch_for(arch: ModelArch, frames: int | None) -> ModelArch:
    """The architecture at another number of frames; None keeps its own.

    Raises InputError where a clip of that length can't be encoded.
    """
    arch = dataclasses.replace(arch, frames=frames) if frames is not None else arch
    arch.check()
    codec.check_video_shape(arch.codec, (1, arch.frames, arch.height, arch.width, 3))
    return arch
