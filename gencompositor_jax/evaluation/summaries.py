"""From every clip's values to the report: means with intervals, differences, subsets, and what was done."""

import dataclasses
import importlib.metadata
from typing import Any

import numpy as np

from gencompositor_jax.data_pipelines import benchmark
from gencompositor_jax.evaluation import statistics
from gencompositor_jax.evaluation.measures import Measure
from gencompositor_jax.evaluation.metrics import frames as per_frame
from gencompositor_jax.evaluation.published import PUBLISHED
from gencompositor_jax.evaluation.results import TRUTH, ResultsOptions, Size

Scores = dict[str, dict[str, float]]  # by clip and metric
Measures = dict[str, Measure]


def report(
    options: ResultsOptions, values: dict[str, Scores], chosen: Measures, lengths: set[int], sizes: set[Size]
) -> dict[str, Any]:
    """The report of each method's values: JSON values. Metrics of whole sets of clips are added to it.

    Published figures are left out for the procedural benchmark in HYouTube's layout: they are of HYouTube.
    """
    other_data = (options.reference / benchmark.MANIFEST).exists()
    return {
        "protocol": stated(options, len(next(iter(values.values()))), lengths, sizes),
        "columns": {name: column(m.label, m.better, m.digits) for name, m in chosen.items()},
        "methods": {name: summary(scores, chosen) for name, scores in values.items()},
        "differences": differences(values, chosen),
        "subsets": subsets(options, values, chosen),
        "published": [] if other_data else [dataclasses.asdict(row) for row in PUBLISHED[options.protocol]],
        "absent": {},
        "clips": rounded(values),
        "versions": {
            name: importlib.metadata.version(name) for name in ("numpy", "opencv-python-headless", "av")
        },
    }


def summary(scores: Scores, chosen: Measures) -> dict[str, Any]:
    """Mean and 95 % bootstrap interval of each metric over the clips that have it; None for no clip."""
    return {name: _interval(column) for name, column in _columns(scores, chosen).items()}


def differences(values: dict[str, Scores], chosen: Measures) -> dict[str, Any]:
    """The first method minus each other one, with paired bootstrap intervals."""
    first, *others = (name for name in values if name != TRUTH)
    ours = _columns(values[first], chosen)
    return {
        other: {
            name: _interval(np.subtract(ours[name], theirs))
            for name, theirs in _columns(values[other], chosen).items()
        }
        for other in others
    }


def subsets(options: ResultsOptions, values: dict[str, Scores], chosen: Measures) -> dict[str, Any]:
    """`summary` over the clips of each idea of the procedural benchmark; empty for other protocols."""
    if options.protocol != "procedural":
        return {}
    out = {}
    for idea, names in benchmark.read_subsets(options.reference).items():
        within = {
            method: {clip: row for clip, row in scores.items() if clip.split("/")[0] in names}
            for method, scores in values.items()
        }
        count = len(next(iter(within.values())))
        if count:
            methods = {method: summary(scores, chosen) for method, scores in within.items()}
            out[idea] = {"clips": count, "methods": methods}
    return out


def stated(options: ResultsOptions, clips: int, lengths: set[int], sizes: set[Size]) -> dict[str, Any]:
    """What the figures depend on."""
    own = options.protocol == "trajectory"
    real, guide = (
        ("the real clips", "the result") if own else ("the ground truth's clips", "the ground truth")
    )
    inflated = "by the released model, in proportion to the height" if own else "in the benchmark"
    return {
        "name": options.protocol,
        "methods": {name: str(folder) for name, folder in options.results},
        "reference": str(options.reference),
        "clips": clips,
        "frames_per_clip": sorted(lengths),
        "stride": options.stride,
        "height_width": sorted(list(size) for size in sizes),
        "resize": "none" if options.resized_to is None else "bilinear, masks nearest",
        "order": "mean over a clip's frames, then over clips; intervals: 95 % bootstrap over clips",
        "psnr": f"peak 255, or the target's largest value; at most {per_frame.EXACT:g} dB per frame",
        "background": f"outside the silhouette, inflated as {inflated}",
        "flow": f"OpenCV DIS, medium preset, of {guide}; frame t + 1 is the clip's own",
        "sets": f"FVD, FVD∞ and KVD: I3D logits of whole clips at 224 x 224, bilinear, against {real}",
    }


def column(label: str, better: str, digits: int) -> dict[str, Any]:
    """A metric's heading and how to print it."""
    return {"label": label, "better": better, "digits": digits}


def rounded(values: dict[str, Scores]) -> dict[str, Any]:
    """Every clip's values with six significant digits; NaN, which JSON lacks, as None."""
    return {
        method: {clip: {name: number(v) for name, v in row.items()} for clip, row in scores.items()}
        for method, scores in values.items()
    }


def number(value: float | None) -> float | None:
    """Six significant digits; None for NaN."""
    return None if value is None or np.isnan(value) else float(f"{value:.6g}")


def _columns(scores: Scores, chosen: Measures) -> dict[str, np.ndarray]:
    return {
        name: np.array([row.get(name, np.nan) for row in scores.values()])
        for name in chosen
        if any(name in row for row in scores.values())
    }


def _interval(values: np.ndarray) -> dict[str, float | None] | None:
    if np.isnan(values).all():
        return None
    return {name: number(value) for name, value in statistics.bootstrap(values)._asdict().items()}
