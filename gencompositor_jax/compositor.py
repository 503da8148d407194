"""`Compositor`: weights loaded once, composites made many times.

    compositor = Compositor.load()
    composite = compositor.compose("street.mp4", "bird.mov", "120,130 360,90 600,200", scale=0.6)
    write_video("out.mp4", composite.frames, composite.fps)

Each clip size is compiled once; compiled programs are kept on disk for the next process. By default all local
devices work on a clip; `Compositor.load(mesh={"data": 2, "tensor": 4})` says how.
"""

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import jax
import numpy as np
from jax.sharding import Mesh

from gencompositor_jax import checkpoints, sharding
from gencompositor_jax.arch import Changes, ModelArch, Weights
from gencompositor_jax.checkpoints import Model
from gencompositor_jax.controls.arguments import (
    check_clip,
    check_numbers,
    check_paths,
    check_texts,
    whole_or_none,
)
from gencompositor_jax.controls.conditions import Conditions
from gencompositor_jax.controls.element.alpha import AlphaKind
from gencompositor_jax.controls.element.element import Element
from gencompositor_jax.controls.element.loading import Extend, Segmenter
from gencompositor_jax.controls.footage import clip_to_fill, fitting_element, load_mask
from gencompositor_jax.controls.geometry.easing import Easing
from gencompositor_jax.controls.geometry.placement import Anchor
from gencompositor_jax.controls.geometry.trajectory import Trajectory
from gencompositor_jax.controls.geometry.trajectory_text import as_numbers, as_trajectory
from gencompositor_jax.controls.geometry.window import Framing
from gencompositor_jax.controls.media.video import Footage, Video, probed
from gencompositor_jax.controls.sampling import Sampling, SamplingOptions
from gencompositor_jax.controls.shot import ElementLayer, RemovalLayer, layer_frames
from gencompositor_jax.controls.stage import Stage, arch_for, make_stage
from gencompositor_jax.files import PathLike, check_new_folder
from gencompositor_jax.inference import compiling, meshes
from gencompositor_jax.inference.loading import load_on_mesh, mesh_of, placed
from gencompositor_jax.inference.pipeline import OnEstimate, OnStep, generate
from gencompositor_jax.inference.programs import INDEX, Programs, directly
from gencompositor_jax.inference.rendering import Composite, render
from gencompositor_jax.inference.timer import Timer
from gencompositor_jax.model import int8


