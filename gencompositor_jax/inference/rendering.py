"""Rendering a stage: one sampling pass per layer, each composited into the result so far."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gencompositor_jax.arch import Inflation, VAEArch, to_json
from gencompositor_jax.checkpoints import Model
from gencompositor_jax.controls import shot
from gencompositor_jax.controls.conditions import Conditions
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.controls.stage import Stage
from gencompositor_jax.errors import InputError
from gencompositor_jax.inference import latents_file
from gencompositor_jax.inference.pipeline import OnStep, generate
from gencompositor_jax.inference.programs import Programs, Run, directly
from gencompositor_jax.inference.timer import Timer
from gencompositor_jax.model import int8


@dataclasses.dataclass(frozen=True)
class Composite:
    """A finished composite and how it came about."""

    frames: np.ndarray  # uint8 RGB [T, H, W, 3]: at the background's size, or the model's without paste-back
    mask: np.ndarray  # bool [T, H, W]: what was generated; with paste-back all else equals the background
    raw: np.ndarray  # uint8 RGB [T, h, w, 3]: the model's own frames (of the last layer)
    background: np.ndarray  # uint8 RGB [T, H, W, 3]: the input, at its own size
    foreground: np.ndarray  # uint8 RGB [T, h, w, 3]: what the model was shown (of the last layer)
    fps: float
    settings: dict[str, Any]
    transferred: tuple[float, ...]  # per layer with paste-back: the share with the element's own pixels
    seconds: dict[str, float]  # per stage; a shape's first call compiles within encode, sample and decode


@dataclasses.dataclass(frozen=True)
class Composing:
    """A composite of which some layers are done: what the steps of a pass on the host hand on."""

    stage: Stage
    options: SamplingOptions
    frames: np.ndarray  # uint8 RGB, the result so far
    masks: tuple[np.ndarray, ...] = ()  # of the layers that are done
    raw: np.ndarray | None = None  # the model's frames of the last one
    transferred: tuple[float, ...] = ()

    @property
    def layer(self) -> int:
        """The layer that is next."""
        return len(self.masks)


def begin(stage: Stage, options: SamplingOptions) -> Composing:
    """The composite before its first layer: the background."""
    return Composing(stage, options.settled(stage.arch.diffusion), stage.background.frames)


def next_conditions(now: Composing) -> Conditions:
    """The network's inputs for the next layer, [T, H, W, C]."""
    layer = now.stage.shots[now.layer]
    seen = shot.shown(layer, now.frames) if now.options.paste_back or now.raw is None else now.raw
    return shot.conditions(layer, seen, now.stage.arch)


def with_layer(now: Composing, given: Conditions, raw: np.ndarray) -> Composing:
    """The composite with the next layer: raw, uint8 [T, h, w, 3], is what the model generated for `given`."""
    options, inside, frames = now.options, given.mask[..., 0] > 0, raw
    transferred = now.transferred
    if options.paste_back:
        layer, arch = now.stage.shots[now.layer], now.stage.arch
        result = shot.put_back(layer, now.frames, raw, inside, arch, options.feather, options.detail)
        frames, inside = result.frames, result.mask
        transferred = (*transferred, result.transferred)
    return dataclasses.replace(
        now, frames=frames, masks=(*now.masks, inside), raw=raw, transferred=transferred
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
        transferred=now.transferred,
        seconds=seconds,
    )


def render(
    model: Model,
    stage: Stage,
    options: SamplingOptions,
    run: Run = directly,
    latents: Path | None = None,
    progress: OnStep | None = None,
) -> Composite:
    """Generates what is on a stage; see `Compositor.render`. The model has the stage's frames and size.

    Raises InputError where `latents` is a file of something else, or where compiled programs are to run an
    approximation: they are of the exact pass.
    """
    if latents is not None:
        latents_file.read(latents)
    if isinstance(run, Programs) and options.fast is not None:
        raise InputError(f"fast={options.fast}: compiled programs run the exact pass; pass one of the two")
    timer, now = Timer(), begin(stage, options)
    options = now.options
    steps, _ = options.schedule(stage.arch.diffusion)
    total = steps * len(stage.shots)
    for i in range(len(stage.shots)):
        with timer("prepare"):
            conditions = next_conditions(now)
        store = None
        if latents is not None:
            made_from = _made_from(model, conditions, i, options)
            store = latents_file.LayerLatents(latents, i, made_from)
        raw = generate(
            model,
            jax.tree.map(lambda x: x[None], conditions),
            [i],
            options,
            run=run,
            on_step=None if progress is None else _after(progress, i * steps, total),
            timer=timer,
            store=store,
        )[0]
        with timer("paste back"):
            now = with_layer(now, conditions, raw)
    return finished(now, timer.seconds)


def _made_from(model: Model, conditions: Conditions, number: int, options: SamplingOptions) -> str:
    """A hash of everything that the latents of a pass depend on, except the VAE's tiles: a pass that ran out
    of memory may be decoded with other tiles than it was encoded with.
    """
    arch = dataclasses.replace(model.arch, inflation=Inflation())  # masks come inflated
    if isinstance(arch.codec, VAEArch):
        arch = dataclasses.replace(arch, codec=dataclasses.replace(arch.codec, tile=None))
    text = np.asarray(model.arrays["null_text"] if options.prompt is None else model.prompts[options.prompt])
    facts = {
        "arch": to_json(arch),
        "provenance": model.provenance,
        "dtype": str(text.dtype),
        "int8": int8.is_quantised(model.arrays),
        "seed": options.seed,
        "number": number,
        "steps": options.steps,
        "solver": options.solver,
        "guidance": options.guidance if options.guided else None,
        "fast": options.fast,
    }
    return latents_file.fingerprint(facts, [text, *(x for x in conditions if x is not None)])


def _settings(stage: Stage, options: SamplingOptions, frames: np.ndarray) -> dict[str, Any]:
    return {
        "frames": stage.arch.frames,
        "fps": stage.background.fps,
        "width": frames.shape[2],
        "height": frames.shape[1],
        "model_width": stage.arch.width,
        "model_height": stage.arch.height,
        "windows": [list(layer.window.size[::-1]) for layer in stage.shots],
        **dataclasses.asdict(options),
        "guidance": options.guidance if options.prompt is not None else None,
    }


def _after(progress: OnStep, done_before: int, total: int) -> OnStep:
    """Progress over all layers, from the progress within one."""
    return lambda done, _: progress(done_before + done, total)
