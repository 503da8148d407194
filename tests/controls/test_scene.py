import dataclasses
import json
import pathlib
import textwrap
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gencompositor_jax.controls import scene as scene_module
from gencompositor_jax.controls.geometry.trajectory import Keyframe, Trajectory, from_points
from gencompositor_jax.controls.geometry.trajectory_text import parse_trajectory
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.controls.scene import Layer, Scene, read_scene, write_scene
from gencompositor_jax.errors import InputError

names = st.text(st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cc"]), min_size=1)
paths = names.filter(lambda n: n.strip() and n not in (".", "..")).map(lambda n: f"/clips/{n}")
positive = st.floats(1e-6, 1e6)
keyframes = st.builds(Keyframe, st.floats(-4, 5), st.floats(-4, 5), scale=st.none() | positive)
easings = st.sampled_from(["linear", "ease-in", "ease-out", "ease-in-out"])
trajectories = st.one_of(
    st.builds(
        Trajectory,
        st.lists(keyframes, min_size=1).map(tuple),
        st.booleans(),
        st.sampled_from(["arc", "frames"]),
    ),
    st.builds(
        lambda x, easing: Trajectory(
            (Keyframe(x, x, 0.0, easing=easing), Keyframe(x, x, 0.5)), timing="time"
        ),
        st.floats(0, 999),
        st.none() | easings | st.just("hold"),
    ),
    st.builds(lambda x, y: Trajectory((Keyframe(x, y),), track=True), st.floats(0, 999), st.floats(0, 999)),
)
layers = st.builds(
    Layer,
    foreground=paths,
    trajectory=trajectories,
    key=st.sampled_from(["auto", "alpha", "white", "green", "blue", "#12aBcF"]),
    mask=st.none() | paths,
    segment=st.sampled_from([None, "auto", "point:1,2", "box:1,2,3,4", "a gull"]),
    scales=st.lists(positive, min_size=1, max_size=5).map(tuple),
    rotations=st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=5).map(tuple),
    anchor=st.sampled_from(["center", "bottom"]),
    extend=st.sampled_from(["error", "loop", "hold"]),
    in_frame=st.integers(0, 10),
    out_frame=st.none() | st.integers(10, 10**6),
    easing=easings,
)
scenes = st.builds(
    Scene,
    background=paths,
    layers=st.lists(layers, min_size=1, max_size=3).map(tuple),
    start=st.floats(0, 100),
    end=st.none() | st.floats(101, 1e6),
    fps=st.none() | st.floats(0.1, 1000),
    frames=st.none() | st.integers(1, 10**6),
    checkpoint=st.none() | paths,
    sampling=st.builds(
        SamplingOptions,
        seed=st.integers(0, 2**32 - 1),
        steps=st.integers(1, 1000),
        solver=st.sampled_from(["dpm", "ddim"]),
        paste_back=st.booleans(),
        feather=st.floats(0, 1000),
        prompt=st.none() | st.just("sea"),
        guidance=st.floats(0, 100),
    ),
    weights=st.none() | st.just("int8"),
    tau=st.none() | st.floats(0.01, 1),
)


@given(scenes)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_scenes_go_there_and_back(tmp_path: pathlib.Path, scene: Scene) -> None:
    write_scene(tmp_path / "scene.json", scene)
    assert read_scene(tmp_path / "scene.json") == scene
    assert [p.name for p in tmp_path.iterdir()] == ["scene.json"]  # nothing half-written beside it


def minimal() -> dict[str, Any]:
    layer = {"foreground": "bird.mov", "trajectory": [{"x": 1, "y": 2}]}
    return {"version": 1, "background": {"path": "street.mp4"}, "layers": [layer]}


def write(folder: pathlib.Path, value: Any) -> str:
    file = folder / "scene.json"
    file.write_text(value if isinstance(value, str) else json.dumps(value))
    return str(file)


def test_what_is_left_out_has_its_default(tmp_path: pathlib.Path) -> None:
    layer = Layer(str(tmp_path / "bird.mov"), from_points([(1, 2)]))
    assert read_scene(write(tmp_path, minimal())) == Scene(str(tmp_path / "street.mp4"), (layer,))


