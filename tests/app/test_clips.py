"""Clips: what is uploaded, under which name, and what of it is shown."""

import numpy as np
import pytest

from gencompositor_jax.app.names import of_sequence, safe_name, unused
from tests.app.conftest import FRAMES, HEIGHT, WIDTH, png, project
from tests.jobs.conftest import PATIENCE_S


@pytest.fixture(scope="module")
def clip(studio, street):
    answer = studio.upload(("C:\\fakepath\\my street!.mp4", street))
    assert answer.status == 201, answer.json
    return answer.json


def test_a_video_has_its_facts_and_a_safe_name(studio, clip):
    assert clip["path"] == clip["name"] == "my street_.mp4"
    found = {name: clip[name] for name in ("kind", "frames", "fps", "width", "height", "has_alpha")}
    assert found == {
        "kind": "video",
        "frames": FRAMES,
        "fps": 12.0,
        "width": WIDTH,
        "height": HEIGHT,
        "has_alpha": False,
    }
    assert studio("GET", f"/app/clips/{clip['id']}").json == clip
    assert clip in studio("GET", "/app/clips").json
    trimmed = studio("GET", f"/app/clips/{clip['id']}?start=0.25&fps=4").json
    assert (trimmed["frames"], trimmed["fps"]) == (1, 4.0)
    assert studio("GET", f"/app/clips/{clip['id']}?range=2-4").json["frames"] == 3


def test_frames_are_scaled_and_cacheable(studio, clip):
    path = f"/app/clips/{clip['id']}/frames"
    whole = studio.picture(f"{path}/0?format=png")
    assert whole.shape == (HEIGHT, WIDTH, 3)
    assert studio.picture(f"{path}/0?width=32").shape == (24, 32, 3)
    assert studio.picture(f"{path}/0?width=32&format=webp").shape == (24, 32, 3)
    third = studio.picture(f"{path}/3?format=png").astype(int)
    assert np.abs(third - studio.picture(f"{path}/0?format=png&start=0.25")).max() == 0
    assert np.abs(third - studio.picture(f"{path}/1?format=png&range=2-4")).max() == 0
    assert np.abs(third[:, 10:] - whole[:, 7:-3].astype(int)).mean() < 8
    answer = studio("GET", f"{path}/0")
    assert "immutable" in answer.headers["cache-control"] and answer.headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (f"frames/{FRAMES}", "frame: 6; the clip has the frames 0 to 5"),
        ("frames/-1", "frame: -1"),
        ("frames/x", "path.t"),
        ("frames/0?width=5", "query.width"),
        ("frames/0?width=1e9", "query.width"),
        ("frames/0?format=gif", "query.format"),
        ("frames/0?start=nan", "query.start"),
        ("frames/0?start=9", "my street_.mp4: lasts 0.50 s"),
        ("frames/0?start=0.3&end=0.2", "end 0.2"),
        ("frames/0?range=2", "range '2': pass the first and the last frame"),
        ("frames/0?range=2-9", "range: 2-9, my street_.mp4 has the frames 0 to 5"),
        ("frames/3?range=2-4", "frame: 3; the clip has the frames 0 to 2"),
    ],
)
def test_what_can_not_be_shown_is_named(studio, clip, query, message):
    answer = studio("GET", f"/app/clips/{clip['id']}/{query}")
    assert answer.status == 422 and answer.json["detail"].startswith(message), answer.json


def test_a_proxy_plays_in_ranges(studio, clip):
    path = f"/app/clips/{clip['id']}/proxy.mp4?width=32"
    whole = studio("GET", path)
    assert whole.status == 200 and whole.headers["content-type"] == "video/mp4"
    ranged = studio("GET", path, headers={"Range": "bytes=4-7"})
    assert ranged.status == 206 and ranged.body == b"ftyp" == whole.body[4:8]


