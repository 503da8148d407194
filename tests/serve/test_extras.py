"""The files beside a result, fetched; a project that stands in the request."""

import json

from gencompositor_jax.controls.scene import read_scene, write_scene
from tests.jobs.conftest import REQUEST


def test_the_sheet_the_layer_and_the_project(client, root):
    layers = [{"foreground": "bird.png", "trajectory": {"keyframes": [{"x": 2, "y": 3}]}}]
    project = {"version": 1, "background": {"path": "street"}, "layers": layers, "steps": 2}
    answer = client.submit({"project": project, "layer": True})
    assert answer.status == 202, answer.json
    path = answer.headers["location"]
    assert answer.json["request"] == {"project": project, "layer": True}
    assert client.until(answer.json["id"])["state"] == "done"
    folder = client.service.folder_of(answer.json["id"])
    (folder / "result.png").write_bytes(b"png")
    (folder / "result.layer.mov").write_bytes(b"mov")
    (folder / "scene.json").write_text(json.dumps(project))
    scene = read_scene(folder / "scene.json")
    inside = {"background": str(root / "street"), "layers": scene.layers}
    write_scene(folder / "result.scene.json", type(scene)(**inside, sampling=scene.sampling))
    assert client("GET", f"{path}/sheet").body == b"png" and client("GET", f"{path}/layer").body == b"mov"
    found = client("GET", f"{path}/project").json
    assert found["background"]["path"] == "street" and found["steps"] == 2


def test_without_a_layer_there_is_none(client):
    id = client.submit(REQUEST).json["id"]
    assert client.until(id)["state"] == "done"
    answer = client("GET", f"/v1/jobs/{id}/layer")
    assert answer.status == 404 and "layer: true" in answer.json["detail"]
    assert client("GET", f"/v1/jobs/{id}/sheet").status == 404


def test_an_inline_project_is_checked(client):
    project = {"version": 1, "background": {"path": "street"}, "layers": []}
    answer = client.submit({"project": project})
    assert answer.status == 422 and "project: layers: the list is empty" in answer.json["detail"]
    answer = client.submit(
        {"project": project | {"background": {"path": "../secret.png"}, "remove": "bird.png"}}
    )
    assert answer.status == 422 and "no such file in the service's folder" in answer.json["detail"]
    unpasted = client.submit(REQUEST | {"layer": True, "paste_back": False})
    assert unpasted.status == 422 and "layer: without paste-back" in unpasted.json["detail"]
