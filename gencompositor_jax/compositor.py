"""`Compositor`: weights loaded once, composites made many times.

    compositor = Compositor.load()
    composite = compositor.compose("street.mp4", "bird.mov", "120,130 360,90 600,200", scale=0.6)
    write_video("out.mp4", composite.frames, composite.fps)

Each clip size is compiled once; the compiled programs are kept on disk for the next process.
"""

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, get_args

import jax
import jax.numpy as jnp
import numpy as np

from gencompositor_jax import checkpoints
from gencompositor_jax.arch import Changes, Inflation, ModelArch, VAEArch, changed, to_json
from gencompositor_jax.checkpoints import Model
from gencompositor_jax.controls import fields
from gencompositor_jax.controls import stage as staging
from gencompositor_jax.controls.conditions import Conditions
from gencompositor_jax.controls.element.loading import Element, Extend, Segmenter, fit_length
from gencompositor_jax.controls.geometry.placement import Anchor
from gencompositor_jax.controls.geometry.trajectory import Trajectory, from_points, parse_trajectory
from gencompositor_jax.controls.geometry.window import Framing
from gencompositor_jax.controls.media.video import Video, read_video
from gencompositor_jax.controls.scene import Scene
from gencompositor_jax.controls.stage import PathLike, Stage
from gencompositor_jax.diffusion import approximations, sampler
from gencompositor_jax.diffusion.approximations import Approximations
from gencompositor_jax.diffusion.sampler import Solver
from gencompositor_jax.errors import InputError
from gencompositor_jax.inference import latents_file, pipeline
from gencompositor_jax.inference.programs import Programs, Recorder, Rehearsal, Run, directly
from gencompositor_jax.model import int8

CACHE_VARIABLE = "GENCOMPOSITOR_CACHE"
CACHE_FOLDER = "~/.cache/gencompositor"

Progress = Callable[[int, int], None]  # (steps done, steps in all)
Weights = Literal["int8"]  # how the network's are kept, if not in the type it computes in


class Sampling(TypedDict, total=False):
    """How a composite is generated; what is left out has the default of `Compositor.render`."""

    steps: int  # of the sampler, 1 to 1000
    seed: int
    solver: Solver
    paste_back: bool  # put the result back into the background at its own size
    feather: float  # of the paste-back, in model pixels
    prompt: str | None  # name of a prompt that the checkpoint stores; None is the empty one
    guidance: float  # how far beyond the empty prompt's answer a prompt leads; 1 is the prompt alone
    fast: str | None  # approximations: drop-blank, cache:N or both, see `fast`; None is the exact pass
    latents: PathLike | None  # a file that keeps what was sampled, written before it is decoded
    progress: Progress | None  # called while sampling


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
    seconds: dict[str, float]  # per stage; a shape's first call compiles within encode, sample and decode


