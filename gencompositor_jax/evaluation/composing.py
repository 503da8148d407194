"""Makes results for a protocol: the model's and the baselines'; the command `gencompositor compose-dataset`.

Results are RESULTS/VIDEO/OBJECT/IMG.png, as `evaluate --results` finds them, with the reference's names of
images. A clip that is there already is kept, so that an interrupted run resumes; RESULTS/made_by.json keeps
a folder to one reference, one method with one checkpoint's weights, and one set of options.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Container, Iterator
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
from gencompositor_jax.evaluation.layouts import ReferenceClip
from gencompositor_jax.evaluation.measures import inflation_at
from gencompositor_jax.evaluation.results import Protocol, reference_clips
from gencompositor_jax.fields import Whole
from gencompositor_jax.files import atomic_folder, atomic_write_text, read_json, read_text
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
        if self.sampling != SamplingOptions() and self.method != "model":
            raise InputError(f"--method {self.method}: samples nothing; leave --steps and --seed out")
        if self.out.exists() and not self.out.is_dir():
            raise InputError(f"--out {self.out}: is a file; pass a folder")


def compose_dataset(options: DatasetOptions) -> int:
    """Make the results that aren't there yet; returns how many. Raises InputError."""
    clips, record = reference_clips(options.protocol, options.reference, options.clips), options.out / MADE_BY
    names = {clip.name: layouts.image_names(clip) for clip in clips}
    made_by = _made_by(options)
    if record.exists():
        found = fields.read(dict[str, Any], read_json(record), str(record))
        if different := [key for key in made_by if found.get(key) != made_by[key]]:
            raise InputError(f"--out {options.out}: {MADE_BY} has another {different[0]}: write elsewhere")
    elif options.out.exists() and any(options.out.iterdir()):
        raise InputError(f"--out {options.out}: holds other files, and no {MADE_BY}: write elsewhere")
    missing = {name for name in names if layouts.media_at(options.out / name) is None}
    if not missing:
        return 0
    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    model = checkpoints.load(_checkpoint(options), dtype) if options.method == "model" else None
    options.out.mkdir(parents=True, exist_ok=True)
    atomic_write_text(record, json.dumps(made_by, indent=1) + "\n")
    with tqdm.tqdm(total=len(missing), desc=options.method, unit="clip") as bar:
        for name, make in tasks(options, clips, model, missing):
            write(options.out / name, make(), names[name])
            bar.update()
    return len(missing)


def _checkpoint(options: DatasetOptions) -> Path:
    return checkpoints.packaged() if options.checkpoint is None else options.checkpoint


def _made_by(options: DatasetOptions) -> dict[str, Any]:
    """What decides the results, as JSON."""
    made = {"protocol": options.protocol, "reference": _digest(options), "method": options.method}
    if options.method == "model":
        weights = checkpoints.weights_hash(_checkpoint(options))
        made |= {"checkpoint": weights, **dataclasses.asdict(options.sampling)}
    return dict(json.loads(json.dumps(made)))


def _digest(options: DatasetOptions) -> str:
    """Of the names and sizes of a reference's files, and of the text of a manifest."""
    clips = reference_clips(options.protocol, options.reference, None)
    named = {each for c in clips for each in (c.target, c.mask, c.composite, c.background)}
    media = [each for each in named if each is not None]
    files = sorted({file for each in media for file in layouts.files_of(each)})
    listed = [f"{os.path.relpath(file, options.reference)} {file.stat().st_size}" for file in files]
    if options.protocol == "trajectory":
        listed.append(read_text(options.reference / manifest.MANIFEST))
    return hashlib.sha256("\n".join(listed).encode("utf-8", "surrogateescape")).hexdigest()


def tasks(
    options: DatasetOptions, clips: list[ReferenceClip], model: Model | None, missing: Container[str]
) -> Iterator[tuple[str, Callable[[], Frames]]]:
    """The name of each missing clip, and what makes its frames."""
    if options.protocol == "procedural":
        for clip in (clip for clip in clips if clip.name in missing):
            yield clip.name, partial(procedural, int(clip.video), options, model)
        return
    source = cases.harmonisation if options.protocol == "hyoutube" else cases.trajectories
    for case in source(options.reference, options.clips, missing):
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
    region = inflate(placed[..., 3] >= 128, inflation_at(background.shape[1]))
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
