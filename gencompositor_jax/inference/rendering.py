"""Rendering a stage: one sampling pass per layer, each composited into the result so far."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from gencompositor_jax.checkpoints import Model
from gencompositor_jax.controls import shot
from gencompositor_jax.controls.conditions import Conditions, padded
from gencompositor_jax.controls.geometry.detail import Fit, fit_piece
from gencompositor_jax.controls.media.frames import Computed, Frames
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.controls.shot import Shot
from gencompositor_jax.controls.stage import Stage
from gencompositor_jax.errors import InputError
from gencompositor_jax.inference import latents_file, provenance
from gencompositor_jax.inference.long_rendering import generate_layers
from gencompositor_jax.inference.pipeline import OnEstimate, OnStep, generate
from gencompositor_jax.inference.programs import Programs, Run, directly
from gencompositor_jax.inference.timer import Timer


@dataclasses.dataclass(frozen=True)
class Composite:
    """A finished composite and how it came about.

    The frames of a clip of one window are arrays. Those of a longer clip are computed where they are asked
    for, a few at a time in order: slices and iteration give arrays, `np.asarray` all frames in memory.
    """

    frames: Frames  # uint8 RGB [T, H, W, 3]: at the background's size, or the model's without paste-back
    mask: Frames  # bool [T, H, W]: what was generated; with paste-back all else equals the background
    raw: Frames  # uint8 RGB [T, h, w, 3]: the model's own frames (of the last layer)
    background: Frames  # uint8 RGB [T, H, W, 3]: the input, at its own size
    foreground: Frames  # uint8 RGB [T, h, w, 3]: what the model was shown (of the last layer)
    fps: float
    settings: dict[str, Any]
    find_transferred: Callable[[], tuple[float, ...]]
    # With paste-back: the same layers over other pixels of the background, float32 [T, H, W, 3] in 8-bit
    # levels that need not be whole; the result is computed frame by frame and is not rounded.
    over: Callable[[Frames], Frames]
    seconds: dict[str, float]  # per stage; a shape's first call compiles within encode, sample and decode

    @property
    def transferred(self) -> tuple[float, ...]:
        """Per layer with paste-back: the share with the element's own pixels."""
        return self.find_transferred()


class Paste(NamedTuple):
    """A layer that was pasted back, and can be again over other pixels."""

    shot: Shot
    generated: np.ndarray  # uint8 [T, h, w, 3]
    inside: np.ndarray  # bool [T, h, w]
    feather: float
    fit: Fit | None

    def over(self, below: Frames) -> Frames:
        """See `Composite.over`."""

        def make(first: int, stop: int) -> np.ndarray:
            part = slice(first, stop)
            fit = None if self.fit is None else fit_piece(self.fit, part)
            given = self.generated[part], self.inside[part], self.feather, fit
            return shot.pasted_over(shot.piece(self.shot, part), below[part], *given)

        return Computed(below.shape, make, below.dtype.type, step=1)


@dataclasses.dataclass(frozen=True)
class Composing:
    """A composite of which some layers are done: what the steps of a pass on the host hand on."""

    stage: Stage
    options: SamplingOptions
    frames: np.ndarray  # uint8 RGB, the result so far
    masks: tuple[np.ndarray, ...] = ()  # of the layers that are done
    raw: np.ndarray | None = None  # the model's frames of the last one
    transferred: tuple[float, ...] = ()
    pastes: tuple[Paste, ...] = ()

    @property
    def layer(self) -> int:
        """The layer that is next."""
        return len(self.masks)


def begin(stage: Stage, options: SamplingOptions) -> Composing:
    """The composite before its first layer: the background."""
    return Composing(stage, options.settled(stage.arch.diffusion), np.asarray(stage.background.frames))


def next_conditions(now: Composing) -> Conditions:
    """The network's inputs for the next layer, [T, H, W, C] of the model's frames: the last one is held."""
    layer = now.stage.shots[now.layer]
    seen = shot.shown(layer, now.frames) if now.options.paste_back or now.raw is None else now.raw
    return padded(shot.conditions(layer, seen, now.stage.arch), now.stage.arch.frames)


def with_layer(now: Composing, given: Conditions, raw: np.ndarray) -> Composing:
    """The composite with the next layer: raw, uint8 [T, h, w, 3], is what the model generated for `given`."""
    count = len(now.frames)
    raw = raw[:count]
    options, inside, frames = now.options, given.mask[:count, ..., 0] > 0, raw
    transferred, pastes = now.transferred, now.pastes
    if options.paste_back:
        layer, arch = now.stage.shots[now.layer], now.stage.arch
        result = shot.put_back(layer, now.frames, raw, inside, arch, options.feather, options.detail)
        frames, inside = result.frames, result.mask
        transferred = (*transferred, result.transferred)
        pastes = (*pastes, Paste(layer, raw, given.mask[:count, ..., 0] > 0, options.feather, result.fit))
    masks = (*now.masks, inside)
    return dataclasses.replace(
        now, frames=frames, masks=masks, raw=raw, transferred=transferred, pastes=pastes
    )