def test_the_documented_example_shows_all_fields_and_the_defaults(tmp_path: pathlib.Path) -> None:
    text = str(scene_module.__doc__)
    example = json.loads(textwrap.dedent(text[text.index("    {") : text.rindex("    }") + 5]))
    scene = read_scene(write(tmp_path, example))
    layer = Layer(str(tmp_path / "bird.mov"), from_points([(120, 130), (600, 200)]))
    assert scene == Scene(str(tmp_path / "street.mp4"), (layer,))
    write_scene(tmp_path / "again.json", scene)
    again = json.loads((tmp_path / "again.json").read_text())
    assert again.keys() == example.keys() and again["layers"][0].keys() == example["layers"][0].keys()


def test_a_removal_needs_no_layer_and_is_a_pass_of_its_own(tmp_path: pathlib.Path) -> None:
    scene = read_scene(write(tmp_path, minimal() | {"layers": [], "remove": "mask.png"}))
    assert scene.clips == (str(tmp_path / "street.mp4"), str(tmp_path / "mask.png")) and scene.passes == 1
    assert read_scene(write(tmp_path, minimal() | {"remove": "mask.png"})).passes == 2
    with pytest.raises(InputError, match="layers: the list is empty"):
        read_scene(write(tmp_path, minimal() | {"layers": []}))


