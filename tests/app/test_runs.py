"""Runs and project files: what was drawn goes out and comes back."""

import json

import pytest

from gencompositor_jax.controls.scene import read_scene, write_scene
from gencompositor_jax.jobs.models import ESTIMATE
from tests.app.conftest import project
from tests.jobs.conftest import PATIENCE_S


@pytest.fixture(scope="module")
def clips(studio, street, ball):
    return [
        studio.upload((name, data)).json["path"] for name, data in (("street.mp4", street), ("b.png", ball))
    ]


def test_a_run_can_be_watched_cancelled_and_restored(studio, clips):
    studio.runner.go.clear()
    drawn = project(*clips, seed=99, steps=5)
    job = studio.post("/v1/jobs", {"project": drawn, "layer": True}).json
    assert studio.runner.reached.wait(PATIENCE_S)
    path = f"/v1/jobs/{job['id']}"
    assert studio("GET", f"{path}/estimate").status == 404
    folder = studio.service.folder_of(job["id"])
    (folder / ESTIMATE).write_bytes(b"RIFF")
    estimate = studio("GET", f"{path}/estimate?step=1")
    assert estimate.body == b"RIFF" and estimate.headers["cache-control"] == "no-store"
    assert [each["id"] for each in studio("GET", "/v1/jobs?state=running").json] == [job["id"]]
    assert studio("POST", f"{path}/cancel").status == 202
    studio.runner.go.set()
    assert studio.until(job["id"])["state"] == "cancelled"
    assert studio("GET", path).json["request"] == {"project": drawn, "layer": True}
    assert studio("GET", f"{path}/estimate").status == 404


def test_the_input_of_a_run_and_its_project(studio, clips):
    drawn = project(*clips, frames=3, steps=1)
    job = studio.post("/v1/jobs", {"project": drawn}).json
    assert studio.until(job["id"])["state"] == "done"
    assert studio("GET", f"/v1/jobs/{job['id']}/input").body[4:8] == b"ftyp"
    folder = studio.service.folder_of(job["id"])
    (folder / "p.json").write_text(json.dumps(drawn))
    scene = read_scene(folder / "p.json")
    root = studio.folder / "clips"
    layers = [{**drawn["layers"][0], "foreground": str(root / clips[1])}]
    (folder / "p.json").write_text(
        json.dumps(drawn | {"layers": layers, "background": {"path": str(root / clips[0])}})
    )
    scene = read_scene(folder / "p.json")
    write_scene(folder / "result.scene.json", scene)
    found = studio("GET", f"/v1/jobs/{job['id']}/project").json
    assert found["background"]["path"] == clips[0] and found["layers"][0]["foreground"] == clips[1]
    fields = {"background": clips[0], "foreground": clips[1], "trajectory": "9,9"}
    plain = studio.post("/v1/jobs", fields).json
    assert studio("GET", f"/v1/jobs/{plain['id']}/input").status == 404


def test_project_files_find_their_clips_by_name(studio, clips):
    mine = project("/home/me/shots/street.mp4", "C:\\shots\\b.png", checkpoint="runs/mine")
    opened = studio.post("/app/project/open", mine).json
    assert opened["missing"] == [] and opened["notes"] == [
        "checkpoint: runs/mine; the studio runs its own model"
    ]
    assert opened["project"]["background"]["path"] == clips[0]
    assert opened["project"]["layers"][0]["foreground"] == clips[1]
    assert opened["project"]["checkpoint"] is None and opened["project"]["seed"] == 42
    layer = project("x", "y")["layers"][0] | {"foreground": "gull.mov", "mask": "a/gull mask.png"}
    opened = studio.post("/app/project/open", mine | {"layers": [layer]}).json
    assert opened["missing"] == [
        {"field": "layers[0].foreground", "name": "gull.mov"},
        {"field": "layers[0].mask", "name": "gull mask.png"},
    ]
    for body in ({}, [], {"version": 9}, mine | {"layers": 3}):
        assert studio.post("/app/project/open", body).status in (400, 422)
    saved = studio.post("/app/project/save", {"project": opened["project"]})
    assert "attachment" in saved.headers["content-disposition"] and saved.json == opened["project"]
    assert studio.post("/app/project/check", {"project": mine}).json["project"]["seed"] == 42
    assert studio.post("/app/project/check", {"project": {"version": 1}}).status == 422
