"""The results of a sweep: ablation.json, the tables table.csv and table.md, and a picture METRIC.svg each."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np

from gencompositor_jax import fields
from gencompositor_jax.ablation import picture
from gencompositor_jax.ablation.options import SweepOptions
from gencompositor_jax.ablation.scoring import BASELINES, METRICS, ORACLE
from gencompositor_jax.errors import InputError
from gencompositor_jax.evaluation.statistics import Interval, crossed
from gencompositor_jax.fields import Number, length
from gencompositor_jax.files import atomic_write_text, read_json

LABELS = {
    "target_psnr": "target region, dB",
    "gamma_target_psnr": "target region of relit clips, dB",
    "ring_psnr": "8-pixel ring, dB",
    "background_psnr": "background, dB",
    "ssim": "SSIM",
}
# The metric that shows what an ablation removes.
IDEA = {
    "no_branch": "background_psnr",
    "unmasked_branch": "background_psnr",
    "no_gamma": "gamma_target_psnr",
    "no_inflation": "ring_psnr",
}
_Values = Annotated[list[Number | None], length(1, 1000)]
_METRICS: dict[str, Any] = dict.fromkeys(METRICS, _Values)
_Scores = fields.schema("Scores", **_METRICS)
_FILE = fields.schema("Run", scores=_Scores, record=dict[str, Any])


class Results(NamedTuple):
    """All scores: arrays [seeds, clips] by metric, NaN where a clip isn't one of the metric's."""

    variants: dict[str, dict[str, np.ndarray]]
    others: dict[str, dict[str, np.ndarray]]  # embedded, the baselines and the oracle: one seed
    facts: dict[str, Any]  # what was trained and scored


def collect(options: SweepOptions, same: Mapping[str, str], steps: int | None) -> Results:
    """Read what is finished. An ablation with the same config as another one has its scores.

    Raises InputError for a damaged file.
    """
    variants, records = {}, {}
    for name in options.variants:
        runs = {seed: options.run_folder(same[name]) / f"seed-{seed}.json" for seed in range(options.seeds)}
        found = {seed: _read(file, options.clips, steps) for seed, file in runs.items() if file.is_file()}
        if found:
            variants[name] = {
                metric: _array([getattr(run.scores, metric) for run in found.values()]) for metric in METRICS
            }
            records[name] = {seed: run.record for seed, run in found.items()}
    others: dict[str, dict[str, np.ndarray]] = {}
    for kind in ("embedded", "baselines"):
        if (file := options.out / f"{kind}-{options.clips}.json").is_file():
            scores = fields.read(dict[str, dict[str, _Values]], read_json(file), str(file))
            others |= {
                name: {metric: _array([values]) for metric, values in own.items()}
                for name, own in scores.items()
            }
    facts = {
        **options.record(),
        "steps": steps,
        "seeds": options.seeds,
        "runs": {
            name: {
                "parameters": next(iter(own.values())).get("parameters"),
                "seeds": list(own),
                "seconds": [run.get("seconds") for run in own.values()],
                "device": next(iter(own.values())).get("device"),
                "same_as": same[name] if same[name] != name else None,
            }
            for name, own in records.items()
        },
    }
    return Results(variants, others, facts)


def _read(file: Path, clips: int, steps: int | None) -> Any:
    """A finished run. Raises InputError for a damaged file, and one of another sweep."""
    run = fields.read(_FILE, read_json(file), str(file))
    counts = {metric: len(getattr(run.scores, metric)) for metric in METRICS}
    if wrong := [metric for metric, count in counts.items() if count != clips]:
        raise InputError(
            f"{file}: scores.{wrong[0]}: {counts[wrong[0]]} clips, the sweep has {clips}: remove the file"
        )
    if steps is not None and (own := run.record.get("steps", steps)) != steps:
        raise InputError(f"{file}: record.steps: {own}, the sweep has {steps}: remove the file")
    return run


def _array(rows: list[list[float | None]]) -> np.ndarray:
    return np.array([[np.nan if value is None else value for value in row] for row in rows])


def write(options: SweepOptions, same: Mapping[str, str], steps: int | None) -> Results:
    """Write all files from what is finished so far."""
    results = collect(options, same, steps)
    atomic_write_text(options.out / "ablation.json", json.dumps(as_json(results), indent=1) + "\n")
    atomic_write_text(options.out / "table.csv", as_csv(results))
    atomic_write_text(options.out / "table.md", as_markdown(results))
    for metric in METRICS:
        if results.variants:
            atomic_write_text(options.out / f"{metric}.svg", as_picture(results, metric))
    return results


def as_json(results: Results) -> dict[str, Any]:
    """Means over clips: of every seed for the ablations, one value for others; and the facts."""
    means = {
        name: {metric: _means(values) for metric, values in own.items()}
        for name, own in results.variants.items()
    }
    single = {
        name: {metric: _means(values)[0] for metric, values in own.items()}
        for name, own in results.others.items()
    }
    return {
        "variants": means,
        "embedded": single.get("embedded", {}),
        "baselines": {name: single[name] for name in BASELINES if name in single},
        "oracle": single.get(ORACLE, {}),
        "differences": {
            name: {metric: difference(results, name, metric)._asdict() for metric in METRICS}
            for name in compared(results)
        },
        "facts": results.facts,
    }


def _means(values: np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in np.nanmean(values, axis=1)]


def seeds_of(results: Results, name: str) -> list[int]:
    """The seeds of an ablation's rows."""
    return list(results.facts["runs"][name]["seeds"])


