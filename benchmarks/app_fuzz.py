"""The studio under random requests: does it fail, read what it mustn't, or grow?

    python benchmarks/app_fuzz.py

starts the studio of `gencompositor app` in a process of its own, with the checks of the embedded model but
no sampling, and small limits on what it keeps. It sends 5,000 requests, made by chance from valid ones: paths
that leave folders, broken and truncated uploads, projects with fields removed, doubled and replaced, headers
of other sites, wrong methods and types. Then

    failed     answers of status 500 and above (503 and 507 say what is wrong), refusals without one line of
               JSON that says why, and requests without an answer in a minute
    outside    files and folders that the process opened below others than its own folder, Python's and the
               system's libraries; answers that hold what stands in a file beside that folder
    memory     resident memory after each 250 requests, and its growth over the second half of them

are counted and written to benchmarks/results/app_fuzz.json. It exits with 1 if anything failed or was read.
"""

import argparse
import contextlib
import copy
import dataclasses
import io
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

from gencompositor_jax.files import atomic_write_text  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "app_fuzz.json"
SECRET = "the-secret-beside-the-folder"
PATIENCE_S = 60.0
ALLOWED = (503, 507)  # statuses from 500 on that say what is wrong

# What stands where a number, a text or a list is expected.
WEIRD: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2, 7, 0.5, -0.0, 1e-9, 1e9, 1e308, -1e308, 2**31, 2**63, 10**40, "", " ",
    "0", "auto", "é鳥", "\u0000", "\ud7ff", "../secret.txt", "/etc/passwd", "file:///etc/passwd",
    "http://127.0.0.1:1/x.mp4", "upload:x", "track:1,1", "#00ff00", "alpha", "x" * 5000, [], {},
    [[]], [None], [1, 2], [3], {"x": 1, "y": 2}, {"path": "street.mp4"}, [{"x": 1, "y": 2}],
    "link.mp4", "clips.json", ".", "..", "%2e%2e/secret.txt",
)  # fmt: skip
NAMES = (
    "street.mp4", "a.png", "00001.png", "../../x.png", "..\\..\\x.mp4", ".", "", "a/b.png",
    "nul\0.png", "x" * 400 + ".png", "鳥" * 100 + ".mp4", "-rf.mov", "<b>.webp", "a.m3u8", "a.svg",
    "a.exr", "a.json", "COM1.png", "a.mp4.", "%s%n.png", "….png",
)  # fmt: skip
LEAVING = (
    "../", "..%2f", "%2e%2e/", "..%5c", "....//", "%00", "/", "//", "\\", "%c0%ae%c0%ae/",
    "%252e%252e%252f", ";", "?", "#",
)  # fmt: skip
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "get", "X" * 30)
GET = (
    "/", "/app/state", "/app/model", "/app/clips", "/app/clips/{clip}",
    "/app/clips/{clip}/frames/{n}", "/app/clips/{clip}/proxy.mp4",
    "/app/elements/{element}/frames/{n}", "/app/previews/{preview}/frames/{n}",
    "/app/previews/{preview}/video.mp4", "/v1/jobs", "/v1/jobs/{job}", "/v1/jobs/{job}/result",
    "/v1/jobs/{job}/input", "/v1/jobs/{job}/estimate", "/v1/jobs/{job}/sheet",
    "/v1/jobs/{job}/layer", "/v1/jobs/{job}/project", "/v1/jobs/{job}/report", "/health",
    "/metrics", "/static/index.html", "/static/js/main.js", "/docs", "/favicon.ico",
)  # fmt: skip
POST = (
    *("/app/previews", "/v1/jobs") * 3,
    "/app/elements", "/app/path", "/app/track", "/app/previews", "/v1/jobs", "/app/project/check",
    "/app/project/open", "/app/project/save", "/app/login", "/app/example", "/v1/jobs/{job}/cancel",
    "/app/logout",
)  # fmt: skip
QUERY = {
    "width": (16, 64, 640, 4096, 15, 4097, -1, "x", "1e3", "", "9" * 30),
    "format": ("png", "webp", "jpeg", "gif", ""),
    "show": ("paste", "mask", "paste,mask,path", "matte", "model", "input", "matte,paste", "x", "," * 50),
    "start": (0, 0.1, 5, -1, "nan", "inf", "x"),
    "end": (0.2, 0, -1, "nan", 1e300),
    "fps": (1, 12, 1000, 0, -5, "nan", 1e9),
    "whole": (0, 1, "x"),
    "limit": (1, 200, 0, 10**9, "x"),
    "state": ("running", "done", "x"),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Request:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclasses.dataclass
class Known:
    """Ids that the studio gave out: requests that name them reach further."""

    clip: list[str] = dataclasses.field(default_factory=lambda: ["0" * 16])
    element: list[str] = dataclasses.field(default_factory=lambda: ["0" * 24])
    preview: list[str] = dataclasses.field(default_factory=lambda: ["0" * 24])
    job: list[str] = dataclasses.field(default_factory=lambda: ["0" * 16])

    def note(self, path: str, answer: Any) -> None:
        """Keeps the id in an answer."""
        kinds = {
            "/app/clips": "clip",
            "/app/elements": "element",
            "/app/previews": "preview",
            "/v1/jobs": "job",
        }
        if path in kinds and isinstance(answer, dict) and isinstance(answer.get("id"), str):
            found = getattr(self, kinds[path])
            found.append(answer["id"])
            del found[:-20]


def clips() -> dict[str, bytes]:
    """Files of the valid requests, by name: a video, an element before green, a mask."""
    import numpy as np
    from PIL import Image

    from gencompositor_jax.controls.media.video_out import write_video

    rng = np.random.default_rng(0)
    frames = np.repeat(np.repeat(rng.integers(0, 255, (6, 12, 16, 3), np.uint8), 4, 1), 4, 2)
    ball = np.full((32, 40, 3), (20, 200, 40), np.uint8)
    ball[8:20, 16:30] = (220, 30, 30)
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 20:40] = 255
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        write_video(Path(folder) / "street.mp4", frames, 12.0)
        found["street.mp4"] = (Path(folder) / "street.mp4").read_bytes()
    for name, image in (("ball.png", ball), ("mask.png", mask)):
        out = io.BytesIO()
        Image.fromarray(image).save(out, "PNG")
        found[name] = out.getvalue()
    return found


