"""The service as a client sees it, over loopback."""

import json
import os
import shutil
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from gencompositor_jax.jobs.inputs import OWN
from gencompositor_jax.jobs.limits import Limits
from gencompositor_jax.jobs.spec import FIELDS
from tests.jobs.conftest import PATIENCE_S, REQUEST
from tests.serve.conftest import serving

TOKEN = "0123456789abcdef"


def test_a_job_from_submission_to_removal(client):
    answer = client.submit(REQUEST | {"seed": 7})
    assert answer.status == 202 and answer.json["state"] == "queued" and answer.json["request"]["seed"] == 7
    path = answer.headers["location"]
    done = client.until(answer.json["id"])
    assert done["state"] == "done" and done["seconds"] >= 0 and done["device"] == "fake:0"
    look = client("GET", path).json
    assert look.pop("request")["seed"] == 7 and look == done
    video = client("GET", f"{path}/result")
    assert video.body == b"frames of seed 7" and video.headers["content-type"] == "video/mp4"
    ranged = client("GET", f"{path}/result", headers={"Range": "bytes=7-8"})
    assert ranged.status == 206 and ranged.body == b"of"
    assert client("GET", f"{path}/report").status == 404  # this runner writes none
    assert [job["id"] for job in client("GET", "/v1/jobs?state=done").json] == [done["id"]]
    assert client("DELETE", path).status == 204
    assert client("GET", path).status == client("GET", f"{path}/result").status == 404
    assert client("GET", "/v1/jobs").json == []


def test_files_are_sent_with_the_job(client, root):
    files = {
        "street.png": (root / "street" / "0.png").read_bytes(),
        "cat (1).png": (root / "bird.png").read_bytes(),
    }
    fields = REQUEST | {"background": "upload:street.png", "foreground": "upload:cat (1).png"}
    answer = client.send(fields, files)
    assert answer.status == 202, answer.body
    assert client.until(answer.json["id"])["state"] == "done"
    assert not list(client.service.incoming.iterdir())
    missing = client.send(fields, {"street.png": files["street.png"]})
    assert missing.status == 422 and "'upload:cat (1).png': no such file" in missing.json["detail"]


def test_events_follow_every_step(client):
    id = client.submit(REQUEST | {"seed": 99, "steps": 5}).json["id"]
    assert client.runner.reached.wait(PATIENCE_S)
    stream = client.events(id)
    first = next(stream)
    assert first[0] == "running" and first[1]["progress"] == {"done": 1, "total": 5}
    client.runner.go.set()
    rest = [(name, job["progress"] and job["progress"]["done"]) for name, job in stream]
    assert rest == [*(("running", step) for step in (2, 3, 4, 5)), ("done", None)]
    assert [name for name, _ in client.events(id)] == ["done"]  # afterwards


def test_cancelling(client):
    id = client.submit(REQUEST | {"seed": 99}).json["id"]
    waiting = client.submit(REQUEST).json["id"]
    assert client.runner.reached.wait(PATIENCE_S)
    assert client("GET", f"/v1/jobs/{waiting}").json["before"] == 0
    assert client("DELETE", f"/v1/jobs/{id}").status == client("DELETE", f"/v1/jobs/{waiting}").status == 409
    assert client("GET", f"/v1/jobs/{id}/result").status == 409
    assert client("POST", f"/v1/jobs/{waiting}/cancel").json["state"] == "cancelled"
    assert client("POST", f"/v1/jobs/{id}/cancel").json["state"] == "running"
    client.runner.go.set()
    assert client.until(id)["state"] == "cancelled"
    assert client("POST", f"/v1/jobs/{id}/cancel").json["state"] == "cancelled"


def test_a_full_queue_and_a_repeated_submission(client):
    client.submit(REQUEST | {"seed": 99})
    assert client.runner.reached.wait(PATIENCE_S)
    key = {"Idempotency-Key": "mine"}
    first = client.submit(REQUEST, key)
    for _ in range(4):
        assert client.submit(REQUEST).status == 202
    full = client.submit(REQUEST)
    assert full.status == 429 and int(full.headers["retry-after"]) >= 1 and "5 jobs" in full.json["detail"]
    assert client.submit(REQUEST, key).json["id"] == first.json["id"]
    assert client.submit(REQUEST | {"seed": 1}, key).status == 409
    assert client.submit(REQUEST, {"Idempotency-Key": "x" * 201}).status == 422


@pytest.mark.slow
def test_a_thousand_jobs_wait(tmp_path, root):
    with serving(tmp_path / "service", root, Limits(queue=1000)) as client:
        client.submit(REQUEST | {"seed": 99})
        assert client.runner.reached.wait(PATIENCE_S)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda seed: client.submit(REQUEST | {"seed": seed}), range(100, 1110)))
        statuses = Counter(answer.status for answer in answers)
        assert statuses == {202: 1000, 429: 10}
        assert client("GET", "/health").json["queued"] == 1000
        last = max((answer.json for answer in answers if answer.status == 202), key=lambda job: job["before"])
        client.runner.go.set()
        assert client.until(last["id"])["state"] == "done"
        assert len({seed for _, seed in client.runner.runs}) == len(client.runner.runs) == 1001


