"""Clips per second of `gencompositor batch`, one Compositor in a loop, and a loop of `compose` commands.

    python benchmarks/batch_throughput.py

The embedded model with its own number of steps on this machine's devices. All three make the same clips from
the same files and write videos and reports; programs come from JAX's cache. Rounds alternate; the result has
the medians' ratios. Writes benchmarks/results/batch_throughput.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax

from gencompositor_jax.compositor import Compositor
from gencompositor_jax.controls.footage import scene_stage
from gencompositor_jax.controls.scene import write_scene
from gencompositor_jax.data_pipelines.demo import write_inputs
from gencompositor_jax.files import atomic_write_text
from gencompositor_jax.jobs.batch import Batch
from gencompositor_jax.jobs.checking import Checker
from gencompositor_jax.jobs.manifest import Line, read_manifest
from gencompositor_jax.jobs.report import JobFiles, facts_of, write

Rates = dict[str, list[tuple[float, float]]]

UNITS = ("second", "CPU second")
RESULTS = Path(__file__).parent / "results" / "batch_throughput.json"


def write_manifest(folder: Path, clips: int) -> Path:
    """Jobs that differ in their seeds."""
    inputs = write_inputs(folder, 9, overwrite=False)
    common: dict[str, Any] = {"background": Path(inputs.background).name}
    common |= {"foreground": Path(inputs.foreground).name, "trajectory": inputs.trajectory}
    common["scale"] = [float(scale) for scale in inputs.scale.split(",")]
    lines = [json.dumps({"out": f"{i}.mp4", "seed": i, **common}) for i in range(clips)]
    (folder / "jobs.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "jobs.jsonl"


def by_compose(folder: Path, lines: list[Line], out: Path) -> None:
    """A command for each clip."""
    for line in lines:
        assert line.job is not None
        project = folder / "one.scene.json"
        write_scene(project, line.job.scene)
        words = ["compose", "--project", str(project), "--out", str(out / line.job.out)]
        subprocess.run([sys.executable, "-m", "gencompositor_jax", *words], check=True, capture_output=True)


def by_one_compositor(lines: list[Line], out: Path) -> None:
    """One clip after the other; the model is loaded once, as in a batch."""
    compositor = Compositor.load()
    for line in lines:
        assert line.job is not None
        stage = scene_stage(line.job.scene, compositor.arch)
        composite = compositor.render(stage, line.job.scene.sampling)
        facts = {"job": line.digest, **facts_of(composite, compositor.mesh)}
        write(JobFiles(out / line.job.out), line.job, stage, composite, facts)


def cpu_seconds() -> float:
    """Of this process and its finished children: it doesn't depend on what else the machine does."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def report_of(rates: Rates, clips: int) -> dict[str, Any]:
    """Ratios of the medians; the first round, which compiles, is left out."""
    report: dict[str, Any] = {
        "clips": clips,
        "rounds": min(len(found) for found in rates.values()) - 1,
        "devices": jax.local_device_count(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
    }
    for i, unit in enumerate(UNITS):
        medians = {name: statistics.median(rate[i] for rate in found[1:]) for name, found in rates.items()}
        report[f"clips per {unit}"] = {
            f"{name} to {base}": round(rate / medians[base], 2)
            for name, rate in medians.items()
            for base in ("one Compositor", "compose")
            if name.startswith("batch")
        }
    return report


def main() -> None:
    """Alternate, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--commands", type=int, default=1, help="compose commands per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--per-call", type=int, nargs="*", default=[1, 4, 8], help="--clips of the batch")
    args = parser.parse_args()
    rates: Rates = {}

    def timed(name: str, clips: int, make: Any) -> None:
        began, used = time.perf_counter(), cpu_seconds()
        make()
        rates.setdefault(name, []).append(
            (clips / (time.perf_counter() - began), clips / (cpu_seconds() - used))
        )
        print(
            name, *(f"{rate:.3f} clips per {unit}" for rate, unit in zip(rates[name][-1], UNITS, strict=True))
        )

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = read_manifest(write_manifest(folder, args.clips))
        for number in range(args.rounds + 1):  # the first compiles

            def fresh(label: str, number: int = number) -> Path:
                out = folder / f"{label} {number}"
                out.mkdir()
                return out

            some = lines if number else lines[: max(args.per_call)]
            for size in args.per_call:
                # All calls of a group are of one size: the first round's as of the others.
                checker = Checker(fresh(f"batch {size}"))
                batch = Batch(some, checker, lambda _: None, clips=size)
                timed(f"batch, {size} per call", len(some), batch.run)
            out = fresh("loop")
            timed(
                "one Compositor",
                len(some),
                lambda out=out, some=some: by_one_compositor(some, out),
            )
            out = fresh("compose")
            few = lines[: args.commands]
            timed("compose", len(few), lambda out=out, few=few: by_compose(folder, few, out))
            if number:  # after every round, so that an interrupted run has a result
                report = report_of(rates, args.clips)
                print(json.dumps(report), flush=True)
                atomic_write_text(RESULTS, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
