"""Makes results for a protocol: the model's and the baselines'; the command `gencompositor compose-dataset`.

Results are RESULTS/VIDEO/OBJECT/IMG.png, as `evaluate --results` finds them, with the reference's names of
images. A clip that is there already is kept, so that an interrupted run resumes; RESULTS/made_by.json keeps
a folder to one method with one checkpoint and one set of options.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from PIL import Image

from gencompositor_jax import checkpoints, fields
from gencompositor_jax.arch import tiny
from gencompositor_jax.checkpoints import Model
from gencompositor_jax.controls import shot
from gencompositor_jax.controls.geometry.placement import paste_over
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.controls.stage import arch_for, make_stage
from gencompositor_jax.data_pipelines import benchmark
from gencompositor_jax.errors import InputError
from gencompositor_jax.evaluation import baselines, cases, heldout, layouts, manifest, prediction
from gencompositor_jax.evaluation.cases import Case
from gencompositor_jax.evaluation.results import Protocol
from gencompositor_jax.fields import Whole
from gencompositor_jax.files import atomic_folder, atomic_write_text, read_json
from gencompositor_jax.inference.rendering import render
from gencompositor_jax.masks.inflation import inflate

Method = Literal["model", "paste", "color_transfer", "seamless_clone"]
Frames = np.ndarray  # uint8 [T, H, W, 3]
MADE_BY = "made_by.json"


@dataclasses.dataclass(frozen=True)
class DatasetOptions:
    """What to compose; checked when it is made. Raises InputError naming the option."""

    protocol: Protocol
    reference: Path
    out: Path
    method: Method = "model"
    checkpoint: Path | None = None  # None: the embedded model
    clips: int | None = None  # only the first ones
    sampling: SamplingOptions = SamplingOptions()

    def __post_init__(self) -> None:
        fields.read(Protocol, self.protocol, "--protocol")
        fields.read(Method, self.method, "--method")
        fields.read(Annotated[Whole, fields.within(1, 10**6)] | None, self.clips, "--clips")
        if self.checkpoint is not None and self.method != "model":
            raise InputError(f"--checkpoint: --method {self.method} uses none; leave one of them out")


def compose_dataset(options: DatasetOptions) -> int:
    """Make the results that aren't there yet; returns how many. Raises InputError."""
    names, record = names_of(options), options.out / MADE_BY
    if record.exists() and read_json(record) != _made_by(options):
        raise InputError(f"--out {options.out}: {MADE_BY} names another method or options: write elsewhere")
    missing = {name for name in names if layouts.media_at(options.out / name) is None}
    if not missing:
        return 0
    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    model = None
    if options.method == "model":
        folder = checkpoints.packaged() if options.checkpoint is None else options.checkpoint
        model = checkpoints.load(folder, dtype)
    options.out.mkdir(parents=True, exist_ok=True)
    atomic_write_text(record, json.dumps(_made_by(options), indent=1) + "\n")
    with tqdm.tqdm(total=len(missing), desc=options.method, unit="clip") as bar:
        for name, make in tasks(options, model):
            if name in missing:
                write(options.out / name, make(), names[name])
                bar.update()
    return len(missing)


def _made_by(options: DatasetOptions) -> dict[str, Any]:
    """What decides the results besides the reference, as JSON."""
    made: dict[str, Any] = {"protocol": options.protocol, "method": options.method}
    if options.method == "model":
        checkpoint = None if options.checkpoint is None else str(options.checkpoint.absolute())
        made |= {"checkpoint": checkpoint, **dataclasses.asdict(options.sampling)}
    return made


def names_of(options: DatasetOptions) -> dict[str, list[str] | None]:
    """By clip the names of the reference's images; None: numbers."""
    if options.protocol == "trajectory":
        groups, _ = manifest.read_groups(options.reference)
        return {group.name: None for group in groups[: options.clips]}
    if options.protocol == "procedural":
        benchmark.read_subsets(options.reference)
    clips = layouts.reference_clips(options.reference, options.clips)
    return {clip.name: layouts.frame_names(clip.mask) if clip.mask else None for clip in clips}


def tasks(options: DatasetOptions, model: Model | None) -> Iterator[tuple[str, Callable[[], Frames]]]:
    """Each clip's name, and what makes its frames."""
    if options.protocol == "procedural":
        for clip in layouts.reference_clips(options.reference, options.clips):
            yield clip.name, partial(procedural, int(clip.video), options, model)
        return
    source = cases.harmonisation if options.protocol == "hyoutube" else cases.trajectories
    for case in source(options.reference, options.clips):
        yield case.name, partial(composite, case, options, model)


def composite(case: Case, options: DatasetOptions, model: Model | None) -> Frames:
    """One case by the method."""
    frames = len(case.background.frames)
    own = tiny() if model is None else model.arch
    stage = make_stage(case.background, [case.layer], arch_for(own, frames))
    if model is not None:
        sized = checkpoints.at_size(model, frames, own.height, own.width)
        return render(sized, stage, options.sampling).frames[: case.length]
    background = case.background.frames
    placed = shot.plain_paste(stage.shots[0], (background.shape[1], background.shape[2]))
    assert placed is not None
    region = inflate(placed[..., 3] >= 128, own.inflation)
    return baseline(options.method, background, placed, region)[: case.length]


def procedural(number: int, options: DatasetOptions, model: Model | None) -> Frames:
    """One clip of the benchmark by the method; the model gets the relit element and the jittered region."""
    if model is None:
        example = benchmark.example(number)
        region = inflate(example["silhouette"], benchmark.INFLATION)
        return baseline(options.method, example["background"], example["placed"], region)
    arch = model.arch
    if (arch.frames, arch.height, arch.width) != (benchmark.FRAMES, benchmark.HEIGHT, benchmark.WIDTH):
        size = f"{arch.frames} frames of {arch.width}x{arch.height}"
        raise InputError(f"--checkpoint: is of {size}, the benchmark of 9 frames of 96x64: pass such a one")
    example = benchmark.example(number, arch.offset_cell)
    generated = prediction.predict(model, [example], [number], options.sampling)[0]
    return heldout.model_composites(example, generated, arch, options.sampling)[heldout.MODEL]


def baseline(method: str, background: Frames, placed: np.ndarray, region: np.ndarray) -> Frames:
    """A baseline: background uint8 [T, H, W, 3], placed uint8 RGBA [T, H, W, 4], region bool [T, H, W]."""
    if method == "color_transfer":
        return baselines.color_transfer(background, placed)
    paste = paste_over(background, placed)
    return paste if method == "paste" else baselines.seamless_clone(background, paste, region)


def write(folder: Path, frames: Frames, names: list[str] | None) -> None:
    """The frames as PNG images of these names."""
    names = [f"{t:05d}" for t in range(len(frames))] if names is None else names
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder) as part:
        for name, frame in zip(names, frames, strict=True):
            Image.fromarray(frame).save(part / f"{name}.png", compress_level=4)
