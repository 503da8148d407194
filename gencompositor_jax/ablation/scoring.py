"""Scores on the first clips of the procedural benchmark (`data_pipelines.benchmark`): METRICS of every clip.

A network's own frames are scored, as it generates them, without paste-back: what it does to the background
counts. The regions are those of the benchmark for every model, whatever masks it was trained with.
"""

import functools

import numpy as np

from gencompositor_jax.arch import Inflation
from gencompositor_jax.checkpoints import Model
from gencompositor_jax.controls.geometry.offsets import Cell
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.data_pipelines import benchmark
from gencompositor_jax.data_pipelines.examples import TestExample, held_out_example
from gencompositor_jax.evaluation import heldout, metrics
from gencompositor_jax.evaluation.metrics import frames as per_frame
from gencompositor_jax.evaluation.prediction import predict
from gencompositor_jax.masks.inflation import inflate

# target_psnr: in the target region (what the ideas are for, all together). gamma_target_psnr: the same in the
# half of the clips whose foreground has the most different light. ring_psnr: in the 8 pixels around the
# region. background_psnr: in the rest of the frame. ssim: of whole frames.
METRICS = ("target_psnr", "gamma_target_psnr", "ring_psnr", "background_psnr", "ssim")
BASELINES = ("paste", "color_transfer", "seamless_clone")
ORACLE = "region_mean"  # the mean colour of the ground truth in the target region
BATCH = 16  # clips that are sampled together

Scores = dict[str, list[float]]  # by metric: of every clip, NaN where it isn't one of the metric's clips


@functools.lru_cache(maxsize=2)
def examples(clips: int, inflation: Inflation, cell: Cell | None) -> list[TestExample]:
    """The first clips, with masks of an inflation and foregrounds of a `ModelArch.offset_cell`."""
    size = benchmark.FRAMES, benchmark.HEIGHT, benchmark.WIDTH
    return [held_out_example(n, inflation, *size, cell) for n in range(clips)]


@functools.lru_cache(maxsize=1)
def relit(clips: int) -> frozenset[int]:
    """The half of the first clips with most of the benchmark's idea `relit`."""
    how_much = [benchmark.ideas(each)["relit"] for each in examples(clips, benchmark.INFLATION, None)]
    return frozenset(sorted(range(clips), key=lambda n: (-how_much[n], n))[: (clips + 1) // 2])


def of_model(model: Model, clips: int, options: SamplingOptions = SamplingOptions()) -> Scores:  # noqa: B008
    """A model's scores. The noise of a clip depends on the seed of the options and its number alone."""
    given, frames = examples(clips, model.arch.inflation, model.arch.offset_cell), []
    size = min(BATCH, clips)
    for first in range(0, clips, size):
        numbers = range(first, min(first + size, clips))
        frames += list(predict(model, given[first : first + size], numbers, options, size))
    return of_frames(frames)


def of_baselines(clips: int) -> dict[str, Scores]:
    """The scores of BASELINES and of ORACLE, which composite over the true background."""
    made: dict[str, list[np.ndarray]] = {name: [] for name in (*BASELINES, ORACLE)}
    for example in examples(clips, benchmark.INFLATION, None):
        composites = heldout.baseline_composites(
            example, heldout.scored_regions(example, benchmark.INFLATION)
        )
        for name, frames in made.items():
            frames.append(composites[name])
    return {name: of_frames(frames) for name, frames in made.items()}


def of_frames(frames: list[np.ndarray]) -> Scores:
    """The scores of results, uint8 [T, H, W, 3] each, for the first clips."""
    clips = len(frames)
    scores: Scores = {name: [] for name in METRICS}
    of_gamma = relit(clips)
    truths = examples(clips, benchmark.INFLATION, None)
    for number, (result, truth) in enumerate(zip(frames, truths, strict=True)):
        target = truth["target"]
        region, ring = inflate(truth["silhouette"], benchmark.INFLATION), truth["ring"]
        in_region = within(result, target, region)
        scores["target_psnr"].append(in_region)
        scores["gamma_target_psnr"].append(in_region if number in of_gamma else float("nan"))
        scores["ring_psnr"].append(within(result, target, ring))
        scores["background_psnr"].append(within(result, target, ~(region | ring)))
        scores["ssim"].append(round(float(per_frame.ssim(result, target).mean()), 5))
    return scores


def within(frames: np.ndarray, target: np.ndarray, region: np.ndarray) -> float:
    """`metrics.capped_psnr`, as it is written."""
    return round(metrics.capped_psnr(frames, target, region), 4)