class Compositor:
    """A loaded model and what is done with it."""

    def __init__(self, model: Model, source: str = "", programs: Programs | None = None) -> None:
        # Once: jit would send NumPy arrays to the device with every call.
        model = dataclasses.replace(
            model, arrays=jax.device_put(model.arrays), prompts=jax.device_put(model.prompts)
        )
        self.model = model
        self.source = source
        self.programs = programs  # None: compiled when they are needed
        self._at_size = functools.lru_cache(maxsize=4)(functools.partial(checkpoints.at_size, model))

    @classmethod
    def load(
        cls,
        folder: PathLike | None = None,
        dtype: Any = None,
        programs: Programs | None = None,
        weights: Weights | None = None,
        **changes: Unpack[Changes],
    ) -> "Compositor":
        """Loads a checkpoint's folder, the embedded model where None.

        dtype: of weights and computation; None is float32 on a CPU, bfloat16 elsewhere. programs: of
        `compile`, as `Programs.load` reads them: these run and no others. weights: "int8" keeps the network's
        large kernels in 8 bits (see `int8`), an approximation for half of the memory. changes: what is to
        differ from how the checkpoint was trained. Raises InputError for anything that is no checkpoint.
        """
        keep_compiled_programs()
        if dtype is None:
            dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
        if weights is not None:
            fields.choice(weights, "weights", get_args(Weights))
        path = checkpoints.packaged() if folder is None else Path(folder)
        model = checkpoints.load(path, dtype)
        arrays = model.arrays if weights is None else int8.quantised(model.arrays)
        model = dataclasses.replace(model, arch=changed(model.arch, changes), arrays=arrays)
        return cls(model, "embedded" if folder is None else os.fspath(folder), programs)

    @property
    def arch(self) -> ModelArch:
        """The checkpoint's architecture."""
        return self.model.arch

    @property
    def weights(self) -> Weights | None:
        """How the network's weights are kept, if not in the type it computes in."""
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
        mask: PathLike | None = None,
        segmenter: Segmenter | None = None,
        extend: Extend = "error",
        frames: int | None = None,
        fps: float | None = None,
        start: float = 0.0,
        end: float | None = None,
        framing: Framing = "auto",
        **sampling: Unpack[Sampling],
    ) -> Composite:
        """Puts one moving element into a background.

        Args:
            background: a file, a folder of images, or uint8 RGB [T, H, W, 3] (at `fps`, 24 unless told).
            foreground: a file or folder, or uint8 straight-alpha RGBA [T, h, w, 4].
            trajectory: points "x,y x,y", a file, "track:x,y", or (x, y) pairs, in background pixels.
            scale: background pixels per pixel of the element; several are spread over the clip.
            rotation: degrees counter-clockwise; several are spread over the clip.
            anchor: which point of the element is on the trajectory, "center" or "bottom".
            key, mask, segmenter: how the element is cut out of a file; see `load_element`.
            extend: "loop" or "hold" where the element has fewer frames than are made.
            frames: how many to make, 4k+1; None is what the checkpoint was trained for.
            fps, start, end: which frames of the background file; see `read_video`.
            framing: what the model is shown; see `make_shot`.
            sampling: see `render`.

        Raises InputError before anything heavy if the input can't be used.
        """
        arch = staging.arch_for(self.arch, frames)
        clip = _as_video(background, arch.frames, fps, start, end)
        if isinstance(foreground, np.ndarray):
            foreground = _as_element(foreground)
        if isinstance(foreground, Element):
            element = fit_length(foreground, arch.frames, extend)
        else:
            element = staging.read_element(foreground, clip, extend, key, mask, segmenter)
        if isinstance(trajectory, str):
            trajectory = parse_trajectory(trajectory)
        elif not isinstance(trajectory, Trajectory):
            trajectory = from_points(trajectory)
        if not sampling.get("paste_back", True):
            framing = "whole"
        how = _as_tuple(scale), _as_tuple(rotation), anchor
        shot = staging.make_shot(element, trajectory, clip.frames, arch, framing, *how)
        return self.render(Stage(clip, (shot,), arch), **sampling)

    def compose_scene(self, scene: Scene, progress: Progress | None = None) -> Composite:
        """Composites what a project file says, with this model whatever its `checkpoint`."""
        return self.render(staging.set_stage(scene, self.arch), **scene_sampling(scene, progress))

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
        **sampling: Unpack[Sampling],
    ) -> Composite:
        """Fills in what stands where `mask` is: a clip or picture, white there, or bool [T, H, W].

        The other arguments are those of `compose`; the foreground is white, as in the release.
        """
        arch = staging.arch_for(self.arch, frames)
        clip = _as_video(background, arch.frames, fps, start, end)
        if not isinstance(mask, np.ndarray):
            mask = staging.read_mask(mask, clip, start, end)
        if mask.shape != clip.frames.shape[:3] or not mask.any():
            raise InputError(
                f"mask: {mask.shape}, {int(mask.sum())} pixels set; the background is {clip.frames.shape[:3]}"
            )
        if not sampling.get("paste_back", True):
            framing = "whole"
        shot = staging.removal_shot(mask.astype(bool), arch, framing)
        return self.render(Stage(clip, (shot,), arch), **sampling)

    def render(
        self,
        stage: Stage,
        *,
        steps: int = 20,
        seed: int = 42,
        solver: Solver = "dpm",
        paste_back: bool = True,
        feather: float = 2.0,
        prompt: str | None = None,
        guidance: float = 6.0,
        fast: str | None = None,
        latents: PathLike | None = None,
        progress: Progress | None = None,
    ) -> Composite:
        """Generates what stands on a stage: one sampling pass per layer, each over the result so far.

        The same stage, settings and seed give the same frames. See `Sampling` for the arguments. Without
        paste-back the stage must have been set with the framing "whole".

        Where `latents` is a file that was left with what this very call would sample, it is decoded at once;
        tiles may be others. A file made from anything else is replaced.
        """
        check_sampling(steps, seed, solver, paste_back, feather, prompt, guidance, fast)
        checkpoints.check_prompt(prompt, self.model.prompts)
        file, how = None if latents is None else Path(latents), approximations.parse(fast)
        if file is not None:
            latents_file.read(file)
        if self.programs is not None and str(how):
            raise InputError(f"fast={how}: compiled programs are of the exact pass; leave one of the two out")
        plan = sampler.coefficients(stage.arch.diffusion, steps, solver)
        if self.programs is not None:
            guided = is_guided(prompt, guidance)
            self.programs.check(made_for(stage.arch, steps, guided, self.weights))
        run = self.programs or directly
        model = self._at_size(stage.arch.frames, stage.arch.height, stage.arch.width)
        clock, total = Clock(), steps * len(stage.shots)
        current, masks_so_far = stage.background.frames, []
        raw = None
        for i, shot in enumerate(stage.shots):
            with clock("prepare"):
                seen = staging.shown(shot, current) if paste_back or raw is None else raw
                conditions = staging.conditions(stage, shot, seen)
                inside = conditions.mask[..., 0] > 0
            key = jax.random.fold_in(jax.random.key(seed), i)
            report = _later(progress, i * steps, total)
            place = None
            if file is not None:
                made_from = _made_from(model, conditions, key, plan, prompt, guidance, how)
                place = latents_file.Place(file, i, made_from)
            led: Any = {"prompt": prompt, "guidance": guidance, "fast": how}
            raw = generate(model, conditions, key, plan, report, clock, **led, run=run, place=place)
            with clock("paste back"):
                if paste_back:
                    current, inside = staging.put_in(shot, current, raw, inside, feather)
                else:
                    current = raw
            masks_so_far.append(inside)
        assert raw is not None, "a stage has at least one layer"
        return Composite(
            frames=current,
            mask=np.any(masks_so_far, axis=0),
            raw=raw,
            background=stage.background.frames,
            foreground=stage.shots[-1].foreground,
            fps=stage.background.fps,
            settings={
                "checkpoint": self.source,
                "frames": stage.arch.frames,
                "fps": stage.background.fps,
                "width": current.shape[2],
                "height": current.shape[1],
                "model_width": stage.arch.width,
                "model_height": stage.arch.height,
                "windows": [list(shot.window.size[::-1]) for shot in stage.shots],
                "steps": steps,
                "seed": seed,
                "solver": solver,
                "paste_back": paste_back,
                "feather": feather,
                "prompt": prompt,
                "guidance": guidance if prompt is not None else None,
                "fast": str(how) or None,
                "weights": self.weights,
            },
            seconds=clock.seconds,
        )

    def compile(
        self,
        folder: PathLike,
        *,
        frames: int | None = None,
        steps: int = 20,
        prompt: str | None = None,
        guidance: float = 6.0,
        overwrite: bool = False,
    ) -> int:
        """Compiles what `render` runs and keeps it in a folder, for `Programs.load` on a machine like this.

        Whatever has these frames, as many steps per call (`part_length`) and is guided or not as this is
        can be made with it. Each program is run once. Returns the folder's bytes. Raises InputError where
        the folder exists and `overwrite` is False, before anything heavy.
        """
        check_sampling(steps=steps, prompt=prompt, guidance=guidance)
        checkpoints.check_prompt(prompt, self.model.prompts)
        if Path(folder).exists() and not overwrite:
            raise InputError(f"{folder}: exists; pass --overwrite or another folder")
        arch = staging.arch_for(self.arch, frames)
        pixels = (arch.frames, arch.height, arch.width)
        model, plan = self._at_size(*pixels), sampler.coefficients(arch.diffusion, steps, "dpm")
        nothing = Conditions(*(np.zeros((*pixels, channels), np.float32) for channels in (1, 3, 3)))
        recorder = Recorder()
        how: Any = {"prompt": prompt, "guidance": guidance, "run": Rehearsal(recorder)}
        generate(model, nothing, jax.random.key(0), plan, **how)
        needs = made_for(arch, steps, is_guided(prompt, guidance), self.weights)
        return recorder.save(Path(folder), needs, overwrite)


