"""Calls the command with broken inputs: how many are refused in one line, and what the others do.

    python -m benchmarks.broken_inputs --calls 60

takes up to so many calls per kind of door (tests/doors has them), each in a process of its own. It is killed
above 2 GB, above 20 seconds of CPU time, or once it has waited for 20 seconds. Nothing is sampled or trained:
a call that gets that far counts as accepted. The counts go to benchmarks/results/broken_inputs.json, under
--label, beside those of other labels. The doors "plate" and "frames of a layer" have no counts "before":
there were no such options then.
"""

import argparse
import contextlib
import io
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["GENCOMPOSITOR_CACHE"] = ""

from tests.doors import sound
from tests.doors.call import Call
from tests.doors.calls import all_calls
from tests.doors.seams import Accepted, stop_before_heavy_work
from tests.doors.values import some
from tests.processes import cpu_seconds

RESULTS = Path(__file__).parent / "results" / "broken_inputs.json"
MAX_BYTES, MAX_SECONDS, LONGEST = 2 * 10**9, 20.0, 420
POLL, MAX_IDLE = 0.05, 0.05  # seconds; of CPU time, what a waiting process may use


def attempt(call: Call, folder: Path, base: Path) -> tuple[str, str]:
    """(outcome, message) of a call, run in this process."""
    from gencompositor_jax.cli import main

    os.chdir(folder)
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown), contextlib.redirect_stdout(io.StringIO()):
            code = main(call.make(folder, base))
    except Accepted:
        return "accepted", ""
    except SystemExit as error:
        return "accepted", str(error.code)
    except BaseException:
        return "traceback", traceback.format_exc()
    lines = [line for line in shown.getvalue().splitlines() if line.startswith("gencompositor: ")]
    if code == 0:
        return "accepted", ""
    if len(lines) != 1 or len(lines[0]) > LONGEST:
        return "long", shown.getvalue()
    return "refused", lines[0]


def in_child(call: Call, base: Path) -> dict[str, Any]:
    """Outcome, message, seconds and peak memory of a call in a child of this process."""
    folder = Path(tempfile.mkdtemp(prefix="broken-"))
    answer = folder.with_suffix(".answer")
    started = time.monotonic()
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        try:
            outcome, message = attempt(call, folder, base)
            answer.write_text(json.dumps([outcome, message[-4000:]]))
        finally:
            os._exit(0)
    stopped, peak, computed, since, looked = "", 0, 0.0, started, started
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(POLL)
        with contextlib.suppress(OSError, IndexError, ValueError):
            pages = int(Path(f"/proc/{child}/statm").read_text().split()[1])
            peak = max(peak, pages * resource.getpagesize())
        if peak > MAX_BYTES:
            stopped = "over 2 GB"
        elif (now := time.monotonic()) > looked + 1:
            looked, spent = now, cpu_seconds({child})
            if spent > computed + MAX_IDLE:
                computed, since = spent, now
            if computed > MAX_SECONDS or now > since + MAX_SECONDS:
                stopped = "over 20 s"
        if stopped:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            break
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    outcome, message = "crashed", ""
    if stopped:
        outcome = stopped
    elif answer.exists():
        outcome, message = json.loads(answer.read_text())
    answer.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    seconds = round(time.monotonic() - started, 2)
    return {"outcome": outcome, "message": message, "seconds": seconds, "bytes": peak}


def counted(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Counts of a door's outcomes, and its highest memory."""
    counts = Counter(each["outcome"] for each in found)
    return {
        "calls": len(found),
        **dict(sorted(counts.items())),
        "peak_mb": max(e["bytes"] for e in found) // 10**6,
    }


def main() -> None:
    """Run and write the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=60, help="per door")
    parser.add_argument("--door", action="append", help="only these")
    parser.add_argument("--label", default="now", help="name of the counts in the results")
    parser.add_argument("--log", type=Path, help="every call with its outcome, a line of JSON each")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        base = Path(name).resolve()
        # In a child: this process must not start a backend, whose threads no fork would have.
        child = os.fork()
        if not child:
            sound.write(base)
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(child, 0)
        stop_before_heavy_work()
        report: dict[str, Any] = {}
        with args.log.open("w") if args.log else contextlib.nullcontext() as log:
            for door, calls in all_calls(base).items():
                if args.door and door not in args.door:
                    continue
                found = []
                for call in some(calls, args.calls):
                    found.append({"door": door, "name": call.name, **in_child(call, base)})
                    if log is not None:
                        print(json.dumps(found[-1]), file=log, flush=True)
                report[door] = counted(found)
                print(f"{door:<28} {report[door]}", flush=True)
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known[args.label] = {**known.get(args.label, {}), **report}
    RESULTS.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
