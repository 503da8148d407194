"""How much work it is for the studio to serve its first page.

    python benchmarks/app_start.py

starts `gencompositor app` on a free port and asks for its page until it is there, five times, with Python's
byte code compiled, and takes the CPU time of the process, which the machine's other work doesn't change.
Beside it stands what nothing of this project can change: the same for a page of ten lines of FastAPI and
uvicorn. The ratio of the medians is written to benchmarks/results/app_start.json, with what `import jax`
would add to the studio's, and the bytes that the page loads.
"""

import contextlib
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

from gencompositor_jax.files import atomic_write_text  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "app_start.json"
TIMES = 5
BARE = """
import sys, fastapi, uvicorn
app = fastapi.FastAPI()
@app.get("/")
def page():
    return fastapi.Response("<!doctype html>", media_type="text/html")
uvicorn.run(app, port=int(sys.argv[1]), log_level="error")
"""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def until_served(words: list[str], port: int) -> float:
    """CPU seconds of a process until it has served its page, and ended."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([sys.executable, *words], stdout=log, stderr=log, cwd=ROOT)
        try:
            while process.poll() is None:
                with (
                    contextlib.suppress(OSError),
                    socket.create_connection(("127.0.0.1", port)) as connection,
                ):
                    connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    answer = b"".join(iter(lambda: connection.recv(65536), b""))
                    assert b" 200 " in answer.splitlines()[0] and b"<!doctype html>" in answer.lower()
                    break
                time.sleep(0.02)
        finally:
            process.send_signal(signal.SIGTERM)
            _, _, used = os.wait4(process.pid, 0)
            process.returncode = 0
    return used.ru_utime + used.ru_stime


def import_of(module: str) -> float:
    """CPU seconds of an import in a new process, beyond an empty one."""

    def run(code: str) -> float:
        process = subprocess.Popen([sys.executable, "-c", code])
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = status
        return used.ru_utime + used.ru_stime

    return statistics.median(run(f"import {module}") - run("") for _ in range(TIMES))


def page_bytes() -> int:
    """Bytes of all files that the page loads: what it names, and what those import."""
    static = ROOT / "gencompositor_jax" / "app" / "static"
    waiting, found = [static / "index.html"], set[Path]()
    while waiting:
        path = waiting.pop().resolve()
        if path in found or not path.is_file():
            continue
        found.add(path)
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"""(?:from|import|href=|src=|import\()\s*["']([^"']+)["']""", text):
            waiting.append(
                static / name.removeprefix("/static/") if name.startswith("/static/") else path.parent / name
            )
    return sum(path.stat().st_size for path in found)


def main() -> None:
    """Measures."""
    until_served(["-m", "gencompositor_jax", "app", "--port", str(port := free_port())], port)  # byte code
    studio, bare = [], []
    for _ in range(TIMES):
        studio.append(
            until_served(["-m", "gencompositor_jax", "app", "--port", str(port := free_port())], port)
        )
        bare.append(until_served(["-c", BARE, str(port := free_port())], port))
    found = {
        "runs": TIMES,
        "studio_over_bare": round(statistics.median(studio) / statistics.median(bare), 2),
        "cpu_under_2_s": max(studio) < 2,
        "jax_would_add_of_studio": round(import_of("jax") / statistics.median(studio), 2),
        "page_bytes": page_bytes(),
    }
    atomic_write_text(RESULTS, json.dumps(found, indent=2) + "\n")
    print(json.dumps(found | {"studio_s": studio, "bare_s": bare}, indent=2))


if __name__ == "__main__":
    main()