def test_a_picture_with_alpha_and_a_sequence(studio):
    image = np.zeros((10, 12, 4), np.uint8)
    image[2:5, 3:9] = (200, 100, 50, 255)
    still = studio.upload(("bird.png", png(image))).json
    assert (still["kind"], still["frames"], still["has_alpha"]) == ("image", 1, True)
    again = studio.upload(("Bird.png", png(image))).json
    assert (again["path"], again["name"]) == ("Bird-2.png", "Bird.png")
    shown = studio.picture(f"/app/clips/{still['id']}/frames/0?format=png")
    np.testing.assert_array_equal(shown, image)
    assert studio.picture(f"/app/clips/{still['id']}/frames/0").shape == (10, 12, 3)
    mask = np.zeros((10, 12), np.uint8)
    several = studio.upload(*((f"mask_{i:03}.png", png(mask + 20 * i)) for i in (2, 1, 3))).json
    assert (several["kind"], several["frames"], several["path"]) == ("images", 3, "mask")
    assert studio.picture(f"/app/clips/{several['id']}/frames/2?format=png").max() == 60


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([("a.mp4", b"no video")], "a.mp4: "),
        ([("a.png", b"\x89PNG\r\n\x1a\n" + b"x" * 50)], "a.png: "),
        ([("a.m3u8", b"#EXTM3U\nhttp://example.com/a.ts")], "a.m3u8: is a playlist"),
        ([("a.mp4", b"")], "upload 'a.mp4': empty"),
        ([("1.png", b"x"), ("2.mp4", b"y")], "2.mp4: several files are a sequence"),
        ([("a/1.png", b"x"), ("b/1.png", b"y")], "upload '1.png': sent twice"),
    ],
)
def test_broken_uploads_leave_nothing(studio, files, message):
    before = studio("GET", "/app/clips").json
    answer = studio.upload(*files)
    assert answer.status == 422 and answer.json["detail"].startswith(message), answer.json
    assert str(studio.folder) not in answer.json["detail"]
    assert studio("GET", "/app/clips").json == before
    assert sorted(path.name for path in (studio.folder / "clips").iterdir()) == sorted(
        clip["path"] for clip in before
    )
    assert not list(studio.service.incoming.iterdir())


def test_uploads_have_limits(studio, clip):
    assert studio.upload(("big.mp4", b"x" * (2**20 + 1))).status == 413
    wide = studio.upload(("wide.png", png(np.zeros((3000, 3000), np.uint8))))
    assert wide.status == 422 and "limit is 8.9 megapixels" in wide.json["detail"]
    assert studio("POST", "/app/clips", b"{}", {"Content-Type": "application/json"}).status == 415
    assert (
        studio("POST", "/app/clips", b"", {"Content-Type": "multipart/form-data; boundary=b"}).status == 400
    )


def test_a_clip_stays_while_a_job_needs_it(studio, clip, ball):
    element = studio.upload(("ball.png", ball)).json
    request = {"project": project(clip["path"], element["path"], seed=99, steps=4)}
    job = studio.post("/v1/jobs", request).json
    assert studio.runner.reached.wait(PATIENCE_S)
    refused = studio("DELETE", f"/app/clips/{element['id']}")
    assert refused.status == 409 and "cancel the job first" in refused.json["detail"]
    studio.runner.go.set()
    assert studio.until(job["id"])["state"] == "done"
    assert studio("DELETE", f"/app/clips/{element['id']}").status == 204
    assert studio("GET", f"/app/clips/{element['id']}").status == 404
    assert not (studio.folder / "clips" / element["path"]).exists()


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("bird.mov", "bird.mov"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\a b.PNG", "a b.PNG"),
        ("..", "clip"),
        ("", "clip"),
        (".hidden.png", "hidden.png"),
        ("a:b|c?.mp4", "a_b_c_.mp4"),
        ("nul\0byte.mp4", "nul_byte.mp4"),
        ("x" * 300 + ".mp4", "x" * 60 + ".mp4"),
        ("鳥" * 300 + ".mp4", "鳥" * 50 + ".mp4"),
        ("-rf.mp4", "rf.mp4"),
        ("x" * 80 + "_0012.png", "x" * 55 + "_0012.png"),
        ("鳥" * 80 + ".0012.png", "鳥" * 48 + ".0012.png"),
        ("9" * 80 + ".png", "9" * 60 + ".png"),
        ("<img src=x onerror=1>.png", "img src_x onerror_1_.png"),
    ],
)
def test_names_are_made_safe(name, safe):
    assert safe_name(name).lstrip("_") == safe


def test_names_of_sequences_and_of_second_clips():
    assert of_sequence(["street_0001.png", "street_0002.png"]) == "street"
    assert of_sequence(["0.png", "1.png"]) == "images"
    assert unused("a.mp4", {"A.mp4", "a-2.mp4"}) == "a-3.mp4" and unused("a", {"a"}) == "a-2"
