import json
from pathlib import Path

import pytest

from gencompositor_jax.controls.geometry.trajectory import Keyframe
from gencompositor_jax.controls.scene import Layer, Scene, write_scene
from gencompositor_jax.errors import InputError
from gencompositor_jax.jobs.spec import FIELDS, job_of

GOOD = {"out": "a/b.mp4", "background": "street.mp4", "foreground": "bird.mov", "trajectory": "12,13 36,9"}


def below(root: Path):
    """Paths inside a folder only."""

    def resolve(named: str) -> str:
        path = (root / named).resolve()
        if not path.is_relative_to(root.resolve()):
            raise InputError(f"{named}: outside {root}")
        return str(path)

    return resolve


def test_the_fields_are_those_of_compose():
    from gencompositor_jax.cli import build_parser

    (commands,) = build_parser()._subparsers._group_actions  # type: ignore[union-attr]
    options = {action.dest for action in commands.choices["compose"]._actions}  # type: ignore[index]
    of_the_command_line = {
        "help",
        "compiled",
        "overwrite",
        "no_paste_back",
        "mesh",
        "resume",
        "segment_weights",
    }
    assert options - of_the_command_line == set(FIELDS) - {"paste_back"}


def test_a_job_is_a_scene_and_a_file(tmp_path):
    job = job_of(
        GOOD | {"scale": 0.5, "rotation": [0, 9], "seed": 7, "frames": 5, "paste_back": False},
        below(tmp_path),
    )
    assert job.out == "a/b.mp4" and job.scene.frames == 5
    assert job.scene.sampling.seed == 7 and not job.scene.sampling.paste_back
    layer = Layer(str(tmp_path / "bird.mov"), job.scene.layers[0].trajectory, scales=(0.5,), rotations=(0, 9))
    assert job.scene.layers == (layer,) and job.scene.background == str(tmp_path / "street.mp4")


def test_trajectories_are_texts_pairs_objects_and_files(tmp_path):
    (tmp_path / "path.txt").write_text("12,13\n36,9\n")
    points = (Keyframe(12, 13), Keyframe(36, 9))
    for given in ("12,13 36,9", [[12, 13], [36, 9]], [{"x": 12, "y": 13}, {"x": 36, "y": 9}], "path.txt"):
        found = job_of(GOOD | {"trajectory": given}, below(tmp_path)).scene.layers[0].trajectory
        assert found.keyframes == points and found.timing == ("frames" if given == "path.txt" else "arc")
    job = job_of(GOOD | {"trajectory": [[0.5, 0.5]], "relative": True, "timing": "frames"}, below(tmp_path))
    trajectory = job.scene.layers[0].trajectory
    assert trajectory.relative and trajectory.timing == "frames"
    assert job_of(GOOD | {"trajectory": "track:3,4"}, below(tmp_path)).scene.layers[0].trajectory.track


def test_a_project_file_and_what_may_be_changed(tmp_path):
    (tmp_path / "project").mkdir()
    layers = job_of(GOOD, below(tmp_path / "project")).scene.layers
    scene = Scene(str(tmp_path / "project" / "street.mp4"), layers)
    write_scene(tmp_path / "project" / "first.json", scene)
    job = job_of({"out": "second", "project": "project/first.json", "seed": 8, "end": 3}, below(tmp_path))
    assert job.scene.layers == layers and job.scene.sampling.seed == 8 and job.scene.end == 3
    text = (tmp_path / "project" / "first.json").read_text()
    (tmp_path / "project" / "first.json").write_text(text.replace("street.mp4", "../../street.mp4"))
    with pytest.raises(InputError, match="outside"):
        job_of({"out": "second", "project": "project/first.json"}, below(tmp_path))


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"out": "../b.mp4"}, "out"),
        ({"out": "/b.mp4"}, "out"),
        ({"out": "."}, "out"),
        ({"out": 3}, "out"),
        ({"background": None}, "background"),
        ({"background": "../street.mp4"}, "outside"),
        ({"mask": "/etc/passwd"}, "outside"),
        ({"checkpoint": "../model"}, "outside"),
        ({"trajectory": "../path.txt"}, "outside"),
        ({"trajectory": "/etc/passwd"}, "trajectory"),
        ({"trajectory": []}, "trajectory"),
        ({"trajectory": [[1, 2, 3]]}, r"trajectory\[0\]"),
        ({"trajectory": [[1, float("nan")]]}, r"trajectory\[0\]"),
        ({"scale": "big"}, "scales"),
        ({"scale": []}, "scales"),
        ({"timing": "time"}, "timing"),
        ({"relative": "yes"}, "relative"),
        ({"layer": "/e.mov"}, "layer"),
        ({"save_element": 3}, "save_element"),
        ({"out": "a.####.exr", "paste_back": False}, "out: without paste-back"),
        ({"codec": "ffv1", "paste_back": False}, "out: without paste-back"),
        ({"codec": "mpeg"}, "codec"),
        ({"steps": 0}, "steps"),
        ({"seed": 1.5}, "seed"),
        ({"frames": 10**7}, "frames"),
        ({"colour": 1}, "unknown field 'colour'"),
        ({"project": "first.json"}, "background: the project file has it"),
    ],
    ids=json.dumps,
)
def test_what_is_wrong_is_named(change, names, tmp_path):
    with pytest.raises(InputError, match=f"^line 7: .*{names}"):
        job_of(GOOD | change, below(tmp_path), "line 7")


@pytest.mark.parametrize("value", [[], "x", {}, {"out": "x"}, None])
def test_other_values_are_no_jobs(value, tmp_path):
    with pytest.raises(InputError, match="^job"):
        job_of(value, below(tmp_path))