def test_failures_name_the_file_and_not_the_service_s_folders(client, root):
    id = client.submit(REQUEST | {"seed": 13}).json["id"]
    assert client.until(id)["error"] == "street: too dark"
    for change in (
        {"background": "../secret.png"},
        {"foreground": "/etc/passwd"},
        {"frames": 6},
        {"steps": 0},
    ):
        refused = client.submit(REQUEST | change)
        assert refused.status == 422 and str(root) not in refused.json["detail"], refused.json
    assert len(client("GET", "/v1/jobs").json) == 1


def test_a_full_disk_is_one_clear_answer(client, root, monkeypatch):
    files = {"cat.png": (root / "bird.png").read_bytes()}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
    for answer in (client.submit(REQUEST), client.send(REQUEST | {"foreground": "upload:cat.png"}, files)):
        assert answer.status == 507 and "disk is full" in answer.json["detail"]
    assert not list(client.service.incoming.iterdir()) and client("GET", "/v1/jobs").json == []


def test_a_token_is_asked_for_before_anything_is_read(tmp_path, root):
    with serving(tmp_path / "service", root, Limits(), TOKEN) as client:
        assert client.submit(REQUEST).status == 202
        client.headers = {}
        for headers in (
            {},
            {"Authorization": "Bearer 0123456789abcdeX"},
            {"Authorization": f"Basic {TOKEN}"},
        ):
            for method, path in (
                ("POST", "/v1/jobs"),
                ("GET", "/v1/jobs"),
                ("GET", "/metrics"),
                ("GET", "/v1/jobs/x"),
            ):
                refused = client(method, path, headers=headers)
                assert refused.status == 401 and refused.headers["www-authenticate"] == "Bearer"
        assert client("GET", "/health").status == client("GET", "/docs").status == 200
        # Another machine's name is fine with a token.
        good = {
            "Authorization": f"Bearer {TOKEN}",
            "Host": "studio.example",
            "Origin": "https://studio.example",
        }
        assert client("GET", "/v1/jobs", headers=good).status == 200


def test_pages_of_other_sites_reach_nothing_without_a_token(client):
    for headers in (
        {"Host": "evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Host": "["},
    ):
        assert client("GET", "/v1/jobs", headers=headers).status == 403
    for host in ("localhost:8000", "127.0.0.1", "[::1]:80"):
        assert client("GET", "/v1/jobs", headers={"Host": host, "Origin": f"http://{host}"}).status == 200


def test_health_and_metrics(client):
    assert client("GET", "/health").json["status"] == "ok"
    client.until(client.submit(REQUEST).json["id"])
    client("GET", "/nowhere")
    text = client("GET", "/metrics").body.decode()
    assert 'gencompositor_jobs{state="done"} 1.0' in text
    assert 'gencompositor_jobs_finished_total{state="done"} 1.0' in text
    assert 'gencompositor_http_requests_total{method="POST",route="/v1/jobs",status="202"} 1.0' in text
    assert 'route="other",status="404"} 1.0' in text
    assert "gencompositor_job_seconds_count 1.0" in text and "process_resident_memory_bytes" in text
    client.service.broken = True
    assert client("GET", "/health").status == 503


def test_the_openapi_page_works_offline_and_describes_every_field(client):
    page = client("GET", "/docs").body.decode()
    assert "https://" not in page and "http://" not in page and '"//' not in page
    for line in page.splitlines():
        for quote in ('src="', 'href="'):
            if quote in line:
                path = line.split(quote)[1].split('"')[0]
                assert path.startswith("/docs/static/") and client("GET", path).status == 200
    described = client("GET", "/openapi.json").json
    content = described["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]
    assert content["application/json"]["schema"]["properties"].keys() == set(FIELDS) - set(OWN)
    for example in content["application/json"]["examples"].values():
        assert example["value"].keys() <= set(FIELDS)
    assert json.loads(content["multipart/form-data"]["example"]["job"]).keys() <= set(FIELDS)


def test_the_end_of_the_process_ends_the_streams(tmp_path, root):
    with serving(tmp_path / "service", root, Limits()) as client:
        id = client.submit(REQUEST | {"seed": 99}).json["id"]
        assert client.runner.reached.wait(PATIENCE_S)
        with socket.create_connection(client.address, timeout=PATIENCE_S) as connection:
            connection.sendall(f"GET /v1/jobs/{id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            heard = b""
            while b'"total":4' not in heard:
                heard += connection.recv(4096)
            client.stop()
            while more := connection.recv(4096):
                heard += more
        assert heard.endswith(b"\r\n0\r\n\r\n")  # the last chunk: ended, not broken off
    assert not os.path.exists(tmp_path / "service" / "incoming")
