"""Scores folders of results against a protocol's reference; the command `gencompositor evaluate --results`.

    report = score(ResultsOptions("hyoutube", (("mine", Path("results")),), Path("HYouTube")))

Values are means over a clip's frames, then over clips. The report states what the protocols leave open: the
number of clips, their length, the stride and the size.
"""

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import tqdm

from gencompositor_jax.data_pipelines import benchmark
from gencompositor_jax.errors import InputError
from gencompositor_jax.evaluation import layouts, learned, measures, summaries
from gencompositor_jax.evaluation.learned import Learned
from gencompositor_jax.evaluation.measures import Measure
from gencompositor_jax.evaluation.metrics import distances, i3d
from gencompositor_jax.evaluation.results import (
    INPUT,
    TRUTH,
    Protocol,
    ResultsOptions,
    Size,
    read_reference,
    read_result,
    reference_clips,
)

SET_DISTANCES = {  # and the fewest clips that each needs
    "fvd": (distances.frechet_distance, 2),
    "fvd_infinity": (distances.frechet_distance_infinity, 4),
    "kvd": (distances.kernel_distance, 2),
}
REAL = "real clips"  # what FVD and KVD compare with: the ground truth, or the manifest's


def score(options: ResultsOptions) -> dict[str, Any]:
    """The report: JSON values. Raises InputError for files that are missing or don't fit, the first by name.

    All methods' files are looked for, and weights loaded, before the first clip is read.
    """
    clips = reference_clips(options.protocol, options.reference, options.clips)
    found = {name: layouts.check_complete(folder, clips) for name, folder in options.results}
    chosen, loaded = chosen_measures(options)
    values: dict[str, summaries.Scores] = {name: {} for name in found}
    if all(clip.composite is not None for clip in clips):
        found[INPUT], values[INPUT] = [clip.composite or Path() for clip in clips], {}
    if all(clip.target is not None for clip in clips):
        values[TRUTH] = {}
    seen: dict[str, list[np.ndarray]] = {name: [] for name in (*found, REAL)}  # features of clips
    lengths, sizes = set[int](), set[Size]()
    for number, clip in enumerate(tqdm.tqdm(clips, desc=options.protocol, unit="clip")):
        reference = read_reference(clip, options)
        truth = reference.clip
        features = loaded.features if len(truth.frames) >= i3d.MIN_FRAMES else None
        lengths.add(len(truth.frames))
        sizes.add((truth.frames.shape[1], truth.frames.shape[2]))
        for method, scores in values.items():
            candidate = truth
            if method != TRUTH:
                media = found[method][number]
                frames = read_result(media, clip, reference, options)
                candidate = dataclasses.replace(truth, frames=frames)
                if features is not None:
                    seen[method].append(features([frames])[0])
            scores[clip.name] = {
                name: measure.compute(candidate)
                for name, measure in chosen.items()
                if measure.fits(candidate)
            }
        if features is not None:
            seen[REAL].append(features([truth.frames])[0])
    report = summaries.report(options, values, chosen, lengths, sizes)
    report["absent"] = dict(loaded.absent)
    move_empty(report, chosen)
    if loaded.features is not None:
        wanted = [name for name in learned.SETS if options.metrics is None or name in options.metrics]
        add_set_distances(report, seen, wanted)
    return report


def measures_of(protocol: Protocol) -> dict[str, Measure]:
    """The metrics of a protocol that need no weights, in the order of the columns."""
    if protocol == "trajectory":
        return {**measures.BACKGROUND, **measures.WARPING}
    common = {**measures.HARMONISATION, **measures.WARPING}
    return {**common, **measures.regions(benchmark.INFLATION)} if protocol == "procedural" else common


def chosen_measures(options: ResultsOptions) -> tuple[dict[str, Measure], Learned]:
    """The metrics of clips to compute, and what was loaded for them. Raises InputError for unknown names."""
    plain = measures_of(options.protocol)
    compared = options.protocol != "trajectory"
    known = (*plain, *(name for name in learned.NAMES if compared or name not in learned.COMPARED))
    for name in options.metrics or ():
        if name not in known:
            raise InputError(f"--metrics: {name!r}; choose one of {', '.join(known)}")
    wanted = known if options.metrics is None else options.metrics
    loaded = learned.load([name for name in wanted if name in learned.NAMES], dict(options.weights))
    every = {**plain, **loaded.measures}
    return {name: every[name] for name in every if name in wanted}, loaded


def move_empty(report: dict[str, Any], chosen: dict[str, Measure]) -> None:
    """Metrics without a value on any clip of any method: a line each in place of their columns."""
    for name, measure in chosen.items():
        if all(means.get(name) is None for means in report["methods"].values()):
            del report["columns"][name]
            report["absent"][name] = _why(report, name, measure)


def _why(report: dict[str, Any], name: str, measure: Measure) -> str:
    """Why no clip has a value."""
    if measure.needs and not measure.least:
        rows = next(iter(report["clips"].values())).values()
        if not any(name in row for row in rows):
            return f"no clip has a {' and a '.join(measure.needs)}"
    return measure.lacks


def add_set_distances(
    report: dict[str, Any], features: dict[str, list[np.ndarray]], names: Collection[str]
) -> None:
    """Add SET_DISTANCES of each method's features [D] to the real clips'; without them a line says why."""
    for name in names:
        function, fewest = SET_DISTANCES[name]
        if len(report["protocol"]["frames_per_clip"]) > 1 or len(features[REAL]) < fewest:
            report["absent"][name] = (
                f"needs {fewest} clips or more, of one length and {i3d.MIN_FRAMES} frames or more"
            )
            continue
        real = np.stack(features[REAL])
        for method in (method for method in features if method != REAL):
            value = summaries.number(function(np.stack(features[method]), real))
            report["methods"][method][name] = {"mean": value, "low": None, "high": None}
        report["columns"][name] = summaries.column(*learned.SETS[name])
