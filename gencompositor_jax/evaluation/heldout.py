"""The held-out protocol: scores a model and baselines on procedural clips that no training uses.

    evaluation = run("runs/tiny/model", out="results.json")
    print(report.table(evaluation.report))

Clip number 0, 1, ... is `data_pipelines.examples.held_out_example(number)`: its foreground is the element in
another light and with a colour cast, its mask is jittered. Composites are scored in three regions, which the
ground truth defines:

    target      the element's silhouette, inflated as the model's masks are
    ring        the 8 pixels around the target: the rest of the shadow, and a jittered mask that is too large
    silhouette  the element itself

The score of a clip is the PSNR over the region's pixels in all frames (`metrics.psnr`), at most
`metrics.CAP`; means are over the clips' dB. "model" is what `compose` gives, "model_alone" the network's own
frames, "model_mean" the element's own pixels with the network's mean colours only.
"""

import dataclasses
import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from gencompositor_jax import checkpoints
from gencompositor_jax.arch import Inflation, ModelArch
from gencompositor_jax.checkpoints import Model
from gencompositor_jax.controls.geometry.paste_back import make_transfer
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.data_pipelines.benchmark import CLIPS
from gencompositor_jax.data_pipelines.examples import TestExample, held_out_example
from gencompositor_jax.data_pipelines.procedural import HELD_OUT_SEED
from gencompositor_jax.errors import InputError
from gencompositor_jax.evaluation import baselines, metrics
from gencompositor_jax.evaluation.prediction import composite, predict
from gencompositor_jax.files import atomic_write_text, check_output_file
from gencompositor_jax.masks.inflation import inflate

