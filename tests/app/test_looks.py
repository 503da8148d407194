"""Elements, paths, tracked points and previews: what the program would do, shown before it does it."""

import asyncio
from types import SimpleNamespace

import anyio
import numpy as np
import pytest
from starlette.requests import ClientDisconnect

from gencompositor_jax.app.answering import in_own_thread
from gencompositor_jax.controls.element.element import Element
from tests.app.conftest import FRAMES, HEIGHT, WIDTH, png, project


@pytest.fixture(scope="module")
def clips(studio, street, ball):
    """Paths of a background and an element."""
    return [
        studio.upload((name, data)).json["path"] for name, data in (("street.mp4", street), ("b.png", ball))
    ]


def test_an_element_is_cut_out_and_says_how(studio, clips):
    found = studio.post("/app/elements", {"foreground": clips[1], "scales": "not looked at"}).json
    assert (found["key_name"], found["frames"], found["clip"]) == ("green", 1, {"width": 40, "height": 32})
    assert abs(found["left"] - 17) <= 2 and abs(found["top"] - 4) <= 2 and abs(found["width"] - 17) <= 4
    canvas = studio.picture(f"/app/elements/{found['id']}/frames/0")
    assert canvas.shape == (found["height"], found["width"], 4)
    whole = studio.picture(f"/app/elements/{found['id']}/frames/0?whole=1")
    assert whole.shape == (32, 40, 4) and whole[12, 25, 3] == 255 and not whole[:, :10, 3].any()
    np.testing.assert_array_equal(
        whole[found["top"] : found["top"] + found["height"], found["left"] : found["left"] + found["width"]],
        canvas,
    )
    assert studio("GET", f"/app/elements/{found['id']}/frames/1").json["detail"].startswith("frame: 1")
    assert studio("GET", "/app/elements/0000/frames/0").status == 404
    blue = studio.post("/app/elements", {"foreground": clips[1], "key": "blue"})
    assert blue.status == 422 and "b.png: key" in blue.json["detail"]
    assert studio.post("/app/elements", {"foreground": clips[1], "key": "pink"}).json["field"] == "key"
    unknown = studio.post("/app/elements", {"foreground": clips[1], "kee": 1})
    assert unknown.status == 422 and "unknown field 'kee'" in unknown.json["detail"]


def test_an_element_by_a_mask(studio, clips):
    mask = np.zeros((32, 40), np.uint8)
    mask[5:9, 6:12] = 255
    painted = studio.upload(("painted.png", png(mask))).json["path"]
    found = studio.post("/app/elements", {"foreground": clips[1], "mask": painted}).json
    assert found["key_name"] == "mask" and found["left"] in (4, 5, 6)


def test_a_path_is_the_program_s(studio):
    keys = [{"x": 10, "y": 20, "time": 0}, {"x": 50, "y": 20, "time": 1, "scale": 2}]
    asked = {"trajectory": {"keyframes": keys}, "scales": [1, 0.5], "frames": 5, "width": 64, "height": 48}
    found = studio.post("/app/path", asked).json
    assert found["xy"][0] == [10, 20] and found["xy"][-1] == [50, 20] and len(found["xy"]) == 5
    assert found["scale"][-1] == 1
    held = studio.post("/app/path", asked | {"in_frame": 1, "out_frame": 3, "easing": "ease-in"}).json
    assert held["xy"][0] == held["xy"][1] == [10, 20] and held["xy"][3] == held["xy"][4] == [50, 20]
    assert held["xy"][2][0] < 30
    beyond = studio.post("/app/path", asked | {"out_frame": 5})
    assert beyond.status == 422 and beyond.json["field"] == "out_frame"
    bad = studio.post("/app/path", asked | {"trajectory": {"keyframes": [{"x": 1}]}}).json
    assert bad["field"] == "trajectory.keyframes[0]" and "'y' is missing" in bad["detail"]
    assert studio.post("/app/path", asked | {"frames": 0}).json["field"] == "frames"
    track = {"keyframes": [{"x": 1, "y": 1}], "track": True}
    assert "ask for a preview" in studio.post("/app/path", asked | {"trajectory": track}).json["detail"]


def test_a_point_is_tracked_both_ways(studio, clips):
    asked = {"background": clips[0], "x": 30, "y": 24, "frame": 2}
    found = studio.post("/app/track", asked).json
    assert found["lost"] is None and (found["first"], found["last"]) == (0, FRAMES - 1)
    np.testing.assert_allclose(found["xy"], [[28 + t, 24] for t in range(FRAMES)], atol=0.5)
    ranged = studio.post("/app/track", asked | {"frame": 0, "range": [2, 4]}).json
    np.testing.assert_allclose(ranged["xy"], found["xy"][2:5], atol=0.5)
    assert studio.post("/app/track", asked | {"frame": 9}).json["detail"].startswith("frame: 9")
    assert "outside the background" in studio.post("/app/track", asked | {"x": 999}).json["detail"]
    assert studio.post("/app/track", asked | {"background": "no.mp4"}).status == 422


