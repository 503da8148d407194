"""A service under load, killed and restarted in between: is a job lost or answered wrongly, does memory grow?

    python benchmarks/serve_soak.py

starts `gencompositor serve` with the embedded model. Eight clients submit 200 jobs of 10 kinds (with files or
paths), and 7 malformed requests each, in a random order. They follow their jobs by server-sent events, come
back after 429 as Retry-After says, and repeat what a broken connection leaves unanswered with the same
Idempotency-Key. The service gets SIGKILL after a fifth of the jobs and SIGTERM after two fifths, and is
started again. Then

    lost       jobs that were accepted and aren't done, clients that gave up, and jobs that nobody knows of
               because a repeated submission was taken twice
    wrong      results that aren't nearest to the video that `Compositor` and `write_video` make of their job
               in this process, or differ from it by a level or more on average (frames are reproducible,
               x264's choices aren't); answers to malformed requests with another status than they are due
    memory     resident memory of the last process, and its open files, after each job

are counted and written to benchmarks/results/serve_soak.json. It exits with 1 if anything is lost or wrong.
All traffic is on loopback; it ends after --limit minutes at the latest.
"""

import argparse
import contextlib
import dataclasses
import http.client
import json
import os
import random
import secrets
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

from gencompositor_jax.compositor import Compositor  # noqa: E402
from gencompositor_jax.controls.media.video import read_video  # noqa: E402
from gencompositor_jax.controls.media.video_out import write_image_folder, write_video  # noqa: E402
from gencompositor_jax.files import atomic_write_text  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "serve_soak.json"
KINDS = 10
QUEUE = 24  # fewer than the clients submit at once
STEPS = 2
FRAMES = 9
NEAR = 1.0  # levels of 255 on average: what two compressions of the same frames may differ by
TOKEN = secrets.token_hex(16)
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "multipart/form-data; boundary=limit"}


@dataclasses.dataclass
class Soak:
    """What is going on, and what was seen."""

    folder: Path
    port: int
    deadline: float
    process: subprocess.Popen[bytes] | None = None
    expected: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)  # video of each kind
    done: int = 0
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    memory: list[tuple[int, int, int]] = dataclasses.field(default_factory=list)  # process, bytes, open files
    accepted: dict[str, int] = dataclasses.field(default_factory=dict)  # job -> kind
    statuses: Counter[str] = dataclasses.field(default_factory=Counter)
    distances: list[float] = dataclasses.field(
        default_factory=list
    )  # of the results from what they should be
    wrong: list[str] = dataclasses.field(default_factory=list)
    repeated: int = 0  # submissions after a broken connection
    refused: int = 0  # by a full queue

    def start(self) -> None:
        """Starts the service."""
        log = (self.folder / "log.txt").open("ab")
        words = ["--folder", self.folder / "service", "--root", self.folder / "root", "--port", self.port]
        limits = ["--max-queue", QUEUE, "--max-upload-mib", 1]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gencompositor_jax", "serve", *map(str, words), *map(str, limits)],
            stdout=log,
            stderr=log,
            env={**os.environ, "GENCOMPOSITOR_TOKEN": TOKEN, "PYTHONPATH": str(ROOT)},
        )

    def request(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body) of one request, repeated while the service doesn't answer."""
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
            try:
                with contextlib.closing(connection):
                    connection.request(method, path, body, headers)
                    answer = connection.getresponse()
                    return answer.status, dict(answer.getheaders()), answer.read()
            except (OSError, http.client.HTTPException):
                self.wait(0.3)
                self.repeated += method == "POST"

    def wait(self, seconds: float) -> None:
        """Sleeps; raises TimeoutError beyond the limit."""
        if time.monotonic() > self.deadline:
            raise TimeoutError("the soak run took longer than its limit")
        time.sleep(seconds)


def part(name: str, data: bytes, filename: str | None = None) -> bytes:
    """One part of a multipart body."""
    file = "" if filename is None else f'; filename="{filename}"'
    return f'--limit\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + data + b"\r\n"


