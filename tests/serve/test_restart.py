"""The command itself: killed while it samples, started again, ended."""

import http.client
import json
import signal
import sys

import numpy as np
import pytest

from gencompositor_jax.controls.media.video_out import write_image_folder
from tests import processes

pytest.importorskip("fastapi")


@pytest.mark.slow
@pytest.mark.multiprocess
def test_a_killed_service_finishes_what_it_accepted(small_checkpoint, tmp_path):
    root, port = tmp_path / "root", processes.free_port()
    root.mkdir()
    write_image_folder(root / "bird", np.full((5, 24, 24, 4), 200, np.uint8))
    write_image_folder(root / "street", np.full((5, 64, 96, 3), 90, np.uint8))
    words = [
        "--folder",
        tmp_path / "service",
        "--root",
        root,
        "--port",
        port,
        "--checkpoint",
        small_checkpoint,
    ]
    command = [sys.executable, "-m", "gencompositor_jax", "serve", *map(str, words)]

    def request(method, path, fields=None):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=processes.PATIENCE_S)
        body = None if fields is None else json.dumps(fields)
        connection.request(method, path, body, {"Content-Type": "application/json"})
        return connection.getresponse()

    def events(id):
        for line in request("GET", f"/v1/jobs/{id}/events"):
            if line.startswith(b"data: "):
                yield json.loads(line[6:])

    scene = {"background": "street", "foreground": "bird", "trajectory": "20,30 70,30"}
    with processes.start(command, tmp_path / "first") as group:
        group.wait_for("startup complete")
        ids = [json.load(request("POST", "/v1/jobs", {**scene, "steps": steps}))["id"] for steps in (1000, 4)]
        next(job for job in events(ids[0]) if job["progress"] and job["progress"]["done"])
        group.kill(0)
        group.wait()
    with processes.start(command, tmp_path / "second") as group:
        group.wait_for("startup complete")
        assert "2 jobs wait" in group.log()
        assert [list(events(id))[-1]["state"] for id in ids] == ["done", "done"]
        assert request("GET", f"/v1/jobs/{ids[0]}/result").status == 200
        group.kill(0, signal.SIGTERM)
        assert group.wait() == [0]