def test_a_preview_shows_the_paste_where_the_path_is(studio, clips):
    found = studio.post("/app/previews", {"project": project(*clips, frames=4)}).json
    assert (found["frames"], found["width"], found["height"]) == (4, WIDTH, HEIGHT)
    (layer,) = found["layers"]
    assert layer["xy"][0] == [20, 20] and layer["xy"][-1] == [44, 30] and layer["element"]["width"] < 24
    path = f"/app/previews/{found['id']}/frames"
    for t in (0, 3):
        x, y = map(round, layer["xy"][t])
        red, green, _ = studio.picture(f"{path}/{t}?show=paste&format=png")[y, x]
        assert red > 180 and green < 80
        matte = studio.picture(f"{path}/{t}?show=matte&format=png")
        assert matte[y, x].min() == 255 and matte[:3].max() == 0
    plain = studio.picture(f"{path}/0?show=input&format=png")
    assert plain.shape == (HEIGHT, WIDTH, 3) and plain[20, 20, 0] < 255
    model = studio.picture(f"{path}/0?show=model&format=png")
    assert model.shape == (found["model"]["height"], found["model"]["width"], 3) and model[0, 0].min() == 255
    assert (studio.picture(f"{path}/0?show=paste,mask,path&format=png") != plain).any()
    again = studio.post("/app/previews", {"project": project(*clips, frames=4)}).json
    assert again["id"] == found["id"]
    video = studio("GET", f"/app/previews/{found['id']}/video.mp4?show=paste")
    assert video.status == 200 and video.body[4:8] == b"ftyp"
    assert studio("GET", f"{path}/4").status == 422
    for show in ("paint", "matte,paste", ""):
        assert studio("GET", f"{path}/0?show={show}").json["detail"].startswith("show: ")


def test_a_preview_reads_clips_and_cuts_elements_once(studio, clips, monkeypatch):
    from gencompositor_jax.app import store

    assert studio.post("/app/previews", {"project": project(*clips, frames=5)}).status == 200
    monkeypatch.setattr(store, "load_element", lambda *_, **__: pytest.fail("cut out again"))
    moved = project(*clips, frames=5)
    moved["layers"][0]["trajectory"]["keyframes"][0]["x"] = 30
    found = studio.post("/app/previews", {"project": moved}).json
    assert found["layers"][0]["xy"][0] == [30, 20]


@pytest.mark.parametrize(
    ("change", "message", "field"),
    [
        ({"seed": -1}, "project: seed: -1 must be at least 0", "seed"),
        ({"background": {"path": "../clips.json"}}, "background.path: '../clips.json': no such", None),
        ({"background": {"path": "/etc/passwd"}}, "background.path: '/etc/passwd': no such", None),
        (
            {"layers": [{"foreground": "no.mov", "trajectory": [{"x": 1, "y": 1}]}]},
            "layers[0].foreground: ",
            None,
        ),
        ({"frames": 99}, "background.path: street.mp4: has 6 frames", "background.path"),
        ({"frames": 10**5}, "frames: 100000, the service's limit is 1000", "frames"),
        ({"layers": []}, "project: layers: the list is empty", "layers"),
        ({"color": 1}, "project: unknown field 'color'", None),
    ],
)
def test_a_project_that_can_not_be_placed_names_the_field(studio, clips, change, message, field):
    answer = studio.post("/app/previews", {"project": project(*clips) | change})
    assert answer.status == 422 and message in answer.json["detail"], answer.json
    assert field is None or answer.json["field"] == field
    assert str(studio.folder) not in answer.json["detail"]


def test_an_element_outside_and_a_removal(studio, clips):
    outside = project(*clips)
    outside["layers"][0]["trajectory"]["keyframes"] = [{"x": 900, "y": 900}]
    answer = studio.post("/app/previews", {"project": outside})
    assert answer.status == 422 and "outside the 64x48 background" in answer.json["detail"]
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10:20, 10:20] = 255
    painted = studio.upload(("brush.png", png(mask))).json["path"]
    found = studio.post("/app/previews", {"project": project(*clips, layers=[], remove=painted)}).json
    assert found["layers"] == []
    matte = studio.picture(f"/app/previews/{found['id']}/frames/5?show=matte&format=png")
    assert matte[15, 15].min() == 255 and matte[-3:, -3:].max() == 0


def test_work_that_nobody_waits_for_is_not_begun():
    done = []

    async def ask(gone):
        async def is_disconnected():
            return gone

        state = SimpleNamespace(works=anyio.CapacityLimiter(1))
        request = SimpleNamespace(app=SimpleNamespace(state=state), is_disconnected=is_disconnected)
        await in_own_thread(request, done.append, gone)

    asyncio.run(ask(False))
    with pytest.raises(ClientDisconnect):
        asyncio.run(ask(True))
    assert done == [False]


def test_the_same_frames_are_cut_out_once_whichever_rate_leads_to_them(studio, street, monkeypatch):
    from gencompositor_jax.app import store

    cut = np.zeros((6, 2, 2, 4), np.uint8)
    calls = []
    monkeypatch.setattr(store, "load_element", lambda *_, **how: calls.append(how) or Element(cut, "street"))
    clip = studio.upload(("once.mp4", street)).json["path"]
    for more in ({}, {"fps": 12}, {"end": 9.5}, {"fps": 6}):
        assert studio.post("/app/elements", {"foreground": clip} | more).status == 200
    assert [how["fps"] for how in calls] == [None, 6]
