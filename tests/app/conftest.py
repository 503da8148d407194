"""A studio over loopback, with a runner without a network."""

import contextlib
import io
import json
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gencompositor_jax.controls.media.video_out import write_video
from gencompositor_jax.jobs.limits import Limits
from tests.jobs.conftest import FakeRunner
from tests.serve.conftest import Answer, Client, part

pytest.importorskip("fastapi")
pytest.importorskip("cachetools")

HEIGHT, WIDTH, FRAMES = 48, 64, 6


class Studio(Client):
    """A client of a studio, as its page is one."""

    folder: Path
    studio: Any

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Answer:
        """Sends JSON."""
        kind = {"Content-Type": "application/json"}
        return self("POST", path, json.dumps(body).encode(), kind | (headers or {}))

    def upload(self, *files: tuple[str, bytes]) -> Answer:
        """Sends files."""
        body = b"".join(part("file", data, name) for name, data in files) + b"--limit--\r\n"
        kind = {"Content-Type": "multipart/form-data; boundary=limit"}
        return self("POST", "/app/clips", body, kind)

    def picture(self, path: str) -> np.ndarray:
        """The pixels of a frame."""
        answer = self("GET", path)
        assert answer.status == 200, answer.body
        return np.asarray(Image.open(io.BytesIO(answer.body)))


@contextlib.contextmanager
def serving(folder: Path, limits: Limits, token: str | None = None) -> Iterator[Studio]:
    """A running studio."""
    from gencompositor_jax.app.studio import create_app, make_studio
    from gencompositor_jax.serve.server import listen, server

    runner = FakeRunner()
    studio = make_studio(folder, limits, runner)
    listening = listen("127.0.0.1", 0)
    http_server = server(create_app(studio, token), studio.service)
    thread = threading.Thread(target=http_server.run, kwargs={"sockets": [listening]})
    thread.start()
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def stop() -> None:
        http_server.should_exit = True

    made = Studio(listening.getsockname()[:2], studio.service, runner, stop, headers)
    made.folder, made.studio = folder, studio
    try:
        yield made
    finally:
        runner.go.set()
        stop()
        thread.join()


@pytest.fixture(scope="module")
def studio(tmp_path_factory) -> Iterator[Studio]:
    """A running studio of this machine, for the tests of one file."""
    with serving(tmp_path_factory.mktemp("studio"), Limits(queue=5, upload_mib=1)) as made:
        yield made


def png(image: np.ndarray) -> bytes:
    """An image file."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="session")
def street(tmp_path_factory) -> bytes:
    """A video whose texture moves a pixel to the right per frame."""
    rng = np.random.default_rng(0)
    wide = np.repeat(np.repeat(rng.integers(0, 255, (12, 24, 3), np.uint8), 4, 0), 4, 1)
    frames = np.stack([wide[:, FRAMES - t : FRAMES - t + WIDTH] for t in range(FRAMES)])
    path = tmp_path_factory.mktemp("clips") / "street.mp4"
    write_video(path, frames, 12.0)
    return path.read_bytes()


@pytest.fixture(scope="session")
def ball() -> bytes:
    """A red disc on green, 40 x 32 pixels."""
    y, x = np.mgrid[:32, :40]
    image = np.full((32, 40, 3), (20, 200, 40), np.uint8)
    image[(x - 25) ** 2 + (y - 12) ** 2 < 81] = (220, 30, 30)
    return png(image)


def project(background: str, foreground: str, **more: Any) -> dict[str, Any]:
    """A project of one layer."""
    trajectory = {"keyframes": [{"x": 20, "y": 20}, {"x": 44, "y": 30}]}
    layer = {"foreground": foreground, "trajectory": trajectory, "scales": [0.8]}
    return {"version": 1, "background": {"path": background}, "layers": [layer], **more}


def quoted(**query: Any) -> str:
    """A query string."""
    return "?" + urllib.parse.urlencode(query)