class Chance:
    """Requests by chance; the same seed gives the same ones for the same answers."""

    def __init__(self, seed: int, files: dict[str, bytes], secret: Path) -> None:
        """files: of the valid requests. secret: a clip that no request may reach."""
        self.rng, self.files, self.known = random.Random(seed), files, Known()
        self.outside = (
            str(secret),
            f"../../{secret.name}",
            f"x/../../../{secret.name}",
            f"street.mp4/../../../{secret.name}",
            f"file://{secret}",
            f"upload:../../{secret.name}",
            "link.mp4",  # a link to it, should one ever get into the folder
            "/etc/passwd",
            "../clips.json",
        )

    def next(self) -> Request:
        """A request."""
        rng = self.rng
        made = rng.choices((self._get, self._post, self._upload, self._path), (30, 40, 20, 10))[0]()
        headers = dict(made.headers)
        if rng.random() < 0.05:
            headers |= rng.choice(
                (
                    {"Host": "evil.example"},
                    {"Host": ""},
                    {"Origin": "http://evil.example"},
                    {"Origin": "\xff"},
                    {"Sec-Fetch-Site": "cross-site"},
                    {"Cookie": "gencompositor_studio=" + "x" * 3000},
                    {"Authorization": "Bearer \xe9"},
                    {"Range": "bytes=9999999-"},
                    {"Range": "bytes=5-2,x"},
                    {"If-None-Match": '"' + "x" * 200},
                    {"Content-Length": "-5"},
                    {"Idempotency-Key": rng.choice(("a", "b", "x" * 300, "\xe9"))},
                    {"Accept-Encoding": "gzip, br"},
                    {"Connection": "Upgrade", "Upgrade": "websocket"},
                )
            )
        method = made.method if rng.random() < 0.97 else rng.choice(METHODS)
        return dataclasses.replace(made, method=method, headers=headers)

    def _named(self, path: str) -> str:
        """A path with ids and numbers in it."""
        for kind in ("clip", "element", "preview", "job"):
            path = path.replace(f"{{{kind}}}", self.rng.choice(getattr(self.known, kind)))
        return path.replace("{n}", str(self.rng.choice((0, 0, 1, 3, 5, 6, -1, "x", 10**12, "1.5"))))

    def _get(self) -> Request:
        path, rng = self._named(self.rng.choice(GET)), self.rng
        query = [(name, str(rng.choice(values))) for name, values in QUERY.items() if rng.random() < 0.15]
        method = "DELETE" if rng.random() < 0.06 and path.count("/") == 3 else "GET"
        return Request(method, path + ("?" + urllib.parse.urlencode(query) if query else ""), {}, b"")

    def _path(self) -> Request:
        rng = self.rng
        start = rng.choice(("/static/", "/app/clips/", "/v1/jobs/", "/", "/app/elements/", "/app/"))
        middle = "".join(rng.choices(LEAVING, k=rng.randint(1, 6)))
        end = rng.choice(("secret.txt", "etc/passwd", "clips.json", "queue.sqlite3", "studio.py", "x", ""))
        return Request(
            "GET", start + middle + end + rng.choice(("", "/frames/0", "/result", "/project")), {}, b""
        )

    def _post(self) -> Request:
        rng, path = self.rng, self._named(self.rng.choice(POST))
        value = self._changed(self._body(path))
        text = json.dumps(value).encode()
        if rng.random() < 0.08:
            text = self._broken(text)
        if rng.random() < 0.03:
            text = rng.choice(
                (
                    b"[" * 100_000,
                    b'{"a":' * 5000,
                    b'{"x": NaN}',
                    b'{"x":1,"x":2}',
                    b"\xff\xfe",
                    b"",
                    b"9" * 9000,
                )
            )
        kind = (
            "application/json"
            if rng.random() < 0.97
            else rng.choice(("text/plain", "", "multipart/form-data", "x/y; a=b"))
        )
        return Request("POST", path, {"Content-Type": kind}, text)

    def _body(self, path: str) -> dict[str, Any]:
        project = {
            "version": 1,
            "background": {"path": self._clip("street.mp4"), "start": 0, "end": None, "fps": None},
            "frames": self.rng.choice((None, 3, 6)),
            "layers": [self._layer() for _ in range(self.rng.choice((1, 1, 1, 2)))],
            "seed": 7,
            "steps": 1,
        }
        if self.rng.random() < 0.2:
            project["remove"] = self._clip("mask.png")
        if path == "/app/elements":
            return self._layer()
        if path == "/app/path":
            return {**self._layer(), "frames": 6, "width": 64, "height": 48}
        if path == "/app/track":
            return {"background": self._clip("street.mp4"), "x": 30, "y": 24, "frame": 2}
        if path == "/app/project/open":
            return project
        if path == "/app/login":
            return {"token": "x" * 16}
        return {"project": project}

    def _layer(self) -> dict[str, Any]:
        rng = self.rng
        keys = [{"x": rng.uniform(-10, 70), "y": rng.uniform(-10, 50)} for _ in range(rng.randint(1, 4))]
        return {
            "foreground": self._clip("ball.png"),
            "trajectory": {
                "keyframes": keys,
                "relative": False,
                "timing": "arc",
                "track": rng.random() < 0.05,
            },
            "scales": [rng.choice((0.5, 0.8, 1.3))],
            "rotations": [rng.choice((0, 15))],
            "key": "auto",
            "mask": None,
            "anchor": "center",
            "extend": "hold",
            "in_frame": 0,
            "out_frame": None,
            "easing": "linear",
        }

    def _clip(self, name: str) -> str:
        chance = self.rng.random()
        return name if chance < 0.9 else str(self.rng.choice(self.outside if chance < 0.96 else WEIRD))

    def _changed(self, value: Any) -> Any:
        """The value with a few of its parts removed or replaced."""
        value, rng = copy.deepcopy(value), self.rng
        for _ in range(rng.choice((0, 0, 1, 1, 2, 4))):
            parent, key = self._place(value)
            if parent is None:
                return rng.choice(WEIRD)
            change = rng.random()
            if change < 0.2:
                del parent[key]
            elif change < 0.3 and isinstance(parent, dict):
                parent[str(rng.choice(("color", "__class__", "", "path", "version", "é")))] = rng.choice(
                    WEIRD
                )
            elif change < 0.35 and isinstance(parent, list):
                parent.extend([copy.deepcopy(parent[key])] * rng.choice((1, 3, 500)))
            else:
                parent[key] = copy.deepcopy(rng.choice(WEIRD))
        return value

    def _place(self, value: Any) -> tuple[Any, Any]:
        """A container in a value, and a key of it."""
        places = []
        waiting = [value]
        while waiting:
            each = waiting.pop()
            keys = (
                list(each) if isinstance(each, dict) else range(len(each)) if isinstance(each, list) else ()
            )
            places += [(each, key) for key in keys]
            waiting += [each[key] for key in keys]
        return self.rng.choice(places) if places else (None, None)

    def _upload(self) -> Request:
        rng = self.rng
        parts = b""
        for _ in range(rng.choice((1, 1, 1, 2, 5))):
            name, data = rng.choice(list(self.files.items()))
            if rng.random() < 0.5:
                data = self._broken(data)
            if rng.random() < 0.5:
                name = rng.choice(NAMES)
            if rng.random() < 0.05:
                data = rng.choice(
                    (b"", b"#EXTM3U\nfile:///etc/passwd", b"<svg/>", b"PK\x03\x04", b"x" * 2**20)
                )
            field = rng.choice(("file", "file", "file", "job", ""))
            head = f'--limit\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'
            parts += head.encode("utf-8", "replace") + data + b"\r\n"
        body = parts + b"--limit--\r\n"
        if rng.random() < 0.1:
            body = self._broken(body)
        boundary = "limit" if rng.random() < 0.97 else rng.choice(("", "other", "x" * 200))
        return Request(
            "POST", "/app/clips", {"Content-Type": f"multipart/form-data; boundary={boundary}"}, body
        )

    def _broken(self, data: bytes) -> bytes:
        rng = self.rng
        how = rng.random()
        if how < 0.4 and data:
            return data[: rng.randrange(len(data))]
        changed = bytearray(data)
        for _ in range(rng.choice((1, 5, 50))):
            if changed:
                changed[rng.randrange(len(changed))] = rng.randrange(256)
        return bytes(changed)


