"""A batch on two processes of four virtual devices each, one of which is killed and started again.

    python benchmarks/batch_killed.py

40 jobs of two shapes with the embedded model, four of them broken in different ways: no such file, broken
JSON, too few frames, and a file that vanishes after the check. Process 1 is killed by SIGKILL once it has
finished some jobs, and started again by the same command once process 0 has finished some more. Both ways of
starting the processes: joined by jax.distributed, and unconnected. Writes results, jobs that were made twice,
and programs that each process compiled to benchmarks/results/batch_killed.json.
"""

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from gencompositor_jax.data_pipelines.demo import write_inputs
from gencompositor_jax.files import atomic_write_text

RESULTS = Path(__file__).parent / "results" / "batch_killed.json"
JOBS, BEFORE_KILL, MEANWHILE = 40, 4, 4


def write_manifest(folder: Path, steps: int) -> Path:
    """The manifest and its files."""
    inputs = write_inputs(folder, 9, overwrite=False)
    background, foreground = Path(inputs.background).name, Path(inputs.foreground).name
    common = {"foreground": foreground, "trajectory": inputs.trajectory, "steps": steps}
    common["scale"] = [float(scale) for scale in inputs.scale.split(",")]
    jobs: list[Any] = [
        {"out": f"{i}.mp4", "background": background, "seed": i, "frames": 9 if i % 4 < 2 else 5, **common}
        for i in range(JOBS)
    ]
    jobs[3]["background"] = "missing.mp4"
    jobs[10]["frames"] = 49
    (folder / "vanishing").symlink_to(foreground)
    jobs[38]["foreground"] = "vanishing"
    lines = [json.dumps(job) for job in jobs]
    lines[6] = lines[6][:-5]
    (folder / "jobs.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "jobs.jsonl"


def start(
    manifest: Path, out: Path, process: int, log: Path, coordinator: tuple[str, ...]
) -> subprocess.Popen[bytes]:
    """One process of the two."""
    words = ["batch", "--manifest", str(manifest), "--out", str(out), "--processes", "2", "--clips", "4"]
    words += coordinator
    flags = "--xla_force_host_platform_device_count=4"
    env = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": flags,
        "JAX_LOG_COMPILES": "1",
        "PYTHONUNBUFFERED": "1",
    }
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "gencompositor_jax", *words, "--process", str(process)],
            env=env | {"GENCOMPOSITOR_CACHE": ""},
            stdout=file,
            stderr=file,
        )


def done_in(out: Path, process: int) -> list[int]:
    """Jobs that a process has reported as done, in order."""
    path = out / f"results.{process}-of-2.jsonl"
    rows = [] if not path.exists() else [json.loads(text) for text in path.read_text().splitlines() if text]
    return [row["job"] for row in rows if row["status"] == "done"]


def compiled(log: Path) -> int:
    """How often a process has compiled the solver's program."""
    return len(re.findall(r"Finished XLA compilation of jit\(advance\)", log.read_text(errors="replace")))


def wait_for(log: Path, text: str, process: subprocess.Popen[bytes]) -> None:
    """Until a running process has written it."""
    while text not in log.read_text(errors="replace"):
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)


def run(folder: Path, steps: int, coordinator: tuple[str, ...]) -> dict[str, Any]:
    """The figures of one way of starting the processes."""
    manifest, out = write_manifest(folder, steps), folder / "out"
    logs = [folder / f"{label}.log" for label in ("process 0", "killed", "again")]
    first, killed = (start(manifest, out, i, logs[i], coordinator) for i in range(2))
    for log, process in zip(logs, (first, killed), strict=False):
        wait_for(log, "can't be made", process)  # until all is checked
    (folder / "vanishing").unlink()
    while len(done_in(out, 1)) < BEFORE_KILL:
        assert killed.poll() is None, logs[1].read_text()
        time.sleep(0.2)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    before, of_other = done_in(out, 1), len(done_in(out, 0))
    stamps = {job: (out / f"{job - 1}.mp4").stat().st_mtime_ns for job in before}
    while len(done_in(out, 0)) < of_other + MEANWHILE:
        assert first.poll() is None, logs[0].read_text()
        time.sleep(0.2)
    again = start(manifest, out, 1, logs[2], coordinator)
    wait_for(logs[0], "of this process done", first)
    left = JOBS // 2 - 1 - len(done_in(out, 1))  # one of its jobs is broken
    codes = first.wait(), again.wait()
    rows = [json.loads(text) for text in (out / "results.jsonl").read_text().splitlines()]
    times = Counter(done_in(out, 0) + done_in(out, 1))
    return {
        "jobs": len(rows),
        "done": sum(row["status"] == "done" for row in rows),
        "failed": [row["error"].replace(str(folder), "") for row in rows if row["status"] == "failed"],
        "done_before_the_kill": len(before),
        "left_to_process_1_when_process_0_has_done_its_share": left,
        "made_twice": sum(count > 1 for count in times.values()),
        "rewritten": sum((out / f"{job - 1}.mp4").stat().st_mtime_ns != t for job, t in stamps.items()),
        "shapes": 2,
        "solver_programs_compiled": {log.stem: compiled(log) for log in logs},
        "exit_codes": codes,
    }


def free_port() -> int:
    """A port of the loopback device that nothing uses at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def main() -> None:
    """Run it both ways."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=4)
    args = parser.parse_args()
    report = {}
    joined = "--coordinator", f"127.0.0.1:{free_port()}"
    for name, coordinator in (("joined by jax.distributed", joined), ("unconnected", ())):
        with tempfile.TemporaryDirectory() as folder:
            report[name] = run(Path(folder), args.steps, coordinator)
    print(json.dumps(report, indent=2))
    atomic_write_text(RESULTS, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
