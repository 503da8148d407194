import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gencompositor_jax.errors import InputError
from gencompositor_jax.jobs.inputs import Inputs, checked
from gencompositor_jax.jobs.limits import Limits
from gencompositor_jax.jobs.spec import FIELDS
from tests.jobs.conftest import REQUEST


@pytest.fixture
def inputs(root, tmp_path):
    return Inputs(root, tmp_path / "uploads")


def test_paths_are_below_the_root_or_uploads(inputs, root, tmp_path):
    (tmp_path / "uploads").mkdir()
    (tmp_path / "uploads" / "cat.png").write_bytes((root / "bird.png").read_bytes())
    assert (
        inputs("street")
        == inputs(str(root / "street"))
        == inputs("./street/../street")
        == str(root / "street")
    )
    assert inputs("upload:cat.png") == str(tmp_path / "uploads" / "cat.png")
    (root / "inside.png").symlink_to(root / "bird.png")
    assert inputs("inside.png") == str(root / "bird.png")


@pytest.mark.parametrize(
    "path",
    ["../secret.png", "street/../../secret.png", "/etc/passwd", "out.png", "out/secret.png", "loop",
     "missing", "pipe", ".", "..", "", "street/\0", "a" * 5000, "upload:../secret.png", "upload:/etc/passwd",
     "upload:", "upload:missing", "mixed", "dangling", "~/x", "file:///etc/passwd"],
)  # fmt: skip
def test_nothing_else_is_found(inputs, root, tmp_path, path):
    (tmp_path / "uploads").mkdir()
    (root / "out.png").symlink_to(tmp_path / "secret.png")
    (root / "out").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    (root / "mixed").mkdir()
    (root / "mixed" / "0.png").symlink_to(tmp_path / "secret.png")
    (root / "dangling").mkdir()
    (root / "dangling" / "0.png").symlink_to(root / "nothing")
    os.mkfifo(root / "pipe")
    with pytest.raises(InputError, match="no such file"):
        inputs(path)


def test_without_a_root_only_uploads_are_read(tmp_path, root):
    with pytest.raises(InputError, match="uploads only"):
        Inputs(None, tmp_path / "uploads")(str(root / "bird.png"))


def test_a_request_is_the_job_that_compose_would_run(inputs, root):
    job, media = checked(REQUEST, inputs, Limits())
    assert {path: clip.frames for path, clip in media.items()} == {
        str(root / "street"): 3,
        str(root / "bird.png"): 1,
    }
    assert job.scene.background == str(root / "street") and job.out == "result.mp4"


def test_an_uploaded_project_names_the_files_beside_it(inputs, root, tmp_path):
    folder = tmp_path / "uploads"
    folder.mkdir()
    Image.open(root / "bird.png").save(folder / "cat.png")
    layer = {"foreground": "cat.png", "trajectory": [{"x": 1, "y": 2}]}
    project = {"version": 1, "background": {"path": "upload:street.png"}, "layers": [layer]}
    Image.open(root / "street" / "0.png").save(folder / "street.png")
    for background, error in (
        ("street.png", None),
        ("../secret.png", "no such"),
        (str(root / "bird.png"), None),
    ):
        project["background"] = {"path": background}
        (folder / "a.json").write_text(json.dumps(project))
        if error is None:
            job, media = checked({"project": "upload:a.json"}, inputs, Limits())
            assert job.scene.layers[0].foreground == str(folder / "cat.png") and len(media) == 2
        else:
            with pytest.raises(InputError, match=error):
                checked({"project": "upload:a.json"}, inputs, Limits())
    project |= {"background": {"path": "street.png"}, "checkpoint": str(root / "street")}
    (folder / "a.json").write_text(json.dumps(project))
    with pytest.raises(InputError, match="checkpoint"):
        checked({"project": "upload:a.json"}, inputs, Limits())


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"background": "../secret.png"}, "background|no such file"),
        ({"trajectory": "../secret.txt"}, "no such file"),
        ({"trajectory": "/etc/passwd"}, "trajectory"),
        ({"mask": "../secret.png"}, "no such file"),
        ({"out": "x.mp4"}, "out"),
        ({"checkpoint": "street"}, "checkpoint"),
        ({"codec": "ffv1"}, "codec: the service writes a viewing copy"),
        ({"output_colour": "linear"}, "output_colour"),
        ({"layer": "edit.mov"}, "layer: the service names it"),
        ({"frames": 10**6}, "frames: 1000000"),
        ({"frames": 51}, "limit is 50"),
        ({"steps": "many"}, "steps"),
        ({"colour": "red"}, "colour"),
        ({"background": "large.png"}, "megapixels"),
        ({"background": "text.mp4"}, "text.mp4: is not a video"),
    ],
)
def test_what_a_service_refuses(inputs, root, change, names):
    Image.fromarray(np.zeros((400, 500), np.uint8)).save(root / "large.png")
    (root / "text.mp4").write_text("no video")
    with pytest.raises(InputError, match=names) as error:
        checked(REQUEST | change, inputs, Limits(frames=50, megapixels=0.1))
    assert str(root) not in str(error.value)


def test_the_limit_of_frames_holds_where_the_clip_decides(inputs):
    with pytest.raises(InputError, match="frames: 3, the service's limit is 2"):
        checked(REQUEST, inputs, Limits(frames=2))
    checked(REQUEST | {"frames": 2}, inputs, Limits(frames=2))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150)
@given(
    change=st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), VALUES, max_size=3),
    whole=st.booleans(),
)
def test_no_json_is_an_error_of_another_kind(change, whole, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    try:
        checked(REQUEST | change if whole else change, Inputs(folder, folder / "uploads"), Limits())
    except InputError as error:
        assert "\n" not in " ".join(str(error).split())