def send(address: tuple[str, int], request: Request) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer; 0 where the connection was closed without one.

    By bytes of our own: a client library would refuse most of these requests.
    """
    headers = {
        "Host": f"{address[0]}:{address[1]}",
        "Connection": "close",
        "Content-Length": str(len(request.body)),
    }
    headers |= request.headers
    head = f"{request.method} {request.path} HTTP/1.1\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
    received = b""
    with socket.create_connection(address, timeout=PATIENCE_S) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(head.encode("latin-1", "replace") + request.body)
        with contextlib.suppress(ConnectionResetError):
            while chunk := connection.recv(2**16):
                received += chunk
    head_bytes, _, body = received.partition(b"\r\n\r\n")
    lines = head_bytes.decode("latin-1").split("\r\n")
    status = lines[0].split(" ")
    found = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines[1:]}
    return int(status[1]) if len(status) > 1 and status[1].isdecimal() else 0, found, body


def problem(request: Request, status: int, headers: dict[str, str], body: bytes) -> str | None:
    """What is wrong with an answer."""
    if SECRET.encode() in body or b"root:x:0:" in body:
        return "holds what stands outside of its folder"
    if status == 0 or status >= 500 and status not in ALLOWED:
        return f"status {status}"
    if (
        status < 400
        or request.method == "HEAD"
        or not headers.get("content-type", "").startswith("application")
    ):
        return None  # a server refuses malformed HTTP itself, with a line of text
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, KeyError, TypeError):
        return f"status {status} without a reason: {body[:80]!r}"
    return None if isinstance(detail, str) and detail and "\n" not in detail else f"reason {detail!r}"


def fuzz(address: tuple[str, int], chance: Chance, count: int) -> Iterator[tuple[Request, int, str | None]]:
    """Sends requests; (request, status, what is wrong) of each."""
    for _ in range(count):
        request = chance.next()
        try:
            status, headers, body = send(address, request)
        except TimeoutError:
            yield request, 0, f"no answer in {PATIENCE_S:g} s"
            continue
        if status in (200, 201, 202) and headers.get("content-type") == "application/json":
            with contextlib.suppress(ValueError):
                chance.known.note(request.path, json.loads(body))
        yield request, status, problem(request, status, headers, body)


def upload(address: tuple[str, int], name: str, data: bytes) -> int:
    """Sends a file; the status."""
    head = f'--limit\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
    body = head + data + b"\r\n--limit--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=limit"}
    return send(address, Request("POST", "/app/clips", kind, body))[0]


SERVER = '''
import faulthandler, json, os, signal, sys
from pathlib import Path

folder, log = Path(sys.argv[1]), os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

faulthandler.register(signal.SIGUSR1)  # where it hangs, if it does

import av
from gencompositor_jax.app import context, store, studio
from gencompositor_jax.jobs.limits import Limits
from gencompositor_jax.jobs.models import Models
from gencompositor_jax.serve.server import listen, run

store.MEMORY, context.STAGES, context.PICTURES = 2**24, 2**24, 2**22  # so that they fill up

class Checked(Models):
    """The model's checks, and no sampling."""

    def run(self, device, job, media, folder, on_step):
        for step in range(1, 3):
            on_step(step, 2)
        (folder / job.out).write_bytes(b"frames")

    def devices(self):
        return ["none:0"]