def made_for(arch: ModelArch, steps: int, guided: bool, weights: Weights | None) -> dict[str, Any]:
    """What of a pass its programs depend on that a user may change; see `Programs.check`."""
    size = {"frames": arch.frames, "height": arch.height, "width": arch.width}
    return {**size, "steps_per_call": part_length(steps), "guided": guided, "weights": weights}


def is_guided(prompt: str | None, guidance: float) -> bool:
    """Whether the network is asked twice per step: the empty prompt needs no guidance, whatever its scale."""
    return prompt is not None and guidance != 1


def scene_sampling(
    scene: Scene, progress: Progress | None = None, latents: PathLike | None = None
) -> Sampling:
    """The part of a project file that `render` takes, and what a project file doesn't say."""
    return Sampling(
        steps=scene.steps,
        seed=scene.seed,
        solver=scene.solver,
        paste_back=scene.paste_back,
        feather=scene.feather,
        prompt=scene.prompt,
        guidance=scene.guidance,
        fast=scene.fast,
        latents=latents,
        progress=progress,
    )


def check_sampling(
    steps: int = 20,
    seed: int = 42,
    solver: str = "dpm",
    paste_back: bool = True,
    feather: float = 2.0,
    prompt: str | None = None,
    guidance: float = 6.0,
    fast: str | None = None,
) -> None:
    """Raises InputError where a setting of `render` is out of its range, before anything is generated."""
    fields.integer(steps, "steps", 1, 1000)
    fields.integer(seed, "seed", 0, 2**32 - 1)
    fields.choice(solver, "solver", get_args(Solver))
    fields.flag(paste_back, "paste_back")
    fields.number(feather, "feather", low=0.0, high=1000.0)
    if prompt is not None:
        fields.text(prompt, "prompt")
    fields.number(guidance, "guidance", low=0.0, high=100.0)
    approximations.parse(fast).check(steps)


