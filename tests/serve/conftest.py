"""The service over loopback, with a runner without a network."""

import contextlib
import dataclasses
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gencompositor_jax.jobs.limits import Limits
from gencompositor_jax.jobs.service import Service
from tests.jobs.conftest import PATIENCE_S, FakeRunner, root

__all__ = ["root"]  # a fixture

pytest.importorskip("fastapi")


@dataclasses.dataclass
class Answer:
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Its body."""
        return json.loads(self.body)


@dataclasses.dataclass
class Client:
    """Speaks to the service; each request has its own connection."""

    address: tuple[str, int]
    service: Service
    runner: FakeRunner
    stop: Callable[[], None]  # ends the server, as a signal does
    headers: dict[str, str] = dataclasses.field(default_factory=dict)

    def __call__(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request(method, path, body, self.headers | (headers or {}))
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    def submit(self, fields: Any, headers: dict[str, str] | None = None) -> Answer:
        """Sends fields as JSON."""
        return self(
            "POST",
            "/v1/jobs",
            json.dumps(fields).encode(),
            {"Content-Type": "application/json", **(headers or {})},
        )

    def send(self, fields: Any, files: dict[str, bytes], headers: dict[str, str] | None = None) -> Answer:
        """Sends fields and files as multipart."""
        body = part("job", json.dumps(fields).encode())
        for name, data in files.items():
            body += part("file", data, name)
        return self.form(body + b"--limit--\r\n", headers)

    def form(self, body: bytes, headers: dict[str, str] | None = None) -> Answer:
        """Sends a multipart body."""
        kind = {"Content-Type": "multipart/form-data; boundary=limit"}
        return self("POST", "/v1/jobs", body, kind | (headers or {}))

    def raw(self, data: bytes) -> bytes:
        """Sends bytes, and returns what comes until the service closes the connection."""
        with socket.create_connection(self.address, timeout=PATIENCE_S) as connection:
            connection.sendall(data)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def events(self, id: str) -> Iterator[tuple[str, Any]]:
        """(event, data) of a job's stream, until it ends."""
        connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request("GET", f"/v1/jobs/{id}/events", headers=self.headers)
            response = connection.getresponse()
            assert response.status == 200 and response.headers["content-type"].startswith("text/event-stream")
            event = ""
            for line in response:
                name, _, value = line.decode().strip().partition(": ")
                if name == "event":
                    event = value
                elif name == "data":
                    yield event, json.loads(value)

    def until(self, id: str) -> Any:
        """A job once it is finished."""
        return list(self.events(id))[-1][1]


def part(name: str, data: bytes, filename: str | None = None) -> bytes:
    """One part of a multipart body with the boundary `limit`."""
    file = "" if filename is None else f'; filename="{filename}"'
    head = f'--limit\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode() + data + b"\r\n"


@contextlib.contextmanager
def serving(folder: Path, root: Path, limits: Limits, token: str | None = None) -> Iterator[Client]:
    """A running service."""
    from gencompositor_jax.serve.app import create_app
    from gencompositor_jax.serve.server import listen, server

    runner = FakeRunner()
    service = Service(folder, root, limits, runner)
    listening = listen("127.0.0.1", 0)
    http_server = server(create_app(service, token), service)
    thread = threading.Thread(target=http_server.run, kwargs={"sockets": [listening]})
    thread.start()
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def stop() -> None:
        http_server.should_exit = True

    try:
        yield Client(listening.getsockname()[:2], service, runner, stop, headers)
    finally:
        runner.go.set()
        stop()
        thread.join()


@pytest.fixture
def client(tmp_path: Path, root: Path) -> Iterator[Client]:
    """A running service of this machine."""
    with serving(tmp_path / "service", root, Limits(queue=5, upload_mib=1)) as client:
        yield client