Composites = dict[str, np.ndarray]  # by method: uint8 [T, H, W, 3]
Scores = dict[str, dict[str, float]]  # by method and region: dB
REGIONS = ("target", "ring", "silhouette")
MODEL, ALONE, MEAN = "model", "model_alone", "model_mean"
BASELINES = ("background", "region_mean", "element_mean", "paste", "color_transfer", "seamless_clone")
BATCH = 8  # clips that are sampled together


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The report, and the first clips with their composites and scores."""

    report: dict[str, Any]  # JSON values
    shown: list[tuple[TestExample, Composites, Scores]]


def run(
    checkpoint: str | os.PathLike[str] | None = None,
    *,
    clips: int = 64,
    options: SamplingOptions = SamplingOptions(),  # noqa: B008 (frozen)
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    keep: int = 0,
) -> Evaluation:
    """Load a checkpoint (None: the embedded model) and evaluate it; the command `gencompositor evaluate`.

    Args:
        checkpoint: its folder.
        clips: the number of held-out clips, from number 0 on.
        options: of the sampling.
        out: JSON file for the report.
        overwrite: whether `out` may exist.
        keep: the number of clips to return with their composites, from number 0 on.

    Raises InputError for an argument that can't be used, before heavy work.
    """
    if not 1 <= clips <= CLIPS:
        raise InputError(f"--clips {clips}: pass 1 to {CLIPS}, the clips of the benchmark")
    if out is not None:
        check_output_file(out, overwrite, "--out")
    folder = checkpoints.packaged() if checkpoint is None else Path(checkpoint)
    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    model = checkpoints.load(folder, dtype)
    evaluation = evaluate(model, options, clips=clips, keep=keep)
    evaluation.report["checkpoint"] = "embedded" if checkpoint is None else os.fspath(checkpoint)
    if out is not None:
        write_json(Path(out), evaluation.report)
    return evaluation


def evaluate(
    model: Model,
    options: SamplingOptions = SamplingOptions(),  # noqa: B008 (frozen)
    *,
    clips: int = 64,
    keep: int = 0,
) -> Evaluation:
    """Score a loaded model and all baselines; see `run`. The same arguments give the same report."""
    arch = model.arch
    steps, solver = options.schedule(arch.diffusion)
    size = min(BATCH, clips)
    shown, all_scores = [], []
    with tqdm.tqdm(total=clips, desc="held-out clips", unit="clip") as bar:
        for first in range(0, clips, size):
            numbers = range(first, min(first + size, clips))
            examples = [
                held_out_example(n, arch.inflation, arch.frames, arch.height, arch.width, arch.offset_cell)
                for n in numbers
            ]
            predictions = predict(model, examples, numbers, options, size)
            for number, example, frames in zip(numbers, examples, predictions, strict=True):
                regions = scored_regions(example, arch.inflation)
                composites = {
                    **baseline_composites(example, regions),
                    **model_composites(example, frames, arch, options),
                }
                scores = score(composites, example["target"], regions)
                all_scores.append(scores)
                if number < keep:
                    shown.append((example, composites, scores))
            bar.update(len(numbers))
    report = {
        **summary(all_scores),
        "protocol": {
            "clips": clips,
            "first_seed": HELD_OUT_SEED,
            "frames": arch.frames,
            "height": arch.height,
            "width": arch.width,
            "inflation": dataclasses.asdict(arch.inflation),
            "steps": steps,
            "solver": solver,
            "seed": options.seed,
            "detail": options.detail,
            "score": "PSNR in dB per clip, over the region's pixels of all frames; means are over clips",
            "cap_db": metrics.CAP,
        },
        "model": {
            "trained_steps": model.provenance.get("step"),
            "dtype": str(model.arrays["null_text"].dtype),
        },
        "versions": {
            name: importlib.metadata.version(name) for name in ("jax", "numpy", "opencv-python-headless")
        },
        "device": jax.devices()[0].device_kind,
    }
    return Evaluation(report, shown)


def scored_regions(example: TestExample, inflation: Inflation) -> dict[str, np.ndarray]:
    """The regions by name, each bool [T, H, W]; none depends on the jittered mask."""
    silhouette = example["silhouette"]
    return {"target": inflate(silhouette, inflation), "ring": example["ring"], "silhouette": silhouette}


def baseline_composites(example: TestExample, regions: dict[str, np.ndarray]) -> Composites:
    """The composites of BASELINES, all over the true background.

    background: the background alone. region_mean, element_mean: oracles, the ground truth's mean colour in
    the target region or in the silhouette. paste: the foreground's element, composited over the background.
    color_transfer: the paste with the scene's colour statistics. seamless_clone: the paste, blended by
    OpenCV in the target region.
    """
    background, target, paste = example["background"], example["target"], example["paste"]
    return {
        "background": background,
        "region_mean": baselines.fill_with_mean(background, target, regions["target"]),
        "element_mean": baselines.fill_with_mean(background, target, regions["silhouette"]),
        "paste": paste,
        "color_transfer": baselines.color_transfer(background, example["placed"]),
        "seamless_clone": baselines.seamless_clone(background, paste, regions["target"]),
    }


def model_composites(
    example: TestExample, generated: np.ndarray, arch: ModelArch, options: SamplingOptions
) -> Composites:
    """MODEL, ALONE and MEAN, from the network's frames, uint8 [T, H, W, 3]."""
    pastes = example["placed"], example["placed"]
    transfer = make_transfer(
        example["background"], generated, example["mask"], pastes, arch.cell[1], options.detail
    )
    tones = make_transfer(example["background"], generated, example["mask"], pastes, arch.cell[1], "element")
    if tones is not None:  # equation (1) of the detail transfer alone
        flat = tones.fit._replace(field=np.zeros_like(tones.fit.field), shade=np.ones_like(tones.fit.shade))
        tones = tones._replace(fit=flat)
    return {
        ALONE: composite(example, generated, options.feather),
        MEAN: composite(example, generated, options.feather, tones),
        MODEL: composite(example, generated, options.feather, transfer),
    }


def score(composites: Composites, target: np.ndarray, regions: dict[str, np.ndarray]) -> Scores:
    """The capped PSNR of every composite in every region that is not empty."""
    return {
        method: {
            name: round(metrics.capped_psnr(frames, target, region), 3)
            for name, region in regions.items()
            if region.any()
        }
        for method, frames in composites.items()
    }


def summary(scores: list[Scores]) -> dict[str, Any]:
    """Means over clips, the model's gains over the baselines with 95 % intervals, and the scores per clip."""

    def column(method: str, region: str) -> list[float]:
        return [clip[method][region] for clip in scores if region in clip[method]]

    def gain(method: str, region: str) -> dict[str, float | None]:
        pairs = zip(column(MODEL, region), column(method, region), strict=True)
        mean, half = metrics.mean_and_half_width([ours - theirs for ours, theirs in pairs])
        return {"mean": round(mean, 3), "half_width_95": None if half is None else round(half, 3)}

    methods = [m for m in (*BASELINES, ALONE, MEAN, MODEL) if m in scores[0]]
    return {
        "mean_db": {m: {r: round(float(np.mean(column(m, r))), 3) for r in REGIONS} for m in methods},
        "model_gain_db": {m: {r: gain(m, r) for r in REGIONS} for m in BASELINES},
        "clips": scores,
    }


def write_json(path: Path, report: dict[str, Any]) -> None:
    """Write a report as JSON, one line per field, atomically."""
    fields = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in report.items()]
    atomic_write_text(path, "{\n" + ",\n".join(fields) + "\n}\n")
