"""The former `configs/tiny.py` and the present `configs/tiny.py:linear` after equal processor time.

    python benchmarks/equal_time.py --work runs/equal_time                 # 10 minutes of it for each
    python benchmarks/equal_time.py --work /tmp/small --seconds 120 --clips 8 --cached 64

trains both side by side, each on one core of its own, at the lowest priority, and ends each with SIGTERM when
it has used its processor time: user and system time of `gencompositor train` and its children, with the
start, compilation, saving and the rendering of `:linear`'s clips. The former's clips are rendered before and
not counted, which favours it. The number of steps, where the learning rate reaches zero, is what a short run
of each promises; a warm-up is at most a quarter of it, and neither is validated meanwhile. Then the networks'
own frames are scored on the held-out clips in 1 and in 4 DDIM steps.

Linux only. Run it again to resume: what was used is kept in WORK/NAME/used.json, and results are written as
they are found, to benchmarks/results/equal_time.json.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np  # noqa: E402

from gencompositor_jax.files import atomic_write_text  # noqa: E402

ROOT = Path(__file__).parent.parent
OUT = Path(__file__).parent / "results" / "equal_time.json"
RECIPES = {"former": "configs/tiny.py", "linear": "configs/tiny.py:linear"}
SAMPLING_STEPS = (1, 4)
TRIAL = 12  # steps of the short run, of which the first third is not counted
POLL = 0.5  # seconds
TICKS = os.sysconf("SC_CLK_TCK")
ONE_THREAD = {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


class Training:
    """A `gencompositor train` on one core at the lowest priority, and the processor time that it has used."""

    def __init__(self, name: str, core: int, workdir: Path, arguments: list[str]) -> None:
        """Start it. arguments: of the command, besides config and workdir."""
        command = [sys.executable, "-m", "gencompositor_jax", "train", f"--config={RECIPES[name]}"]

        def lower() -> None:
            os.sched_setaffinity(0, {core})
            os.nice(19 - os.nice(0))

        self.workdir = workdir
        workdir.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            [*command, f"--workdir={workdir}", *arguments],
            cwd=ROOT,
            env=os.environ | ONE_THREAD,
            stdout=(workdir / "log").open("a"),
            stderr=subprocess.STDOUT,
            preexec_fn=lower,
        )
        self.seconds = 0.0
        self.status: int | None = None
        self.ending = False

    def poll(self) -> bool:
        """Update `seconds`; whether it still runs."""
        if self.status is None:
            ended, status, usage = os.wait4(self.process.pid, os.WNOHANG)
            if ended:
                self.seconds, self.status = usage.ru_utime + usage.ru_stime, status
                self.process.returncode = os.waitstatus_to_exitcode(status)
            else:
                stat = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
                self.seconds = sum(map(int, stat[11:15])) / TICKS  # utime, stime, and those of its children
        return self.status is None

    def end(self) -> None:
        """SIGTERM, once: it then saves a checkpoint; a second one would stop that."""
        if self.poll() and not self.ending:
            self.process.send_signal(signal.SIGTERM)
            self.ending = True


def still(running: dict[str, Training]) -> bool:
    """Whether any still runs; updates all."""
    return sum(run.poll() for run in running.values()) > 0


def trial(name: str, core: int, work: Path, settings: list[str]) -> Training:
    """A short run, which shows what a step costs."""
    sizes = [f"--config.steps={TRIAL}", "--config.optimizer.warmup=2", "--config.log_every=1"]
    return Training(name, core, work / name / "trial", [*settings, *sizes])


def costs(running: dict[str, Training]) -> dict[str, dict[str, float]]:
    """Processor seconds of the start and of a step, of short runs that are waited for."""
    seen: dict[str, dict[int, float]] = {name: {} for name in running}
    while still(running):
        for name, run in running.items():
            seen[name].setdefault(logged(run.workdir), run.seconds)
        time.sleep(0.05)
    found = {}
    for name, run in running.items():
        if run.status:
            raise SystemExit(f"{name}: ended with {run.process.returncode}; see {run.workdir}/log")
        first, last = TRIAL // 3, max(seen[name])
        step = (seen[name][last] - seen[name][first]) / (last - first)
        found[name] = {"start": round(run.seconds - TRIAL * step, 1), "step": round(step, 3)}
    return found


def logged(workdir: Path) -> int:
    """The last step in the metrics, or 0."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)


