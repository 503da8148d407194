"""The stage: a background with its layers placed, and every check that needs no weights.

`preview` ends here; `compose` and `remove` continue with the network. Whatever the request came from (Python,
the command line, a project file), `make_stage` places it.
"""

import dataclasses
import math
from collections.abc import Sequence

from gencompositor_jax import codec
from gencompositor_jax.arch import ModelArch
from gencompositor_jax.controls.geometry.window import Framing
from gencompositor_jax.controls.media.video import Footage
from gencompositor_jax.controls.shot import ElementLayer, RemovalLayer, Shot, element_shot, removal_shot
from gencompositor_jax.errors import InputError

HELD = 8  # arrays of the latents' size that a long clip has in memory
MAX_LATENTS = 8 * 2**30  # bytes of them: 12,000 frames of 480 x 720 with the released codec


@dataclasses.dataclass(frozen=True)
class Stage:
    """A background at its own size, and the layers to be composited into it."""

    background: Footage  # uint8 RGB [T, H, W, 3]
    shots: tuple[Shot, ...]  # the last one on top
    arch: ModelArch  # the checkpoint's, at the frames of one window of this clip

    @property
    def is_long(self) -> bool:
        """Whether the clip has more frames than a window, so that it is processed in pieces."""
        return len(self.background.frames) > self.arch.frames

    @property
    def cut_out(self) -> tuple[str | None, ...]:
        """How each layer's element was extracted from its clip, see `Cutout.key`; None for a removal."""
        return tuple(None if shot.element is None else shot.element.key for shot in self.shots)


def make_stage(
    background: Footage,
    layers: Sequence[ElementLayer | RemovalLayer],
    arch: ModelArch,
    framing: Framing = "auto",
    paste_back: bool = True,
) -> Stage:
    """Places layers over a background of T frames; `arch` is that of `arch_for`.

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
    """The architecture for a clip of so many frames; None keeps its own number.

    A shorter clip is encoded whole: its last frame is held up to what the codec can encode. A longer one is
    sampled in windows of the architecture's own frames. Raises InputError for a number below 1, or one whose
    latents would need more than `MAX_LATENTS` bytes.
    """
    codec.check_video_shape(arch.codec, (1, arch.frames, arch.height, arch.width, 3))
    if frames is None or frames == arch.frames:
        return arch
    if frames < 1:
        raise InputError(f"frames={frames}: pass at least 1")
    if frames < arch.frames:
        arch = dataclasses.replace(arch, frames=min(arch.frames, codec.padded_frames(arch.codec, frames)))
        arch.check()
        return arch
    per_latent = 4 * HELD * math.prod(arch.latent_shape[1:])
    most = MAX_LATENTS // per_latent * arch.codec.time_factor
    if frames > most:
        needed = per_latent * frames / arch.codec.time_factor / 2**30
        raise InputError(
            f"frames={frames}: its latents need {needed:.0f} GiB, the limit is {MAX_LATENTS >> 30} GiB: "
            f"pass {most} or less, and compose longer clips in parts"
        )
    return arch
