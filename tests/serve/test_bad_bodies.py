"""Bodies that are malformed, too large, too slow, or have no space: one clear answer, and nothing is left."""

import json
import socket

import pytest

from gencompositor_jax.jobs.limits import Limits
from gencompositor_jax.serve import receiving, server
from tests.jobs.conftest import PATIENCE_S, REQUEST
from tests.serve.conftest import part, serving

JOB = part("job", json.dumps(REQUEST).encode())
END = b"--limit--\r\n"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bodies")
    (folder / "root").mkdir()
    with serving(folder / "service", folder / "root", Limits(upload_mib=1)) as client:
        yield client


@pytest.fixture(autouse=True)
def _nothing_is_left(client):
    yield
    assert not client.service.incoming.exists() or not list(client.service.incoming.iterdir())
    assert client("GET", "/v1/jobs").json == []
    assert client("GET", "/health").status == 200


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b"", "before its last boundary"),
        (b"no multipart at all", "multipart"),
        (JOB, "before its last boundary"),
        (JOB[:-20], "before its last boundary"),
        (END, "multipart"),
        (part("file", b"abc", "a.png") + END, "`job`"),
        (JOB + JOB + END, "only `job`"),
        (part("jobs", b"{}") + END, "only `job`"),
        (b"--limit\r\n\r\n{}\r\n" + END, "multipart"),
        (b"--limit\r\nContent-Disposition: form-data\r\n\r\n{}\r\n" + END, "multipart"),
        (b"--limit\r\nContent-Disposition\r\n\r\n{}\r\n" + END, "multipart"),
        (b"--limit\r\n" + b"X: y\r\n" * 100 + b"\r\n{}\r\n" + END, "multipart"),
        (b"--limit\r\nX: " + b"y" * 10_000 + b"\r\n\r\n{}\r\n" + END, "multipart"),
        (part("job", b"{") + END, "line 1"),
        (part("job", b"[]") + END, "object"),
        (part("job", b"\xff\xfe") + END, "UTF-8"),
        (part("job", b'{"seed": NaN}') + END, "NaN"),
        (part("job", b'{"seed": 1, "seed": 2}') + END, "twice"),
        (part("job", b'{"background": "\\ud800"}') + END, "surrogate"),
        (part("job", b"[" * 100_000) + END, "deeply"),
    ],
)
def test_malformed_bodies(client, body, names):
    answer = client.form(body)
    assert answer.status == 400 and names in answer.json["detail"], answer.json


@pytest.mark.parametrize(
    "name", ["../x.png", "/etc/x.png", "a/b.png", "..", ".x", "a\\\\b", "%2e%2e%2fx", "x" * 300, "鳥" * 90]
)
def test_names_with_folders_are_refused(client, name):
    answer = client.form(JOB + part("file", b"abc", name) + END)
    assert answer.status == 422 and "file name" in answer.json["detail"]


def test_names_may_have_letters_of_any_script(client):
    named = {"background": "upload:vögel.mp4", "foreground": "upload:鳥.mp4", "trajectory": "1,1"}
    fields = json.dumps(named).encode()
    files = [part("file", b"abc", name) for name in ("vögel.mp4", "鳥.mp4")]
    answer = client.form(part("job", fields) + b"".join(files) + END)
    assert answer.status == 422 and answer.json["detail"].startswith("upload:"), answer.json


def test_the_same_name_twice_and_empty_files_are_refused(client):
    assert "twice" in client.form(JOB + 2 * part("file", b"abc", "a.png") + END).json["detail"]
    assert "empty" in client.form(JOB + part("file", b"", "a.png") + END).json["detail"]


def test_other_types_and_methods_are_refused(client):
    assert client("POST", "/v1/jobs", b"{}").status == 415
    assert client("POST", "/v1/jobs", b"{}", {"Content-Type": "text/plain"}).status == 415
    answer = client("POST", "/v1/jobs", b"{}", {"Content-Type": "multipart/form-data"})
    assert answer.status == 400 and "boundary" in answer.json["detail"]
    answer = client("POST", "/v1/jobs", b"{}", {"Content-Type": f"multipart/form-data; boundary={'b' * 300}"})
    assert answer.status == 400
    assert client("PUT", "/v1/jobs", b"{}").status == 405
    for path in (
        "/v1/jobs/../../etc/passwd",
        "/v1/jobs/%2e%2e%2fx/result",
        "/docs/static/../../app.py",
        "/v1/jobs/x",
    ):
        assert client("GET", path).status == 404


def answer_to(client, data):
    """The first line of the answer; the connection stays open."""
    with socket.create_connection(client.address, timeout=PATIENCE_S) as connection:
        connection.sendall(data)
        return connection.recv(4096).splitlines()[0]


def test_too_large_bodies_are_refused_while_they_stream(client):
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\n"
    form = b"multipart/form-data; boundary=limit"
    announced = head % form + b"Content-Length: 99999999999\r\nConnection: close\r\n\r\n"
    assert b" 413 " in client.raw(announced).splitlines()[0]
    head_of_json = head % b"application/json" + b"Transfer-Encoding: chunked\r\n\r\n"
    spaces = b"100001\r\n" + b" " * 0x100001 + b"\r\n0\r\n\r\n"
    assert b" 413 " in answer_to(client, head_of_json + spaces)
    # Not announced: chunks of 64 KiB, of which the service stops reading at 1 MiB of files.
    start = head % form + b"Transfer-Encoding: chunked\r\n\r\n"
    opening = JOB + b'--limit\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
    sent = 0
    with socket.create_connection(client.address, timeout=PATIENCE_S) as connection:
        connection.sendall(start + b"%x\r\n%s\r\n" % (len(opening), opening))
        for _ in range(17):
            connection.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            sent += 65536
        assert b" 413 " in connection.recv(4096).splitlines()[0]
    assert client("POST", "/v1/jobs", b" " * (2**20 + 1), {"Content-Type": "application/json"}).status == 413
    assert client.form(part("job", b" " * (2**20 + 1)) + END).status == 413


def test_a_slow_body_is_refused(client, monkeypatch):
    monkeypatch.setattr(receiving, "GRACE_S", 0.2)
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    assert b" 408 " in client.raw(head + b"Content-Length: 100\r\n\r\n{").splitlines()[0]
    form = head.replace(b"application/json", b"multipart/form-data; boundary=limit")
    started = JOB + part("file", b"abc", "a.mp4")[:-4]
    assert b" 408 " in client.raw(form + b"Content-Length: 1000\r\n\r\n" + started).splitlines()[0]


def test_slow_headers_end_the_connection(client, monkeypatch):
    monkeypatch.setattr(server, "HEADERS_S", 0.2)
    assert client.raw(b"") == b""
    assert client.raw(b"GET /health HTTP/1.1\r\nHost: loc") == b""
    with socket.create_connection(client.address, timeout=PATIENCE_S) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while not answer.endswith(b"}"):
            answer += connection.recv(4096)
        connection.sendall(b"GET /hea")  # of the next request
        assert connection.recv(4096) == b""


def test_a_client_that_goes_away_leaves_nothing(client):
    head = (
        b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=limit\r\n"
    )
    with socket.create_connection(client.address) as connection:
        connection.sendall(head + b"Content-Length: 100000\r\n\r\n" + JOB + part("file", b"abc", "a.mp4"))
    while client.service.incoming.exists() and list(client.service.incoming.iterdir()):
        client("GET", "/health")


def test_what_is_no_http_is_answered_or_closed(client):
    assert client.raw(b"\x16\x03\x01 hello\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert client.raw(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n").startswith(b"HTTP/1.1 400")