class Clock:
    """Seconds spent per stage, summed over layers."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Adds the time spent in the block to a stage's."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began


def generate(
    model: Model,
    conditions: Conditions,
    key: jax.Array,
    plan: sampler.Coefficients,
    progress: Progress | None = None,
    clock: Clock | None = None,
    prompt: str | None = None,
    guidance: float = 6.0,
    run: Run = directly,
    fast: Approximations = Approximations(),  # noqa: B008 (frozen)
    place: latents_file.Place | None = None,
) -> np.ndarray:
    """One sampling pass: conditions at the model's size -> uint8 [T, h, w, 3].

    plan: `sampler.coefficients`. The same key gives the same frames. prompt: one of the model's; the
    empty one needs no guidance, whatever its scale, and half of the work. run: who calls the compiled parts.
    fast: what is approximated. place: where the latents are kept before they are decoded; if they are there,
    nothing is sampled. Raises InputError where the device has too little memory to decode.
    """
    clock = clock or Clock()
    # Masks come inflated: how isn't the programs' business.
    model = dataclasses.replace(model, arch=dataclasses.replace(model.arch, inflation=Inflation()))
    found: Any = None if place is None else place.read()
    if found is None:
        found = _sampled(model, conditions, key, plan, progress, clock, prompt, guidance, run, fast)
        if place is not None:
            place.write(np.asarray(found))
    with clock("decode"):
        try:
            return np.asarray(run(decode, model.arrays["codec"], found[None], arch=model.arch))[0]
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            kept = f"; {place.path} keeps what was sampled, the same call goes on from it" if place else ""
            raise InputError(
                f"the device has too little memory to decode: decode in tiles (tiles=released){kept}"
            ) from error


def _sampled(
    model: Model,
    conditions: Conditions,
    key: jax.Array,
    plan: sampler.Coefficients,
    progress: Progress | None,
    clock: Clock,
    prompt: str | None,
    guidance: float,
    run: Run,
    fast: Approximations,
) -> jax.Array:
    """`generate` up to the latents [t, h, w, C]."""
    arch, arrays = model.arch, model.arrays
    text = arrays["null_text"] if prompt is None else model.prompts[prompt]
    guided = None
    if is_guided(prompt, guidance):
        guided = arrays["null_text"], jnp.float32(guidance)
    count = len(plan.timestep)
    length = part_length(count)
    computed = approximations.computed_steps(count, fast.cache) if fast.cache > 1 else None
    kept = approximations.kept_tokens(conditions.foreground[None], arch) if fast.drop_blank else None
    with clock("encode"):
        keys = pipeline.split(key[None])
        given = run(encode, arrays["codec"], jax.tree.map(lambda x: x[None], conditions), keys, arch=arch)
        state = sampler.initial_state(pipeline.draw(keys.start, arch), skipping=computed is not None)
        jax.block_until_ready(given)
    with clock("sample"):
        columns = [c.astype(np.int32 if c.dtype.kind == "i" else np.float32) for c in plan]
        for first in range(0, count, length):
            now = slice(first, first + length)
            part = sampler.Coefficients(*(column[now] for column in columns))
            some = None if computed is None else computed[now]
            moving = given, state, first, part, keys.steps, some, kept
            state = run(advance, arrays, text, guided, *moving, arch=arch)
            jax.block_until_ready(state)
            if progress is not None:
                progress(first + length, count)
    return state.x[0]


def _made_from(
    model: Model,
    conditions: Conditions,
    key: jax.Array,
    plan: sampler.Coefficients,
    prompt: str | None,
    guidance: float,
    fast: Approximations,
) -> str:
    """A hash of all that the latents of a pass depend on, but for the tiles that its videos are encoded in:
    they may be others for decoding.
    """
    arch = model.arch
    if isinstance(arch.codec, VAEArch):
        arch = dataclasses.replace(arch, codec=dataclasses.replace(arch.codec, tile=None))
    text = np.asarray(model.arrays["null_text"] if prompt is None else model.prompts[prompt])
    facts = {
        "arch": to_json(arch),
        "provenance": model.provenance,
        "type": str(text.dtype),
        "int8": int8.is_quantised(model.arrays),
        "guidance": guidance if is_guided(prompt, guidance) else None,
        "fast": str(fast),
    }
    return latents_file.fingerprint(facts, [np.asarray(jax.random.key_data(key)), text, *plan, *conditions])


def part_length(steps: int) -> int:
    """Steps per call of the compiled sampler: equal parts, so that one program serves all.

    Ten calls or more where that can be: between two of them progress is shown and the user may interrupt.
    """
    return max(d for d in range(1, steps + 1) if steps % d == 0 and (d == 1 or steps // d >= 10))


# The parts of a pass as programs of their own, for progress in between.
encode = jax.jit(pipeline.encode, static_argnames="arch")
advance = jax.jit(pipeline.advance, static_argnames="arch", donate_argnames="state")
decode = jax.jit(pipeline.decode, static_argnames="arch")


def keep_compiled_programs() -> None:
    """Has JAX keep compiled programs in ~/.cache/gencompositor, or where GENCOMPOSITOR_CACHE says.

    An empty GENCOMPOSITOR_CACHE turns it off; a cache that JAX was given itself (JAX_COMPILATION_CACHE_DIR)
    stays.
    """
    folder = os.environ.get(CACHE_VARIABLE, CACHE_FOLDER)
    if folder and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def _later(progress: Progress | None, done_before: int, total: int) -> Progress | None:
    return None if progress is None else lambda done, _: progress(done_before + done, total)


def _as_video(
    given: PathLike | Video | np.ndarray, frames: int, fps: float | None, start: float, end: float | None
) -> Video:
    if isinstance(given, np.ndarray):
        given = Video(given, fps or 24.0, "background")
    if not isinstance(given, Video):
        return read_video(given, fps=fps, start=start, end=end, frames=frames)
    pixels = given.frames
    if pixels.ndim != 4 or pixels.shape[-1] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise InputError(
            f"background: {pixels.dtype} {pixels.shape}; pass uint8 RGB [frames, height, width, 3]"
        )
    if len(pixels) < frames:
        raise InputError(
            f"background: {len(pixels)} frames are there, {frames} are needed: "
            f"pass frames={len(pixels)} or less, or a longer clip"
        )
    return dataclasses.replace(given, frames=pixels[:frames])


def _as_element(pixels: np.ndarray) -> Element:
    if pixels.ndim != 4 or pixels.shape[-1] != 4 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise InputError(
            f"foreground: {pixels.dtype} {pixels.shape}; pass uint8 RGBA [frames, height, width, 4]"
        )
    if not pixels[..., 3].any():
        raise InputError("foreground: alpha is 0 everywhere, so there is no element")
    return Element(pixels, "foreground")


def _as_tuple(value: float | Sequence[float]) -> tuple[float, ...]:
    return tuple(float(v) for v in value) if isinstance(value, Sequence) else (float(value),)