def fields_of(kind: int, background: str) -> dict[str, Any]:
    """The job of a kind, from 0 on."""
    return {
        "background": background,
        "foreground": "bird",
        "trajectory": f"20,{14 + 4 * kind} 45,34 70,{50 - 4 * kind}",
        "scale": 1 + kind % 3 / 4,
        "seed": kind,
        "steps": STEPS,
    }


def prepare(soak: Soak) -> None:
    """Clips, and the frames of each kind as this process makes them."""
    rng = np.random.default_rng(0)
    root = soak.folder / "root"
    root.mkdir()
    for i in range(2):
        coarse = rng.integers(0, 255, (FRAMES, 8, 12, 3), dtype=np.uint8)
        write_video(root / f"street{i}.mp4", coarse.repeat(8, 1).repeat(8, 2), 8.0)
    element = np.full((FRAMES, 24, 24, 4), 200, np.uint8)
    element[:, :6, :, 3] = 0
    write_image_folder(root / "bird", element)
    compositor = Compositor.load()
    for kind in range(KINDS):
        fields = fields_of(kind, str(root / f"street{kind % 2}.mp4"))
        options = {name: fields[name] for name in ("scale", "seed", "steps")}
        composite = compositor.compose(fields["background"], root / "bird", fields["trajectory"], **options)
        write_video(soak.folder / "expected.mp4", composite.frames, composite.fps, overwrite=True)
        soak.expected[kind] = read_video(soak.folder / "expected.mp4").frames


def submit(soak: Soak, kind: int, upload: bool, headers: dict[str, str]) -> str:
    """Submits a job until it is accepted: its id."""
    name = f"street{kind % 2}.mp4"
    headers = headers | {"Idempotency-Key": secrets.token_hex(8)}
    if upload:
        job = json.dumps(fields_of(kind, f"upload:{name}")).encode()
        file = (soak.folder / "root" / name).read_bytes()
        body, headers = part("job", job) + part("file", file, name) + b"--limit--\r\n", headers | FORM
    else:
        body, headers = json.dumps(fields_of(kind, name)).encode(), headers | JSON
    while True:
        status, answered, text = soak.request("POST", "/v1/jobs", body, headers)
        if status == 202:
            id: str = json.loads(text)["id"]
            with soak.lock:
                soak.accepted[id] = kind
            return id
        if status != 429:
            raise AssertionError(f"job of kind {kind}: {status} {text!r}")
        soak.refused += 1
        soak.wait(min(float(answered["retry-after"]), 5))


def follow(soak: Soak, id: str, headers: dict[str, str]) -> dict[str, Any]:
    """A job once it is finished, from its events; connects again if the service goes away."""
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", soak.port, timeout=120)
        try:
            with contextlib.closing(connection):
                connection.request("GET", f"/v1/jobs/{id}/events", headers=headers)
                answer = connection.getresponse()
                if answer.status != 200:
                    return {"state": f"answered {answer.status}", "error": answer.read()}
                for line in answer:
                    if line.startswith(b"data: "):
                        job: dict[str, Any] = json.loads(line[6:])
                        if job["state"] in ("done", "failed", "cancelled"):
                            return job
        except (OSError, http.client.HTTPException):
            pass
        soak.wait(0.3)


def check(soak: Soak, id: str, kind: int, headers: dict[str, str], scratch: Path) -> None:
    """Follows a job and compares its frames."""
    job = follow(soak, id, headers)
    right = job["state"] == "done"
    if right:
        _, _, video = soak.request("GET", f"/v1/jobs/{id}/result", None, headers)
        scratch.write_bytes(video)
        frames = read_video(scratch).frames
        distances = {other: distance(frames, soak.expected[other]) for other in range(KINDS)}
        right = distances[kind] == min(distances.values()) and distances[kind] < NEAR
        soak.distances.append(distances[kind])
    with soak.lock:
        soak.done += 1
        if not right:
            soak.wrong.append(f"job {id} of kind {kind}: {job['state']} {job.get('error')}")
        assert soak.process is not None
        with contextlib.suppress(OSError):
            soak.memory.append((soak.process.pid, *usage(soak.process.pid)))


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Mean difference of two clips, in levels of 255."""
    return float(np.abs(one.astype(np.int16) - other).mean())


def usage(process: int) -> tuple[int, int]:
    """(resident bytes, open files) of a process."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{process}/fd"))