listening = listen("127.0.0.1", 0)
made = studio.make_studio(folder, Limits(queue=20, upload_mib=1, keep_hours=0.01), Checked())
context.warm_up()
print(listening.getsockname()[1], flush=True)
os.dup2(2, 1)  # nobody reads what uvicorn logs

def opened(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], str | bytes | os.PathLike):
        os.write(log, os.fsencode(os.path.realpath(arguments[0])) + b"\\n")

libav = av.open
def open_media(file, *rest, **more):
    if isinstance(file, str | os.PathLike):
        os.write(log, os.fsencode(os.path.realpath(file)) + b"\\n")
    return libav(file, *rest, **more)
av.open = open_media
sys.addaudithook(opened)
run(studio.create_app(made, None), made.service, listening)
'''


def outside(log: Path, folder: Path) -> list[str]:
    """What a process opened, other than its own folder and what Python and the system read by themselves."""
    own = [folder, ROOT, Path(sys.prefix), Path(sys.base_prefix)]
    system = ("/usr/", "/lib/", "/proc/", "/sys/", "/dev/", "/etc/ld.so", "/etc/localtime", "/etc/mime.types")
    found = {os.fsdecode(line) for line in log.read_bytes().splitlines() if line}
    return sorted(
        path
        for path in found
        if not any(Path(path).is_relative_to(each.resolve()) for each in own) and not path.startswith(system)
    )


def stopped(process: "subprocess.Popen[bytes]") -> bool:
    """Ends the studio; whether it ended by itself. Otherwise its log has where it hung."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGUSR1)
        time.sleep(1)
        process.kill()
        process.wait()
        return False
    return True


def resident(pid: int) -> int:
    """Bytes of a process in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """Runs it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    statuses: Counter[int] = Counter()
    problems: list[str] = []
    memory: list[int] = []
    with tempfile.TemporaryDirectory() as made:
        top = Path(made).resolve()
        folder, log = top / "studio", top / "opened.log"
        folder.mkdir()
        (top / "secret.txt").write_text(SECRET)
        (folder / "clips").mkdir()
        files = clips()
        (top / "secret.mp4").write_bytes(files["street.mp4"])
        (folder / "clips" / "link.mp4").symlink_to(top / "secret.mp4")
        errors = (top / "errors.txt").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(folder), str(log)],
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
        )
        assert process.stdout is not None
        address = "127.0.0.1", int(process.stdout.readline())
        try:
            chance = Chance(args.seed, files, top / "secret.mp4")
            for number, (request, status, wrong) in enumerate(fuzz(address, chance, args.requests), 1):
                statuses[status] += 1
                if wrong is not None:
                    problems.append(f"{request.method} {request.path[:200]}: {wrong}")
                    print(problems[-1], request.body[:300], file=sys.stderr)
                if number % 25 == 1:  # what is valid must stay valid
                    for name, data in files.items():
                        with contextlib.suppress(TimeoutError):
                            upload(address, name, data)
                if number % 250 == 0:
                    time.sleep(0.2)
                    memory.append(resident(process.pid))
                    print(f"{number} requests, {memory[-1] >> 20} MiB", file=sys.stderr)
        finally:
            ended = stopped(process)
        tracebacks = (top / "errors.txt").read_text(errors="replace").count("Traceback")
        read = outside(log, folder)
    settled = memory[len(memory) // 2 :]  # the caches are full by then
    quarter = max(1, len(settled) // 4)
    growth = statistics.median(settled[-quarter:]) / statistics.median(settled[:quarter]) if settled else 1.0
    found = {
        "requests": args.requests,
        "seed": args.seed,
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "failed": len(problems),
        "problems": problems[:20],
        "tracebacks": tracebacks,
        "ended": ended,  # within a minute after SIGTERM
        "outside": read[:20],
        "resident_mib": [size >> 20 for size in memory],
        "growth": round(growth, 3),  # of the second half of the requests: last quarter over first
    }
    atomic_write_text(args.out, json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    return 1 if problems or read or tracebacks or not ended else 0


if __name__ == "__main__":
    sys.exit(main())
