"""Clips per second of `gencompositor batch`, one Compositor in a loop, and a loop of `compose` commands.

    python benchmarks/batch_throughput.py

The embedded model with 20 steps on this machine's devices. All three make the same clips from the same files
and write videos and reports; programs come from JAX's cache. Rounds alternate; the result has the medians'
ratios. Writes benchmarks/results/batch_throughput.json.
"""

import argparse
import json
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
        write(JobFiles(out / line.job.out), line.job, composite, facts)


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
    rates: dict[str, list[float]] = {}

    def timed(name: str, clips: int, make: Any) -> None:
        began = time.perf_counter()
        make()
        rates.setdefault(name, []).append(clips / (time.perf_counter() - began))
        print(f"{name}: {rates[name][-1]:.3f} clips/s", flush=True)

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
    medians = {name: statistics.median(found[1:]) for name, found in rates.items()}
    best = max((name for name in medians if name.startswith("batch")), key=lambda name: medians[name])
    report = {
        "clips": args.clips,
        "rounds": args.rounds,
        "devices": jax.local_device_count(),
        "batch_to_one_compositor": {
            name: round(rate / medians["one Compositor"], 2)
            for name, rate in medians.items()
            if name.startswith("batch")
        },
        "batch_to_compose_commands": round(medians[best] / medians["compose"], 1),
    }
    print(json.dumps(report, indent=2))
    atomic_write_text(RESULTS, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