def train(work: Path, seconds: float, plans: dict[str, list[str]]) -> dict[str, float]:
    """Train each until it has used its processor seconds or made its steps; return what it has used."""
    before, running = {}, {}
    for core, (name, arguments) in zip(cores(), plans.items(), strict=False):
        used = work / name / "used.json"
        before[name] = json.loads(used.read_text())["seconds"] if used.exists() else 0.0
        if before[name] < seconds and not (work / name / "run" / "model").exists():
            running[name] = Training(name, core, work / name / "run", arguments)

    def note(name: str, run: Training) -> float:
        used = before[name] + run.seconds
        atomic_write_text(work / name / "used.json", json.dumps({"seconds": round(used, 1)}) + "\n")
        return used

    try:
        while still(running):
            for name, run in running.items():
                if note(name, run) >= seconds:
                    run.end()
            time.sleep(POLL)
    finally:
        for name, run in running.items():
            run.end()
            while run.poll():
                time.sleep(POLL)
            before[name] = note(name, run)
    for name, run in running.items():
        if run.process.returncode:
            raise SystemExit(f"{name}: ended with {run.process.returncode}; see {run.workdir}/log")
    return before


def write_models(work: Path, plans: dict[str, list[str]]) -> None:
    """Write the models of runs that SIGTERM ended: they make one more step."""
    for core, (name, arguments) in zip(cores(), plans.items(), strict=False):
        if not (work / name / "run" / "model").exists():
            run = Training(name, core, work / name / "run", [*arguments, "--minutes=0"])
            while run.poll():
                time.sleep(POLL)
            if run.process.returncode:
                raise SystemExit(f"{name}: no model; see {run.workdir}/log")


def rendering(clips: int = 16) -> float:
    """Processor seconds of one clip of the former's larger cache, which are not counted."""
    from gencompositor_jax import arch as arch_lib
    from gencompositor_jax.data_pipelines.examples import clip_arrays
    from gencompositor_jax.data_pipelines.procedural import TRAINING_SEEDS, make_followed_clip

    began = time.process_time()
    for seed in TRAINING_SEEDS[:clips]:
        clip_arrays(make_followed_clip(seed), arch_lib.preset("tiny", {}).inflation)
    return (time.process_time() - began) / clips


def cores() -> list[int]:
    """A core for each recipe."""
    allowed = sorted(os.sched_getaffinity(0))
    return [allowed[i % len(allowed)] for i in range(len(RECIPES))]


def scores(folder: Path, steps: int, clips: int) -> dict[str, Any]:
    """PSNR of the network's own frames on the held-out clips, mean and half of the 95 % interval, dB."""
    import jax.numpy as jnp

    from gencompositor_jax import checkpoints
    from gencompositor_jax.controls.sampling import SamplingOptions
    from gencompositor_jax.data_pipelines.examples import held_out_example
    from gencompositor_jax.evaluation import heldout, metrics
    from gencompositor_jax.evaluation.prediction import composite, predict

    model, found = checkpoints.load(folder, jnp.float32), []
    arch, options = model.arch, SamplingOptions(steps=steps, solver="ddim")
    for first in range(0, clips, heldout.BATCH):
        numbers = range(first, min(first + heldout.BATCH, clips))
        examples = [
            held_out_example(n, arch.inflation, arch.frames, arch.height, arch.width, arch.offset_cell)
            for n in numbers
        ]
        frames = predict(model, examples, numbers, options, heldout.BATCH)
        for example, generated in zip(examples, frames, strict=True):
            regions = heldout.scored_regions(example, arch.inflation)
            made = {"": composite(example, generated)}
            found.append(heldout.score(made, example["target"], regions)[""])
    columns = {r: [clip[r] for clip in found if r in clip] for r in heldout.REGIONS}
    return {
        "mean_db": {r: round(float(np.mean(values)), 2) for r, values in columns.items()},
        "half_width_95": {
            r: None if (half := metrics.mean_and_half_width(values)[1]) is None else round(half, 2)
            for r, values in columns.items()
        },
        "clips": columns,
    }