Malformed = Callable[[Soak, dict[str, str]], int]  # sends a bad request: the status of the answer


def answer(method: str, path: str, body: bytes, **more: str) -> Malformed:
    """A bad request that is sent at once."""
    names = {name.replace("_", "-"): value for name, value in more.items()}
    return lambda soak, headers: soak.request(method, path, body, headers | names)[0]


def gone_away(soak: Soak, headers: dict[str, str]) -> int:
    """An upload that stops in the middle: the service's answer to the next request."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", soak.port)) as connection:
        head = f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: {headers['Authorization']}\r\n"
        head += f"Content-Type: {FORM['Content-Type']}\r\nContent-Length: 100000\r\n\r\n"
        connection.sendall(head.encode() + part("job", b"{}") + part("file", b"x" * 1000, "a.mp4"))
    return soak.request("GET", "/health", None, {})[0]


def vanished(soak: Soak, headers: dict[str, str]) -> int:
    """A file that is removed between the check and the run: 1 for a job that failed with its name."""
    name = f"{secrets.token_hex(4)}.mp4"
    file = soak.folder / "root" / name
    file.write_bytes((soak.folder / "root" / "street0.mp4").read_bytes())
    body = json.dumps(fields_of(0, name)).encode()
    while True:
        status, _, text = soak.request("POST", "/v1/jobs", body, headers | JSON)
        if status == 202:
            break
        soak.wait(0.5)
    file.unlink()
    job = follow(soak, json.loads(text)["id"], headers)
    return int(job["state"] == "done" or (job["state"] == "failed" and name in job["error"]))


def form(*parts: bytes) -> Malformed:
    """A multipart body."""
    return answer("POST", "/v1/jobs", b"".join(parts), **FORM)


def changed(**fields: Any) -> Malformed:
    """A job with other fields than those of the first kind."""
    return answer("POST", "/v1/jobs", json.dumps(fields_of(0, "street0.mp4") | fields).encode(), **JSON)


END = b"--limit--\r\n"
MALFORMED: dict[str, tuple[int, Malformed]] = {
    "broken JSON": (400, answer("POST", "/v1/jobs", b'{"background": ', **JSON)),
    "multipart that ends early": (400, form(part("job", b"{}"))),
    "multipart without job": (400, form(part("file", b"x", "a.mp4"), END)),
    "wrong token": (401, answer("POST", "/v1/jobs", b"{}", Authorization="Bearer wrong", **JSON)),
    "no such job": (404, answer("GET", "/v1/jobs/..%2f..%2fetc%2fpasswd/result", b"")),
    "upload of 2 MiB": (413, form(part("file", bytes(2**21), "a.mp4"))),
    "another type": (415, answer("POST", "/v1/jobs", b"background=a.mp4", Content_Type="text/plain")),
    "traversal": (422, changed(background="../log.txt")),
    "a trajectory elsewhere": (422, changed(trajectory="/etc/a.txt")),
    "a million frames": (422, changed(frames=10**6)),
    "an unknown field": (422, changed(colour=1)),
    "a name with folders": (422, form(part("file", b"x", "../a.mp4"), END)),
    "a client that goes away": (200, gone_away),
    "a file that vanishes": (1, vanished),
}


def client(soak: Soak, number: int, jobs: int) -> None:
    """One client: its jobs and its share of the malformed requests, in a random order."""
    rng = random.Random(number)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    names = list(MALFORMED)
    errands: list[int | str] = [rng.randrange(KINDS) for _ in range(jobs)]
    errands += [names[(number * 7 + i) % len(names)] for i in range(7)]
    rng.shuffle(errands)
    waiting: list[tuple[str, int]] = []
    scratch = soak.folder / f"client{number}.mp4"
    for errand in errands:
        if isinstance(errand, str):
            due, send = MALFORMED[errand]
            status = send(soak, headers)
            with soak.lock:
                soak.statuses[errand] += 1
                if status != due:
                    soak.wrong.append(f"{errand}: {status}, not {due}")
        else:
            waiting.append((submit(soak, errand, rng.random() < 0.5, headers), errand))
            if len(waiting) == 4:
                check(soak, *waiting.pop(0), headers, scratch)
    for id, kind in waiting:
        check(soak, id, kind, headers, scratch)


def disturb(soak: Soak, jobs: int) -> Iterator[str]:
    """Kills and restarts the service after a fifth of the jobs, and ends and restarts it after two fifths."""
    for fraction, number in ((0.2, signal.SIGKILL), (0.4, signal.SIGTERM)):
        while soak.done < fraction * jobs:
            soak.wait(0.1)
        assert soak.process is not None
        soak.process.send_signal(number)
        code = soak.process.wait(120)
        soak.start()
        yield f"{signal.Signals(number).name} after {soak.done} jobs: exit code {code}"


def run(soak: Soak, clients: int, jobs: int) -> dict[str, Any]:
    """The whole run."""
    prepare(soak)
    soak.start()
    failures: list[str] = []

    def one(number: int) -> None:
        try:
            client(soak, number, jobs // clients)
        except Exception as error:
            failures.append(f"client {number}: {type(error).__name__}: {error}")

    threads = [threading.Thread(target=one, args=[number]) for number in range(clients)]
    for thread in threads:
        thread.start()
    restarts = list(disturb(soak, jobs))
    for text in restarts:
        print(text, flush=True)
    for thread in threads:
        thread.join()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    lost = [
        id
        for id in soak.accepted
        if json.loads(soak.request("GET", f"/v1/jobs/{id}", None, headers)[2]).get("state") != "done"
    ]
    left = sorted(path.name for path in (soak.folder / "service").glob("incoming/*"))
    uploads = len(list((soak.folder / "service").glob("jobs/*/uploads")))
    assert soak.process is not None
    last = [(size, files) for process, size, files in soak.memory if process == soak.process.pid]
    soak.process.terminate()
    code = soak.process.wait(120)
    with contextlib.closing(sqlite3.connect(soak.folder / "service" / "queue.sqlite3")) as db:
        (rows,) = db.execute("SELECT count(*) FROM jobs").fetchone()
        (again,) = db.execute("SELECT count(*) FROM jobs WHERE starts > 1").fetchone()
    unknown = rows - len(soak.accepted) - soak.statuses["a file that vanishes"]
    part_of = len(last) // 4
    before, after = last[part_of : 2 * part_of], last[-part_of:]
    megabytes = [statistics.median(size for size, _ in some) / 2**20 for some in (before, after)]
    return {
        "clients": clients,
        "jobs": jobs,
        "restarts": restarts,
        "exit_code_at_the_end": code,
        "jobs_accepted": len(soak.accepted),
        "started_again_after_the_kill": again,
        "lost": len(lost) + len(failures) + unknown,
        "failures": failures,
        "wrong": soak.wrong,
        "levels_from_the_expected_video": {
            "results_at_most": round(max(soak.distances), 2),
            "other_jobs_at_least": round(
                min(distance(soak.expected[a], soak.expected[b]) for a in range(KINDS) for b in range(a)), 2
            ),
        },
        "malformed_requests": dict(sorted(soak.statuses.items())),
        "refused_by_the_full_queue": soak.refused,
        "submissions_without_an_answer": soak.repeated,
        "incoming_files_left": left,
        "uploads_left": uploads,
        "memory_of_the_last_process": {
            "jobs": len(last),
            "median_MiB_in_its_second_quarter": round(megabytes[0]),
            "median_MiB_in_its_last_quarter": round(megabytes[1]),
            "ratio": round(megabytes[1] / megabytes[0], 3),
            "open_files": [statistics.median(files for _, files in some) for some in (before, after)],
            "MiB_after_each_tenth_job": [round(size / 2**20) for size, _ in last[::10]],
        },
    }


def main() -> None:
    """Runs, writes the results, and exits with 1 if something is lost or wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=200, help="a multiple of the clients")
    parser.add_argument("--limit", type=float, default=40, metavar="MINUTES")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        soak = Soak(Path(folder), port, time.monotonic() + 60 * args.limit)
        try:
            found = run(soak, args.clients, args.jobs)
        finally:
            if soak.process is not None:
                soak.process.kill()
    atomic_write_text(args.out, json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    sys.exit(bool(found["lost"] or found["wrong"]))


if __name__ == "__main__":
    main()
