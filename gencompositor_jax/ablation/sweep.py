"""The command `gencompositor ablate`: trains and scores what is missing, then writes the results.

OUT holds sweep.json (what the runs have in common), clips/ (training clips, shared by all runs that can),
codec.npz, runs/VARIANT/model-N (the weights of a run), runs/VARIANT/trained-N.json (its record, until it is
scored), runs/VARIANT/seed-N.json (its scores and its record), and the results: ablation.json, table.csv,
table.md and a picture per metric. A sweep that was interrupted resumes with the unfinished runs, each from
its last checkpoint.
"""

import functools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gencompositor_jax import checkpoints, fields
from gencompositor_jax.ablation import results, scoring, training
from gencompositor_jax.ablation.options import SweepOptions, begin, same_runs, write_record
from gencompositor_jax.codec import linear
from gencompositor_jax.data_pipelines.source import ClipSource
from gencompositor_jax.data_pipelines.sources import open_source
from gencompositor_jax.data_pipelines.workers import in_order
from gencompositor_jax.files import atomic_write_text, read_json
from gencompositor_jax.inference.compiling import keep_compiled_programs
from gencompositor_jax.training.codec_basis import codec_basis


def embedded(clips: int) -> dict[str, scoring.Scores]:
    """The scores of the embedded model."""
    return {"embedded": scoring.of_model(checkpoints.load(checkpoints.packaged()), clips)}


# What is scored and not trained here, by the name of its file.
OTHERS: dict[str, Callable[[int], dict[str, scoring.Scores]]] = {
    "embedded": embedded,
    "baselines": scoring.of_baselines,
}


def run(options: SweepOptions) -> results.Results:
    """Run the sweep and write its results; see `SweepOptions`. Raises InputError before heavy work."""
    steps = begin(options)
    same = same_runs(options)
    needed = list(dict.fromkeys(same[name] for name in options.variants))
    todo = [name for name in needed if unfinished(options, name)]
    others = [name for name in OTHERS if not others_file(options, name).is_file()]
    if todo:
        # Several processes must not render the same clips; one renders them when it needs them.
        prepare(options, needed if options.processes > 1 else [])
        if steps is None:
            steps = measured_steps(options)
            write_record(options, steps)
    work = functools.partial(make, options, steps)
    made = in_order(work, [*others, *todo], 0 if options.processes == 1 else options.processes)
    for number, name in enumerate(made, 1):
        print(f"{name}: scored ({number} of {len(others) + len(todo)})", flush=True)
        results.write(options, same, steps)  # partial results at any time
    return results.write(options, same, steps)


def prepare(options: SweepOptions, variants: list[str]) -> None:
    """Render the clips of these ablations, and the basis of the codec, which all runs share."""
    for name in ["full", *variants]:
        config = options.config(name)
        source = open_source(config.data, options.arch(config))
        if name == "full":
            codec_basis(config, options.arch(config), source, options.out)


def shared(
    options: SweepOptions, variant: str, steps: int | None
) -> tuple[Any, ClipSource, linear.Basis | None]:
    """The config, the source and the codec's basis of a run."""
    config = options.config(variant, steps)
    arch = options.arch(config)
    source = open_source(config.data, arch)
    return config, source, codec_basis(config, arch, source, options.out)


def measured_steps(options: SweepOptions) -> int:
    """The steps that one run of the full model takes in the minutes of the options; all runs have as many."""
    assert options.minutes is not None
    config, source, basis = shared(options, "full", None)
    seconds = training.seconds_per_step(config, tuple(range(options.seeds)), source, basis)
    steps = max(int(60 * options.minutes / seconds), 2)
    print(f"{seconds:.3g} s per step of one run: {steps} steps in {options.minutes:g} minutes", flush=True)
    return max(steps, config.optimizer.warmup + 1)


def unfinished(options: SweepOptions, variant: str) -> training.Seeds:
    """The seeds of an ablation that aren't scored yet."""
    return tuple(seed for seed in range(options.seeds) if not scores_file(options, variant, seed).is_file())


