"""Memory per chip of sampling at full size on TPUs, a clip of one window and a long one, by compiling.

    pip install 'gencompositor-jax[tpu-aot]'
    python benchmarks/sampling_plans.py

`gencompositor plan --mode sample` compiles the programs that `compose` and `batch` run, without a TPU. Each
plan runs in a process of its own; finished ones are kept, so that an interrupted run resumes. Takes minutes
per plan. Writes benchmarks/results/sampling_plans.json.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from gencompositor_jax.files import atomic_write_text

RESULTS = Path(__file__).parent / "results" / "sampling_plans.json"
TOPOLOGIES = ("v5e:2x2", "v6e:1x1", "v5p:2x2x1")
FRAMES = (49, 145)
KEPT = ("mesh", "bytes_per_device", "hbm_bytes", "fits", "composite_seconds_estimate", "compile_seconds")


def planned(config: str, topology: str, frames: int) -> dict[str, Any]:
    """The figures of one plan. Exits with the command's message if that fails."""
    command = ["plan", "--config", config, "--topology", topology, "--frames", str(frames), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "gencompositor_jax", *command], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr.strip().splitlines()[-1])
    plan = json.loads(done.stdout.splitlines()[-1])
    programs = {name: program["bytes_per_device"] for name, program in plan["programs"].items()}
    return {name: plan[name] for name in KEPT} | {"programs": programs}


def main() -> None:
    """Compile what is missing, and print a line for each plan."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="configs/gencompositor_6b.py")
    parser.add_argument("--topologies", nargs="*", default=TOPOLOGIES)
    parser.add_argument("--frames", nargs="*", type=int, default=FRAMES)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    report = json.loads(args.out.read_text()) if args.out.exists() else {}
    for topology in args.topologies:
        for frames in args.frames:
            name = f"{topology}, {frames} frames"
            if name not in report:
                report[name] = planned(args.config, topology, frames)
                atomic_write_text(args.out, json.dumps(report, indent=2) + "\n")
            row = report[name]
            programs = ", ".join(f"{key} {size / 2**30:.1f}" for key, size in row["programs"].items())
            fits = "fits" if row["fits"] else "doesn't fit"
            print(f"{name:<24} {row['bytes_per_device'] / 2**30:5.1f} GiB, {fits}: {programs}", flush=True)


if __name__ == "__main__":
    main()