def differences(results: dict[str, Any]) -> dict[str, Any]:
    """`:linear` minus the former, over the same clips: mean and half of the 95 % interval, dB."""
    from gencompositor_jax.evaluation import metrics

    found = {}
    for steps in SAMPLING_STEPS:
        pair = [results["scores"][f"{name}, {steps}"]["clips"] for name in ("linear", "former")]
        found[str(steps)] = {
            region: [
                None if v is None else round(v, 2)
                for v in metrics.mean_and_half_width(
                    [ours - theirs for ours, theirs in zip(pair[0][region], pair[1][region], strict=True)]
                )
            ]
            for region in pair[0]
        }
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "equal_time", help="of both trainings")
    parser.add_argument("--seconds", type=float, default=600, help="of processor time for each")
    parser.add_argument("--clips", type=int, default=64, help="held-out clips that are scored")
    parser.add_argument("--cached", type=int, help="followed clips of the former's cache, default: its own")
    parser.add_argument("--out", type=Path, help="default: the results here where all else is the default")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the trainings, too
    small = args.seconds, args.clips, args.cached
    out = args.out or (OUT if small == (600, 64, None) else args.work / "equal_time.json")

    from gencompositor_jax import arch as arch_lib
    from gencompositor_jax.data_pipelines.sources import build_caches
    from gencompositor_jax.training.config import load_config

    args.work.mkdir(parents=True, exist_ok=True)
    work, cache = args.work.resolve(), args.work.resolve() / "cache"
    former = load_config(RECIPES["former"], []).data
    clips, followed = former.clips, former.followed_clips
    if args.cached is not None:
        clips, followed = 2 * args.cached, args.cached
    build_caches(cache, arch_lib.preset("tiny", {}), clips, followed, former.followed)
    settings = ["--config.validation.every=0", "--config.checkpoint.every=50"]
    own = {name: list(settings) for name in RECIPES}
    own["former"] += [
        f"--config.data.path={cache}",
        f"--config.data.clips={clips}",
        f"--config.data.followed_clips={followed}",
    ]
    results: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    save = lambda: atomic_write_text(out, json.dumps(results, indent=1) + "\n")  # noqa: E731
    if "trial_seconds" not in results:
        trials = {n: trial(n, core, work, own[n]) for n, core in zip(own, cores(), strict=False)}
        results |= {"processor_seconds": args.seconds, "recipes": RECIPES, "trial_seconds": costs(trials)}
        save()
    planned = {
        name: int((args.seconds - cost["start"]) / cost["step"])
        for name, cost in results["trial_seconds"].items()
    }
    plans = {}
    for name, steps in planned.items():
        warmup = min(load_config(RECIPES[name], []).optimizer.warmup, steps // 4)
        plans[name] = [*own[name], f"--config.steps={steps}", f"--config.optimizer.warmup={warmup}"]
    used = train(work, args.seconds, plans)
    write_models(work, plans)
    results["trained"] = {}
    for name, seconds in used.items():
        model = json.loads((work / name / "run" / "model" / "model.json").read_text())["provenance"]
        results["trained"][name] = {
            "processor_seconds": seconds,
            "planned_steps": planned[name],
            "steps": model["step"],
            "batch_size": model["config"]["batch_size"],
            "clips_seen": model["step"] * model["config"]["batch_size"],
        }
    if "former_cache" not in results:
        results["former_cache"] = {"clips": clips + followed, "seconds_per_clip": round(rendering(), 4)}
    save()
    results.setdefault("scores", {})
    for name in RECIPES:
        for steps in SAMPLING_STEPS:
            if f"{name}, {steps}" not in results["scores"]:
                results["scores"][f"{name}, {steps}"] = scores(
                    work / name / "run" / "model", steps, args.clips
                )
                save()
    results["linear_minus_former_db"] = differences(results)
    save()
    for key, value in results["scores"].items():
        print(key, value["mean_db"])
    print("linear - former", results["linear_minus_former_db"])


if __name__ == "__main__":
    main()
