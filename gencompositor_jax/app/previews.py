"""The preview: what `gencompositor preview` draws, a frame at a time."""

import dataclasses
from typing import Any, Literal, get_args

import numpy as np

from gencompositor_jax.app.motion import path_json
from gencompositor_jax.app.store import size_of
from gencompositor_jax.controls import shot as shots
from gencompositor_jax.controls.geometry.placement import paste_over
from gencompositor_jax.controls.media.frames import Computed
from gencompositor_jax.controls.media.sheet import overlay
from gencompositor_jax.controls.stage import Stage
from gencompositor_jax.errors import InputError
from gencompositor_jax.inference.windows import window_starts
from gencompositor_jax.jobs.beside import paths_of

Part = Literal["input", "paste", "mask", "path", "matte", "model"]
PARTS: tuple[Part, ...] = get_args(Part)
ALONE = ("matte", "model")  # pictures of their own


@dataclasses.dataclass(frozen=True)
class Preview:
    """A stage that is looked at."""

    id: str
    stage: Stage

    @property
    def size(self) -> float:
        """Bytes in memory."""
        elements = [shot.element.frames for shot in self.stage.shots if shot.element is not None]
        return sum(map(size_of, (self.stage.background.frames, *elements))) + 1


def parts_of(text: str) -> tuple[Part, ...]:
    """The parts in `paste,mask,path`. Raises InputError for others."""
    parts = tuple(part for part in PARTS if part in text.split(","))
    if unknown := [part for part in text.split(",") if part not in PARTS]:
        raise InputError(f"show: {unknown[0][:40]!r}; choose of {', '.join(PARTS)}")
    if len(parts) > 1 and (alone := [part for part in ALONE if part in parts]):
        raise InputError(f"show: {alone[0]} is a picture of its own; ask for it alone")
    return parts


def frames_of(stage: Stage, parts: tuple[Part, ...]) -> Computed:
    """Frames of a preview, uint8 RGB; of the background's size, `model` of the network's."""
    background = stage.background.frames
    if parts == ("model",):
        size = stage.arch.height, stage.arch.width
        return Computed(
            (len(background), *size, 3),
            lambda first, stop: shots.piece(stage.shots[-1], slice(first, stop)).foreground,
        )
    return Computed(background.shape, lambda first, stop: _drawn(stage, parts, first, stop))


def facts(preview: Preview) -> dict[str, Any]:
    """A preview as the page sees it."""
    stage = preview.stage
    count, height, width = stage.background.frames.shape[:3]
    layers = []
    for shot in stage.shots:
        if shot.path is None or shot.element is None:
            continue
        canvas = {"width": shot.element.frames.shape[2], "height": shot.element.frames.shape[1]}
        rows, columns = shot.window.size
        window = {"width": columns, "height": rows, "origins": shot.window.origins.tolist()}
        layers.append({**path_json(shot.path), "element": canvas, "window": window})
    latents, size = _latent_frames(stage), stage.arch.latent_shape[0]
    return {
        "id": preview.id,
        "frames": count,
        "fps": stage.background.fps,
        "width": width,
        "height": height,
        "layers": layers,
        "model": {
            "frames": stage.arch.frames,
            "height": stage.arch.height,
            "width": stage.arch.width,
            "windows": len(window_starts(latents, size)) if stage.is_long else 1,
        },
    }


def _drawn(stage: Stage, parts: tuple[Part, ...], first: int, stop: int) -> np.ndarray:
    frames = np.asarray(stage.background.frames[first:stop])
    size = frames.shape[1], frames.shape[2]
    drawn, mask = frames, np.zeros(frames.shape[:3], bool)
    for whole in stage.shots:
        shot = shots.piece(whole, slice(first, stop))
        if "paste" in parts and (paste := shots.plain_paste(shot, size)) is not None:
            drawn = paste_over(drawn, paste)
        if "mask" in parts or "matte" in parts:
            inside = shots.inflated_mask(shot, stage.arch)
            mask |= shots.mask_in_background(shot, inside, size)
    if "matte" in parts:
        return np.repeat(np.where(mask, np.uint8(255), np.uint8(0))[..., None], 3, axis=-1)
    if "mask" not in parts and "path" not in parts:
        return drawn
    return overlay(drawn, mask, paths_of(stage) if "path" in parts else None, first)


def _latent_frames(stage: Stage) -> int:
    from gencompositor_jax.inference.long_clips import latent_frames

    return latent_frames(stage.arch, len(stage.background.frames))