def test_a_folder_can_be_moved(tmp_path: pathlib.Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    layer = Layer(str(old / "clips" / "bird.mov"), parse_trajectory("track:3,4"), mask="/elsewhere/mask.mp4")
    write_scene(
        old / "scene.json", Scene(str(old / "street.mp4"), (layer,), checkpoint=str(tmp_path / "model"))
    )
    old.rename(new)
    moved = read_scene(new / "scene.json")
    assert moved.background == str(new / "street.mp4")
    assert moved.layers[0].foreground == str(new / "clips" / "bird.mov")
    assert moved.layers[0].mask == "/elsewhere/mask.mp4"
    assert moved.checkpoint == str(tmp_path / "model")


def test_relative_paths_count_from_the_working_folder_when_written(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    write_scene("out/scene.json", Scene("street.mp4", (Layer("out/bird.mov", from_points([(1, 2)])),)))
    scene = read_scene("out/scene.json")
    assert (scene.background, scene.layers[0].foreground) == (
        str(tmp_path / "street.mp4"),
        str(tmp_path / "out" / "bird.mov"),
    )


def change(*keys: str | int, to: Any) -> dict[str, Any]:
    """The minimal scene with one field set."""
    value: Any = minimal()
    at = value
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = to
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{", "line 1, column 2"),
        ("[]", "a list where an object"),
        ("{}", "field 'version' is missing"),
        ({"keyframes": [{"x": 1, "y": 2}]}, "is a trajectory, not a project file"),
        (change("version", to=2), "version: 2; this program reads version 1"),
        (change("version", to=True), "version: true or false"),
        (change("colour", to=1), "unknown field 'colour'; known are version, background"),
        (change("background", to="street.mp4"), "background: the text 'street.mp4' where an object"),
        (change("background", "loop", to=True), "background: unknown field 'loop'"),
        (change("background", "path", to=""), "background.path: an empty text"),
        (change("background", "path", to=3), "background.path: a number where a text"),
        (
            change("background", "path", to="http://x/y.mp4"),
            "background.path: http://x/y.mp4: is an address",
        ),
        (change("background", "start", to=-1), "background.start: -1 must be at least 0"),
        (change("background", "end", to=0), "background.end: 0 must be above 0"),
        (change("background", "fps", to=0), "background.fps: 0 must be at least 0.001"),
        (change("frames", to=0), "frames: 0 must be at least 1"),
        (change("frames", to=9.0), "frames: a number where an integer"),
        (change("layers", to=[]), "layers: the list is empty"),
        (change("layers", to={}), "layers: an object where a list"),
        (change("layers", 0, to=None), r"layers\[0\]: null where an object"),
        (change("layers", 0, to={"foreground": "a"}), r"layers\[0\]: field 'trajectory' is missing"),
        (change("layers", 0, "size", to=1), r"layers\[0\]: unknown field 'size'"),
        (change("layers", 0, "key", to="pink"), r"layers\[0\].key: 'pink'"),
        (change("layers", 0, "segment", to="point:1"), r"layers\[0\].segment: 'point:1'"),
        (change("layers", 0, "scales", to=[1, 0]), r"layers\[0\].scales\[1\]: 0 must be above 0"),
        (change("layers", 0, "scales", to=1), r"layers\[0\].scales: a number where a list"),
        (change("layers", 0, "scales", to=[]), r"layers\[0\].scales: the list is empty"),
        (change("layers", 0, "rotations", to=["90"]), r"rotations\[0\]: the text '90' where a number"),
        (change("layers", 0, "anchor", to="top"), r"anchor: 'top'; choose one of center, bottom"),
        (change("layers", 0, "anchor", to=["center"]), "anchor: "),
        (change("layers", 0, "extend", to="bounce"), "extend: 'bounce'; choose one of error, loop, hold"),
        (
            change("layers", 0, "trajectory", to="1,2"),
            r"layers\[0\].trajectory: the text '1,2' where an object",
        ),
        (
            change("layers", 0, "trajectory", to=[{"x": 1, "y": 2, "z": 3}]),
            r"layers\[0\].trajectory.keyframes\[0\]: unknown field 'z'",
        ),
        (
            change("layers", 0, "trajectory", to=[{"x": 1, "y": 2, "time": 1}, {"x": 1, "y": 2, "time": 0}]),
            r"layers\[0\].trajectory: keyframes\[1\].time is 0 after 1",
        ),
        (change("seed", to=-1), "seed: -1 must be at least 0"),
        (change("seed", to=1.5), "seed: a number where an integer"),
        (change("steps", to=0), "steps: 0 must be at least 1"),
        (change("solver", to="euler"), "solver: 'euler'; choose one of dpm, ddim"),
        (change("paste_back", to=1), "paste_back: a number where true or false"),
        (change("feather", to=-1), "feather: -1 must be at least 0"),
    ],
)
def test_bad_files(tmp_path: pathlib.Path, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        read_scene(write(tmp_path, value))
    assert "scene.json" in str(raised.value) and "\n" not in str(raised.value)


def test_end_before_start(tmp_path: pathlib.Path) -> None:
    value = change("background", to={"path": "a", "start": 5, "end": 4})
    with pytest.raises(InputError, match="background.end: 4 must be after start, 5 seconds"):
        read_scene(write(tmp_path, value))


def test_a_range_instead_of_start_and_end(tmp_path: pathlib.Path) -> None:
    value = change("background", to={"path": "a", "range": [1001, 1049]})
    scene = read_scene(write(tmp_path, value))
    assert scene.range == (1001, 1049)
    write_scene(tmp_path / "again.json", scene)
    assert read_scene(tmp_path / "again.json") == scene
    for clash in ({"start": 1}, {"end": 4}):
        value = change("background", to={"path": "a", "range": [1001, 1049], **clash})
        with pytest.raises(InputError, match="background.range: start and end say the same in seconds"):
            read_scene(write(tmp_path, value))
    value = change("background", to={"path": "a", "range": [9, 3]})
    with pytest.raises(InputError, match="background.range: 9-3: the last frame is before the first"):
        read_scene(write(tmp_path, value))


def test_missing_file(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_scene(tmp_path / "none.json")


@pytest.mark.parametrize(
    "broken",
    [{"layers": ()}, {"background": ""}, {"frames": 0}, {"sampling": {"steps": 3}}, {"tau": 2.0}],
    ids=str,
)
def test_an_invalid_scene_cannot_be_made(broken: dict[str, Any]) -> None:
    scene = Scene("a.mp4", (Layer("b.mp4", from_points([(1, 2)])),))
    with pytest.raises(InputError, match=f"^{next(iter(broken))}: "):
        dataclasses.replace(scene, **broken)
    with pytest.raises(InputError, match=r"^scales\[0\]: 0 must be above 0"):
        dataclasses.replace(scene.layers[0], scales=(0.0,))


def test_a_folder_that_is_missing(tmp_path: pathlib.Path) -> None:
    scene = Scene("a.mp4", (Layer("b.mp4", from_points([(1, 2)])),))
    with pytest.raises(InputError, match=r"can't be written \(No such file"):
        write_scene(tmp_path / "none" / "scene.json", scene)
