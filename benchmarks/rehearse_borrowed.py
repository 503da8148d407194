"""Kills launch/borrowed_gpu.sh at bad moments, with small sizes on a CPU, and checks what it has kept.

    python benchmarks/rehearse_borrowed.py --base PYTHON --wheels DIR [--minutes 6]

PYTHON is one with jax alone, DIR is from launch/fetch_wheels.sh. Each call is ended by SIGKILL to all of its
processes: while it trains, while training writes the model, while a file is copied to OUT, and while it
evaluates. The last call runs to its end. After each, every file in OUT must be whole and the model's step
must not have gone back. Writes benchmarks/results/borrowed_rehearsal.json. Takes about half an hour on two
busy cores.
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gencompositor_jax.files import atomic_write_text

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "borrowed_rehearsal.json"
MOST_FILES, LARGEST = 8, 16 * 2**20


def processes(session: int) -> list[int]:
    """The processes of a POSIX session (`setsid`) that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            state, _, _, of = stat.read_text().rpartition(")")[2].split()[:4]
            if int(of) == session and state not in "ZX":
                found.append(int(stat.parent.name))
    return found


def kill(session: int) -> None:
    """End all processes of a POSIX session, those that they start meanwhile included."""
    while running := processes(session):
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.05)


def kept(out: Path) -> dict[str, Any]:
    """The files in OUT with their bytes, and the step of the model. Raises where one is not whole."""
    files = {path.name: path.stat().st_size for path in sorted(out.iterdir())}
    assert len(files) <= MOST_FILES and max(files.values()) < LARGEST, files
    found: dict[str, Any] = {"files": files, "step": None}
    if (out / "model.tar").exists():
        with tempfile.TemporaryDirectory() as folder, tarfile.open(out / "model.tar") as tar:
            tar.extractall(folder, filter="data")
            hashes = json.loads((Path(folder) / "manifest.json").read_text())["files"]
            for name, facts in hashes.items():
                content = (Path(folder) / name).read_bytes()
                assert hashlib.sha256(content).hexdigest() == facts["sha256"], name
            model = json.loads((Path(folder) / "model.json").read_text())
        found["step"] = model["provenance"]["step"]
        found["steps"] = model["provenance"]["config"]["steps"]
    if (out / "results.tar").exists():
        with tarfile.open(out / "results.tar") as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    json.loads(tar.extractfile(member).read())  # type: ignore[union-attr]
            found["results"] = sorted(m.name for m in tar.getmembers() if m.isfile())
    if (out / "evaluation.json").exists():
        evaluation = json.loads((out / "evaluation.json").read_text())
        found["evaluated_step"] = evaluation["model"]["trained_steps"]
    return found


def moments(out: Path, work: Path) -> dict[str, Callable[[str], object]]:
    """By name: whether the moment to kill has come, from what the call has printed."""
    second = re.compile(r"training to step .*\nstep \d+ of", re.DOTALL)
    return {
        "training": lambda log: second.search(log) and (out / "model.tar").exists(),
        "writing the model": lambda log: (
            "training to step" in log and any((work / "run").glob(".model.*.part"))
        ),
        "copying to OUT": lambda log: "training to step" in log and (out / "part").exists(),
        "evaluating": lambda log: re.search(r"evaluation of step .*\n.*held-out clips", log, re.DOTALL),
        "the end": lambda log: False,
    }


def call(command: list[str], env: dict[str, str], log: Path, over: Callable[[str], object]) -> int | None:
    """Run the script until a moment, and kill it then; its exit code, None if killed."""
    with log.open("w") as stdout:
        main = subprocess.Popen(
            command, env=env, stdout=stdout, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        while main.poll() is None:
            if over(log.read_text(errors="replace")):
                return None
            time.sleep(0.002)
        return main.returncode
    finally:
        kill(main.pid)
        main.wait()


def main() -> None:
    """Rehearse, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", required=True, help="a Python with jax")
    parser.add_argument("--wheels", required=True, type=Path, help="folder of wheels")
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--folder", type=Path, help="for OUT and WORK (default: a temporary one)")
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp())
    out, work = folder / "out", folder / "work"
    folder.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "PYTHON": args.base, "WHEELS": str(args.wheels.absolute()), "WORK": str(work)}
    env |= {"SMALL": "1", "PYTHONUNBUFFERED": "1"}
    env.pop("PYTHONPATH", None)
    command = [str(ROOT / "launch" / "borrowed_gpu.sh"), str(out), str(args.minutes)]
    report: list[dict[str, Any]] = []
    for number, (name, over) in enumerate(moments(out, work).items()):
        log = folder / f"{number}.log"
        code = call(command, env, log, over)
        facts = {"ended": name, "code": code, **kept(out)}
        report.append(facts)
        print(json.dumps(facts), flush=True)
        if name != "the end" and code is not None:
            sys.exit(f"rehearse_borrowed: ended with {code} before {name!r}; see {log}")
        if len(report) > 1:
            before, after = report[-2]["step"], facts["step"]
            assert before is None or after >= before, (before, after)
    assert report[-1]["code"] == 0 and report[-1]["evaluated_step"] == report[-1]["step"]
    atomic_write_text(RESULTS, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