def finished(now: Composing, seconds: dict[str, float]) -> Composite:
    """The composite once all layers are done."""
    assert now.raw is not None, "a stage has at least one layer"
    return Composite(
        frames=now.frames,
        mask=np.any(now.masks, axis=0),
        raw=now.raw,
        background=now.stage.background.frames,
        foreground=now.stage.shots[-1].foreground,
        fps=now.stage.background.fps,
        settings=_settings(now.stage, now.options, now.frames),
        find_transferred=lambda: now.transferred,
        over=lambda plate: functools.reduce(lambda below, paste: paste.over(below), now.pastes, plate),
        seconds=seconds,
    )


def render(
    model: Model,
    stage: Stage,
    options: SamplingOptions,
    run: Run = directly,
    latents: Path | None = None,
    progress: OnStep | None = None,
    on_estimate: OnEstimate | None = None,
) -> Composite:
    """Generates what is on a stage; see `Compositor.render`. The model has the stage's frames and size.

    Raises InputError where `latents` is a file of something else, or where compiled programs are to run an
    approximation: they are of the exact pass.
    """
    if latents is not None:
        latents_file.read(latents)
    if isinstance(run, Programs) and options.fast is not None:
        raise InputError(f"fast={options.fast}: compiled programs run the exact pass; pass one of the two")
    timer = Timer()
    if stage.is_long:
        options = options.settled(stage.arch.diffusion)
        return _render_long(model, stage, options, run, timer, latents, progress, on_estimate)
    now = begin(stage, options)
    options = now.options
    steps, _ = options.schedule(stage.arch.diffusion)
    total = steps * len(stage.shots)
    for i in range(len(stage.shots)):
        with timer("prepare"):
            conditions = next_conditions(now)
        store = None
        if latents is not None:
            arrays = [x for x in conditions if x is not None]
            made_from = latents_file.fingerprint(provenance.facts(model, i, options), arrays)
            store = latents_file.LayerLatents(latents, i, made_from)
        raw = generate(
            model,
            jax.tree.map(lambda x: x[None], conditions),
            [i],
            options,
            run=run,
            on_step=None if progress is None else _after(progress, i * steps, total),
            on_estimate=on_estimate,
            timer=timer,
            store=store,
        )[0]
        with timer("paste back"):
            now = with_layer(now, conditions, raw)
    return finished(now, timer.seconds)


def _render_long(
    model: Model,
    stage: Stage,
    options: SamplingOptions,
    run: Run,
    timer: Timer,
    latents: Path | None,
    progress: OnStep | None,
    on_estimate: OnEstimate | None,
) -> Composite:
    """`render` where no array has all frames."""
    layers = generate_layers(model, stage, options, run, timer, latents, progress, on_estimate)
    top = layers[-1]

    def mask(first: int, stop: int) -> np.ndarray:
        return np.any([layer.mask[first:stop] for layer in layers], axis=0)

    return Composite(
        frames=top.frames,
        mask=Computed(top.mask.shape, mask, bool),
        raw=top.generated,
        background=stage.background.frames,
        foreground=top.foreground,
        fps=stage.background.fps,
        settings=_settings(stage, options, top.frames),
        find_transferred=lambda: tuple(layer.transferred() for layer in layers if options.paste_back),
        over=lambda plate: functools.reduce(lambda below, layer: layer.over(below), layers, plate),
        seconds=timer.seconds,
    )


def _settings(stage: Stage, options: SamplingOptions, frames: Frames) -> dict[str, Any]:
    return {
        "frames": len(frames),
        "model_frames": stage.arch.frames,
        "fps": stage.background.fps,
        "width": frames.shape[2],
        "height": frames.shape[1],
        "model_width": stage.arch.width,
        "model_height": stage.arch.height,
        "cut_out": list(stage.cut_out),
        "windows": [list(layer.window.size[::-1]) for layer in stage.shots],
        **dataclasses.asdict(options),
        "guidance": options.guidance if options.prompt is not None else None,
    }


def _after(progress: OnStep, done_before: int, total: int) -> OnStep:
    """Progress over all layers, from the progress within one."""
    return lambda done, _: progress(done_before + done, total)