def compared(results: Results) -> list[str]:
    """The ablations that have a seed of the full model's."""
    if "full" not in results.variants:
        return []
    ours = set(seeds_of(results, "full"))
    return [name for name in results.variants if name != "full" and ours & set(seeds_of(results, name))]


def difference(results: Results, name: str, metric: str) -> Interval:
    """The full model minus an ablation, paired by clip and seed, over the seeds that both have."""
    seeds = {each: seeds_of(results, each) for each in ("full", name)}
    both = [seed for seed in seeds["full"] if seed in seeds[name]]
    ours, theirs = (
        results.variants[each][metric][[own.index(seed) for seed in both]] for each, own in seeds.items()
    )
    found = crossed(ours - theirs)
    return Interval(*(None if value is None else round(value, 4) for value in found))  # type: ignore[arg-type]


def as_csv(results: Results) -> str:
    """One row per run and metric: variant, seed, metric, mean over clips, clips."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["method", "seed", "metric", "mean", "clips"])
    for name, own in (results.variants | results.others).items():
        for metric, values in own.items():
            seeds = seeds_of(results, name) if name in results.variants else [""]
            for number, row, mean in zip(seeds, values, _means(values), strict=True):
                writer.writerow([name, number, metric, mean, int((~np.isnan(row)).sum())])
    return out.getvalue()


def as_markdown(results: Results) -> str:
    """Means with intervals, the differences from the full model, and what was measured."""
    head = (
        "| | "
        + " | ".join(LABELS[metric] for metric in METRICS)
        + " |\n|---|"
        + "---:|" * len(METRICS)
        + "\n"
    )
    lines = []
    for name, own in (results.variants | results.others).items():
        cells = [_cell(crossed(own[metric]), metric) for metric in METRICS]
        lines.append(f"| {_title(name)} | {' | '.join(cells)} |\n")
    parts = [head + "".join(lines)]
    if compared(results):
        rows = []
        for name in compared(results):
            if results.facts["runs"][name]["same_as"] == "full":
                continue
            metric = IDEA.get(name, "target_psnr")
            found = difference(results, name, metric)
            rows.append(f"| {name} | {LABELS[metric]} | {_signed(found, metric)} | {verdict(found)} |\n")
        parts.append("| ablation | metric | full minus ablation | |\n|---|---|---:|---|\n" + "".join(rows))
    parts.append(" ".join([gate(results), conditions(results)]).strip() + "\n")
    return "\n".join(parts)


def gate(results: Results) -> str:
    """Whether the full model is above the oracle in the target region; "" where one of them is missing."""
    if "full" not in results.variants or ORACLE not in results.others:
        return ""
    metric = "target_psnr"
    found = crossed(results.variants["full"][metric] - results.others[ORACLE][metric])
    above = found.low is not None and found.low > 0
    claim = "" if above else " It isn't above it: nothing is claimed about any idea."
    return f"The full model minus region_mean in the target region: {_signed(found, metric)} dB.{claim}"


def verdict(found: Interval) -> str:
    """Which of both is better, if the interval says so."""
    if found.low is None or found.high is None or found.low <= 0 <= found.high:
        return "not separated"
    return "full is better" if found.low > 0 else "the ablation is better"


def conditions(results: Results) -> str:
    """Sentences about what was trained and scored."""
    facts = results.facts
    seeds = sorted({len(own["target_psnr"]) for own in results.variants.values()})
    of = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}" if seeds else "0"
    drawn = "clips alone: one seed says nothing about others" if seeds == [1] else "clips and seeds"
    budget = f"{facts['steps']} steps" if facts["steps"] else "no budget yet"
    return (
        f"{facts['clips']} clips of 9 frames of 96 x 64, the network's own frames; {budget} per run, {of} "
        f"seeds per ablation, size {facts['size']}. Brackets: 95 % bootstrap over {drawn}; "
        "differences are paired by clip. region_mean is an oracle: the ground truth's mean colour in the "
        "target region."
    )


def _title(name: str) -> str:
    return {ORACLE: "region_mean (oracle)"}.get(name, name)


def _cell(found: Interval, metric: str) -> str:
    digits = 3 if metric == "ssim" else 1
    if found.low is None or found.high is None:
        return f"{found.mean:.{digits}f}"
    return f"{found.mean:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


def _signed(found: Interval, metric: str) -> str:
    digits = 3 if metric == "ssim" else 2
    low, high = ("", "") if found.low is None or found.high is None else (found.low, found.high)
    return f"{found.mean:+.{digits}f}" + ("" if low == "" else f" [{low:+.{digits}f}, {high:+.{digits}f}]")


def as_picture(results: Results, metric: str) -> str:
    """An SVG: a row per method with its seeds as dots and the interval as a bar."""
    rows = []
    for name, own in (results.variants | results.others).items():
        found = crossed(own[metric])
        rows.append(picture.Row(_title(name), found, _means(own[metric]) if name in results.variants else []))
    return picture.intervals(LABELS[metric], rows)