class Compositor:
    """A loaded model and what is done with it."""

    def __init__(
        self, model: Model, source: str = "", programs: Programs | None = None, mesh: Mesh | None = None
    ) -> None:
        """mesh: None is the one that the model's arrays are on, else one device."""
        self.mesh = mesh or mesh_of(model) or sharding.make_mesh({}, meshes.local_devices()[:1])
        if programs is not None:
            compiling.check_mesh(self.mesh)
        self.model, self.source = placed(model, self.mesh), source
        self.programs = programs  # None: compiled when they are needed
        self._at_size = functools.lru_cache(maxsize=4)(
            lambda *size: placed(checkpoints.at_size(self.model, *size), self.mesh)
        )

    @classmethod
    def load(
        cls,
        folder: PathLike | None = None,
        dtype: Any = None,
        programs: Programs | None = None,
        weights: Weights | None = None,
        mesh: Mapping[str, int] | Mesh | None = None,
        **changes: Unpack[Changes],
    ) -> "Compositor":
        """Loads a checkpoint, each device its shards.

        Args:
            folder: of the checkpoint; None is the embedded model.
            dtype: of weights and computation; None is float32 on a CPU, bfloat16 elsewhere.
            programs: compiled programs (`Programs.load`), the only ones that run then.
            weights: "int8" keeps the network's large kernels in 8 bits (see `int8`): an approximation that
                halves their memory.
            mesh: devices along `data` (clips), `context` (tokens), `tensor` (heads) and `fsdp`, see
                `sharding`. None is all local devices for one clip; one device for compiled programs.
            changes: fields of the architecture to replace.

        Raises InputError for anything that is no checkpoint, and for a mesh that doesn't fit it.
        """
        compiling.keep_compiled_programs()
        check_paths(folder=folder)
        source = checkpoints.packaged() if folder is None else Path(folder)
        if mesh is None and programs is not None:
            mesh = {"data": 1}
        model, on = load_on_mesh(source, mesh, dtype, weights, changes)
        return cls(model, "embedded" if folder is None else os.fspath(folder), programs, on)

    @property
    def arch(self) -> ModelArch:
        """The checkpoint's architecture."""
        return self.model.arch

    @property
    def weights(self) -> Weights | None:
        """The format of the network's kernels, if it isn't the dtype they compute in."""
        return "int8" if int8.is_quantised(self.model.arrays) else None

    def compose(
        self,
        background: PathLike | Video | np.ndarray,
        foreground: PathLike | Element | np.ndarray,
        trajectory: str | Trajectory | Sequence[Sequence[float]] | np.ndarray,
        *,
        scale: float | Sequence[float] = 1.0,
        rotation: float | Sequence[float] = 0.0,
        anchor: Anchor = "center",
        key: str = "auto",
        alpha: AlphaKind = "auto",
        mask: PathLike | None = None,
        segment: str | None = None,
        segmenter: Segmenter | None = None,
        extend: Extend = "error",
        in_frame: int = 0,
        out_frame: int | None = None,
        easing: Easing = "linear",
        frames: int | None = None,
        fps: float | None = None,
        start: float = 0.0,
        end: float | None = None,
        framing: Framing = "auto",
        latents: PathLike | None = None,
        progress: OnStep | None = None,
        **sampling: Unpack[Sampling],
    ) -> Composite:
        """Composites one moving element into a background.

        Args:
            background: a file, a folder of images, or uint8 RGB [T, H, W, 3] (at `fps`, 24 by default).
            foreground: a file or folder, or uint8 straight-alpha RGBA [T, h, w, 4].
            trajectory: points "x,y x,y", a file, "track:x,y", or (x, y) pairs, in background pixels.
            scale: background pixels per pixel of the element; several are key frames spread over the clip.
            rotation: degrees counter-clockwise, likewise.
            anchor: the point of the element that follows the trajectory, "center" or "bottom".
            key, alpha, mask, segment, segmenter: how the element is cut out of a file; see `load_element`.
            extend: "loop" or "hold" if the element has fewer frames than the layer.
            in_frame, out_frame: first and last frame of the result with the element (None: its last one); its
                clip, trajectory, scales and rotations count over these.
            easing: of its movement, see `easing.ease`.
            frames: of the result; None is all of the background's, or of the element's if they are fewer and
                `extend` is "error". A clip longer than the model's is sampled in windows, and its frames are
                computed as they are read.
            fps, start, end: which frames of the background file; see `read_video`.
            framing: what the model sees of the background; see `make_stage`.
            latents, progress: see `render`.
            sampling: fields of `SamplingOptions`.

        Raises InputError before anything heavy if the input can't be used.
        """
        options = SamplingOptions(**sampling)
        check_clip("background", background, Footage)
        check_clip("foreground", foreground, Element)
        check_paths(mask=mask, latents=latents)
        check_numbers(fps=fps, start=start, end=end)
        check_texts(anchor=anchor, key=key, alpha=alpha, segment=segment, extend=extend, easing=easing)
        frames, out_frame = whole_or_none("frames", frames), whole_or_none("out_frame", out_frame)
        in_frame = whole_or_none("in_frame", in_frame) or 0
        foreground = probed(foreground)
        elements = [(foreground, extend, in_frame)] if out_frame is None else []
        clip, arch = clip_to_fill(background, self.arch, elements, frames, fps, start, end)
        own = len(layer_frames(in_frame, out_frame, len(clip.frames)))
        element = fitting_element(foreground, clip, extend, key, mask, segmenter, alpha, segment, own)
        path = as_trajectory(trajectory)
        numbers = as_numbers(scale, "scale"), as_numbers(rotation, "rotation")
        layer = ElementLayer(element, path, *numbers, anchor, in_frame, out_frame, easing)
        stage = make_stage(clip, [layer], arch, framing, options.paste_back)
        return self.render(stage, options, latents=latents, progress=progress)

    def remove(
        self,
        background: PathLike | Video | np.ndarray,
        mask: PathLike | np.ndarray,
        *,
        frames: int | None = None,
        fps: float | None = None,
        start: float = 0.0,
        end: float | None = None,
        framing: Framing = "auto",
        latents: PathLike | None = None,
        progress: OnStep | None = None,
        **sampling: Unpack[Sampling],
    ) -> Composite:
        """Removes what a mask covers: a clip or picture, white there, or bool [T, H, W].

        The other arguments are those of `compose`; the foreground is white, as in the release.
        """
        options = SamplingOptions(**sampling)
        check_clip("background", background, Footage)
        check_clip("mask", mask)
        check_numbers(fps=fps, start=start, end=end)
        frames = whole_or_none("frames", frames)
        clip, arch = clip_to_fill(background, self.arch, (), frames, fps, start, end)
        layer = RemovalLayer(load_mask(mask, clip, start, end))
        stage = make_stage(clip, [layer], arch, framing, options.paste_back)
        return self.render(stage, options, latents=latents, progress=progress)

    def render(
        self,
        stage: Stage,
        options: SamplingOptions = SamplingOptions(),  # noqa: B008 (frozen)
        *,
        latents: PathLike | None = None,
        progress: OnStep | None = None,
        on_estimate: OnEstimate | None = None,
    ) -> Composite:
        """Generates what is on a stage: one sampling pass per layer, each over the result so far.

        The same stage, options and seed give the same frames. latents: a file that keeps what was sampled
        until it is decoded. If an earlier call left it, with the same inputs, it is decoded at once (with
        other tiles if need be); else it is replaced. progress: called with (steps done, steps in all).
        on_estimate: called before it with one frame of the present estimate, uint8 [h, w, 3], as the model
        sees it.
        """
        checkpoints.check_prompt(options.prompt, self.model.prompts)
        if self.programs is not None:
            frames = len(stage.background.frames)
            compiling.check_programs(self.programs, stage.arch, frames, options, self.weights)
        model = self._at_size(stage.arch.frames, stage.arch.height, stage.arch.width)
        file = None if latents is None else Path(latents)
        with jax.set_mesh(self.mesh):
            composite = render(model, stage, options, self.programs or directly, file, progress, on_estimate)
        settings = {"checkpoint": self.source, **composite.settings, "weights": self.weights}
        return dataclasses.replace(composite, settings=settings)

    def sample(
        self,
        arch: ModelArch,
        given: Sequence[Conditions],
        options: SamplingOptions,
        *,
        seeds: Sequence[int],
        layer: int = 0,
        size: int | None = None,
        timer: Timer | None = None,
    ) -> np.ndarray:
        """What the model generates for a layer of several clips in one call, as `render` would for each.

        Returns uint8 [B, T, h, w, 3]. arch: of their stages. given: conditions [T, H, W, C]. seeds: one per
        clip, in place of that of `options`. size, timer: see `pipeline.generate`.
        """
        batch = jax.tree.map(lambda *clips: np.stack(clips), *given)
        model = self._at_size(arch.frames, arch.height, arch.width)
        with jax.set_mesh(self.mesh):
            return generate(model, batch, [layer] * len(given), options, seeds=seeds, size=size, timer=timer)

    def compile(
        self,
        folder: PathLike,
        *,
        frames: int | None = None,
        overwrite: bool = False,
        **sampling: Unpack[Sampling],
    ) -> int:
        """Compiles what `render` runs into a folder, for `Programs.load` on a machine like this one.

        The programs serve all clips of that many frames with as many steps per call (`part_length`), and
        guidance or none; those of a long clip also others whose first chunks (`chunk_sizes`) have as many
        frames. Each is run once. Returns the folder's bytes. Raises InputError where the folder exists and
        `overwrite` is False, before anything heavy.
        """
        options = SamplingOptions(**sampling)
        checkpoints.check_prompt(options.prompt, self.model.prompts)
        check_new_folder(Path(folder), overwrite, INDEX)
        compiling.check_mesh(self.mesh)
        arch = arch_for(self.arch, frames)
        model = self._at_size(arch.frames, arch.height, arch.width)
        with jax.set_mesh(self.mesh):
            return compiling.compile_pass(model, options, self.weights, Path(folder), overwrite, frames)