def scores_file(options: SweepOptions, variant: str, seed: int) -> Path:
    """Where a finished run's scores are."""
    return options.run_folder(variant) / f"seed-{seed}.json"


def model_folder(options: SweepOptions, variant: str, seed: int) -> Path:
    """Where a trained run's weights are."""
    return options.run_folder(variant) / f"model-{seed}"


def record_file(options: SweepOptions, variant: str, seed: int) -> Path:
    """Where the record of a trained run is until it is scored."""
    return options.run_folder(variant) / f"trained-{seed}.json"


def others_file(options: SweepOptions, name: str) -> Path:
    """Where the scores of what isn't trained here are."""
    return options.out / f"{name}-{options.clips}.json"


def make(options: SweepOptions, steps: int | None, variant: str) -> str:
    """Train and score an ablation with the missing seeds; the scores of each appear when they are complete.

    One of OTHERS is only scored.
    """
    keep_compiled_programs()
    if variant in OTHERS:
        found = {name: without_nan(own) for name, own in OTHERS[variant](options.clips).items()}
        atomic_write_text(others_file(options, variant), json.dumps(found) + "\n")
        return variant
    for seeds, folder in untrained(options, variant):
        train(options, steps, variant, seeds, folder)
    for seed in unfinished(options, variant):
        model = checkpoints.load(model_folder(options, variant, seed))
        trained = record_file(options, variant, seed)
        record = fields.read(dict[str, Any], read_json(trained), str(trained))
        write_scores(scores_file(options, variant, seed), scoring.of_model(model, options.clips), record)
        trained.unlink()
    return variant


def untrained(options: SweepOptions, variant: str) -> Iterator[tuple[training.Seeds, Path]]:
    """The seeds that are still to be trained together, and the folder of their checkpoints: first those of a
    training that was interrupted, whatever seeds are asked for.
    """
    runs = options.run_folder(variant)
    for folder in sorted(runs.glob("checkpoints-*")):
        seeds = tuple(int(seed) for seed in folder.name.split("-")[1:])
        if all(is_trained(options, variant, seed) for seed in seeds):
            shutil.rmtree(folder)  # killed before it could
        else:
            yield seeds, folder
    left = tuple(seed for seed in range(options.seeds) if not is_trained(options, variant, seed))
    if left:
        yield left, runs / f"checkpoints-{'-'.join(map(str, left))}"


def is_trained(options: SweepOptions, variant: str, seed: int) -> bool:
    """Whether a run has its weights, or already its scores."""
    return any(file(options, variant, seed).is_file() for file in (record_file, scores_file))


def train(
    options: SweepOptions, steps: int | None, variant: str, seeds: training.Seeds, folder: Path
) -> None:
    """Train an ablation with these seeds, and write the models with their records."""
    config, source, basis = shared(options, variant, steps)
    models, record = training.train(config, seeds, source, basis, folder, variant)
    for i, (seed, model) in enumerate(zip(seeds, models, strict=True)):
        # As they were trained: what is scored later is what would have been scored now.
        checkpoints.save(model_folder(options, variant, seed), model, dtype=jnp.float32, overwrite=True)
        own = {**record, "curve": [[point[0], point[1 + i]] for point in record["curve"]]}
        own["parameters"] = sum(
            int(np.prod(x.shape))
            for name in model.arch.stacks
            for x in jax.tree.leaves(model.arrays[name]["params"])
        )
        own["device"] = jax.devices()[0].device_kind
        atomic_write_text(record_file(options, variant, seed), json.dumps(own) + "\n")
    shutil.rmtree(folder, ignore_errors=True)


def write_scores(file: Path, scores: scoring.Scores, record: dict[str, Any]) -> None:
    """Write a finished run's scores."""
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(file, json.dumps({"scores": without_nan(scores), "record": record}) + "\n")


def without_nan(scores: scoring.Scores) -> dict[str, list[float | None]]:
    """Scores as JSON, which has no NaN."""
    return {name: [None if np.isnan(v) else v for v in values] for name, values in scores.items()}
