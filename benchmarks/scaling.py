"""Memory and traffic per chip of the training step on 8 to 512 TPU chips, by compiling it.

    pip install 'gencompositor-jax[tpu-aot]'
    python benchmarks/scaling.py

XLA:TPU compiles the step of `gencompositor train` without a TPU and without allocating anything. Each size
runs in a process of its own; finished sizes are kept, so that an interrupted run resumes. Takes minutes per
size. Writes benchmarks/results/scaling.json.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from gencompositor_jax.files import atomic_write_text

# Chips and their grid, the mesh, clips per step: first tokens are sharded, then clips are added.
SIZES: tuple[tuple[str, str, int], ...] = (
    ("v5p:2x2x2", "fsdp=8", 8),
    ("v5p:2x2x4", "fsdp=8,context=2", 8),
    ("v5p:2x4x4", "fsdp=8,context=4", 8),
    ("v5p:4x4x4", "fsdp=16,context=4", 16),
    ("v5p:4x4x8", "fsdp=32,context=4", 32),
    ("v5p:4x8x8", "fsdp=64,context=4", 64),
    ("v5p:8x8x8", "fsdp=64,context=8", 64),
)
KEPT = (
    "devices",
    "mesh",
    "batch",
    "bytes_per_device",
    "hbm_bytes",
    "host_bytes_per_device",
    "fits",
    "flops_per_device",
    "collective_bytes_per_device",
    "step_seconds_estimate",
    "compile_seconds",
)


def planned(config: str, topology: str, mesh: str, batch: int) -> dict[str, object]:
    """The figures of one size, from `gencompositor plan`. Exits with its message if that fails."""
    command = ["plan", "--config", config, "--mode", "train", "--topology", topology, "--mesh", mesh]
    command += ["--batch", str(batch), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "gencompositor_jax", *command], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr.strip().splitlines()[-1])
    plan = json.loads(done.stdout.splitlines()[-1])
    step = plan["programs"]["train step"]
    found = {name: plan[name] for name in KEPT}
    return found | {"memory": step["memory"], "collectives": step["collectives"]}


def main() -> None:
    """Compile the missing sizes, and print a line for each size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="configs/gencompositor_6b.py")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "scaling.json")
    parser.add_argument("--again", action="store_true", help="also finished sizes")
    args = parser.parse_args()
    report = json.loads(args.out.read_text()) if args.out.exists() and not args.again else {}
    for topology, mesh, batch in SIZES:
        if topology not in report:
            report[topology] = planned(args.config, topology, mesh, batch)
            args.out.parent.mkdir(exist_ok=True)
            atomic_write_text(args.out, json.dumps(report, indent=2) + "\n")
        row = report[topology]
        print(
            f"{topology:<10} {mesh:<18} {batch:>3} clips  {row['bytes_per_device'] / 2**30:6.1f} GiB and "
            f"{row['collective_bytes_per_device'] / 1e9:6.1f} GB sent per chip",
            flush=True,
        )


if __name__ == "__main__":
    main()
