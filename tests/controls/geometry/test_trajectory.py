import json
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gencompositor_jax.controls.geometry.path import resolve_path
from gencompositor_jax.controls.geometry.trajectory import (
    Keyframe,
    Trajectory,
    from_json,
    from_points,
    to_json,
)
from gencompositor_jax.controls.geometry.trajectory_text import (
    as_numbers,
    as_trajectory,
    parse_numbers,
    parse_trajectory,
)
from gencompositor_jax.errors import InputError

SIZE = (720, 480)


def write(folder: pathlib.Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


@pytest.mark.parametrize(
    "text", ["120,130 360,90 600,200", " 120,130;360,90; 600,200 ", "120, 130  360 ,90\n600.0,2e2"]
)
def test_points_on_the_command_line(text: str) -> None:
    assert parse_trajectory(text) == from_points([(120, 130), (360, 90), (600, 200)])


def test_points_run_smoothly_through_the_middle() -> None:
    path = resolve_path(parse_trajectory("120,130 360,90 600,200"), 9, SIZE)
    np.testing.assert_allclose(path.xy[[0, -1]], [(120, 130), (600, 200)], atol=1e-6)
    assert path.xy[:, 1].min() >= 90 - 1e-6
    assert np.hypot(*(path.xy - (360, 90)).T).min() < 35  # half a step of the nine
    assert (path.scale == 1).all() and (path.rotation == 0).all() and path.report == ""


def test_a_single_point_stays() -> None:
    np.testing.assert_array_equal(resolve_path(parse_trajectory("30,40"), 3, SIZE).xy, [(30, 40)] * 3)


def test_points_at_the_border_are_valid() -> None:
    """x = width is one pixel outside the frame."""
    path = resolve_path(parse_trajectory("720,480 0,0 -1,-1"), 5, SIZE)
    np.testing.assert_allclose(path.xy[0], (720, 480))


def test_relative_coordinates_span_the_frame() -> None:
    path = resolve_path(parse_trajectory("0,0 1,1", relative=True), 3, SIZE)
    np.testing.assert_allclose(path.xy, [(-0.5, -0.5), (359.5, 239.5), (719.5, 479.5)], atol=1e-6)


def test_file_with_a_point_per_frame_is_used_as_it_is(tmp_path: pathlib.Path) -> None:
    points = np.random.default_rng(0).integers(0, 480, (7, 2))
    file = write(tmp_path, "t.txt", "\n".join(f"{x},{y}" for x, y in points) + "\n\n")
    np.testing.assert_array_equal(resolve_path(parse_trajectory(file), 7, SIZE).xy, points)


def test_longer_file_keeps_its_speed_over_time(tmp_path: pathlib.Path) -> None:
    """150 points for 49 frames: resampled in time, so a pause in the recording stays a pause."""
    x = np.concatenate([np.zeros(75), np.linspace(0, 500, 75)])
    file = write(tmp_path, "t.txt", "\n".join(f"{v} 100" for v in x))
    path = resolve_path(parse_trajectory(file), 49, SIZE)
    np.testing.assert_allclose(path.xy[:24, 0], 0, atol=1e-9)
    np.testing.assert_allclose(path.xy[[0, -1], 0], (0, 500))
    np.testing.assert_allclose(np.diff(path.xy[25:, 0]), 500 / 74 * 149 / 48, rtol=1e-6)


def test_shorter_file_gives_key_points(tmp_path: pathlib.Path) -> None:
    file = write(tmp_path, "t.txt", "120,130\n360,90\n600,200\n")
    expected = resolve_path(parse_trajectory("120,130 360,90 600,200"), 9, SIZE)
    np.testing.assert_array_equal(resolve_path(parse_trajectory(file), 9, SIZE).xy, expected.xy)


def test_json_key_frames_hold_at_their_times(tmp_path: pathlib.Path) -> None:
    keys = [
        {"time": 0, "x": 10, "y": 20, "scale": 0.5, "rotation": 0},
        {"time": 0.25, "x": 100, "y": 60},
        {"time": 1, "x": 50, "y": 90, "scale": 1.5, "rotation": 720},
    ]
    path = resolve_path(parse_trajectory(write(tmp_path, "t.json", json.dumps(keys))), 9, SIZE)
    np.testing.assert_allclose(path.xy[[0, 2, 8]], [(10, 20), (100, 60), (50, 90)], atol=1e-9)
    np.testing.assert_allclose(path.scale, np.linspace(0.5, 1.5, 9))
    np.testing.assert_allclose(path.rotation, np.linspace(0, 720, 9))


def test_json_may_be_relative_by_itself_or_by_the_caller(tmp_path: pathlib.Path) -> None:
    keys = [{"x": 0.5, "y": 0.5}]
    by_itself = write(tmp_path, "a.json", json.dumps({"keyframes": keys, "relative": True}))
    assert parse_trajectory(by_itself).relative
    assert parse_trajectory(write(tmp_path, "b.json", json.dumps(keys)), relative=True).relative


def test_json_times_may_begin_late_and_end_early() -> None:
    trajectory = from_json([{"x": 1, "y": 2, "time": 0.5}, {"x": 5, "y": 6, "time": 0.75}], "here")
    np.testing.assert_allclose(resolve_path(trajectory, 5, SIZE).xy, [(1, 2)] * 3 + [(5, 6)] * 2)


def test_key_scales_without_times_follow_the_arc_length() -> None:
    """Without times a key's scale applies where the element passes the key."""
    keys = [(0.0, 0.0, 1.0), (90.0, 0.0, 2.0), (100.0, 0.0, 4.0)]
    trajectory = Trajectory(tuple(Keyframe(x, y, scale=s) for x, y, s in keys))
    path = resolve_path(trajectory, 11, SIZE)
    np.testing.assert_allclose(path.scale[[0, 9, 10]], [1, 2, 4], atol=1e-3)


def test_scales_spread_over_the_clip_and_multiply() -> None:
    trajectory = Trajectory((Keyframe(9, 9, scale=2.0, rotation=10.0),))
    path = resolve_path(trajectory, 5, SIZE, scales=(0.5, 1.0, 0.25), rotations=(0.0, 40.0))
    np.testing.assert_allclose(path.scale[[0, 2, 4]], [1.0, 2.0, 0.5])
    np.testing.assert_allclose(path.rotation, [10, 20, 30, 40, 50])


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_scales(scale: float) -> None:
    with pytest.raises(InputError, match="scale"):
        resolve_path(from_points([(9, 9)]), 3, SIZE, scales=(1.0, scale))


def test_no_scale_at_all() -> None:
    with pytest.raises(InputError, match="scale: empty"):
        resolve_path(from_points([(9, 9)]), 3, SIZE, scales=())


def test_numbers_on_the_command_line() -> None:
    assert parse_numbers(" 0.5, 1.2,3", "--scale") == (0.5, 1.2, 3.0)
    for text in ("", " , ", "0.5,big", "nan", "1e999", "1_0"):
        with pytest.raises(InputError, match="--scale"):
            parse_numbers(text, "--scale")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("walk.traj", "'walk.traj' is neither a file nor a point"),
        ("120", "'120' is neither a file nor a point"),
        ("120,130,140", "neither a file nor a point"),
        ("120,abc", "'abc' is not a number"),
        ("nan,1", "finite"),
        ("1,inf", "finite"),
        ("1_0,5", "'1_0' is not a number"),
        ("1e9,5", r"keyframes\[0\].x: 1e\+09 must be at most"),
        ("0.1,0.5 0.9,0.5", "--relative"),
        ("track:", "neither a file nor a point"),
        ("track:5,5 6,6", "2 points; pass one to track"),
        ("track:5", "neither a file nor a point"),
        ("missing.txt", "no such file"),
        ("missing.json", "no such file"),
        ("x" * 5000, "neither a file nor a point"),
        (".", "not a regular file"),
        ("a\0b", "neither a file nor a point"),
    ],
)
def test_bad_text(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_trajectory(text)


@pytest.mark.parametrize("points", [["a", "b"], ["ab", "cd"], [[1, 2], [3]], np.zeros((3, 3)), {"x": 1}, 5])
def test_python_points_that_are_no_pairs(points: object) -> None:
    with pytest.raises(InputError, match=r"^trajectory: \w+ where points are expected"):
        as_trajectory(points)  # type: ignore[arg-type]


def test_python_numbers_are_not_texts() -> None:
    """A text is a sequence, too: "12" was the scales 1 and 2."""
    with pytest.raises(InputError, match=r"^scale: str where"):
        as_numbers("12", "scale")


def test_pixels_are_not_relative_coordinates() -> None:
    with pytest.raises(InputError, match=r"x \(relative\): 120 must be within -4..5"):
        parse_trajectory("120,130", relative=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no points; write one x,y per line"),
        ("10,20\n30;40", "line 2: '30;40'"),
        ("10,20\n30,40;50,60", "line 2"),
        ("10,20\n\n30", "line 3: '30' is not a point"),
        ("10,20\n30,40,50", "line 2: '30,40,50' is not a point"),
        ("10,20\n30,,40", "line 2"),
        ("x,y\n1,2", "line 1: 'x' is not a number"),
        ("10,20\nnan,40", "line 2: nan is not a finite number"),
    ],
)
def test_bad_text_files(tmp_path: pathlib.Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        parse_trajectory(write(tmp_path, "t.txt", text))
    assert "t.txt" in str(raised.value) and "\n" not in str(raised.value)


def test_a_video_given_as_a_trajectory(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "clip.txt"
    file.write_bytes(bytes(range(256)) * 10)
    with pytest.raises(InputError, match="not UTF-8"):
        parse_trajectory(str(file))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"x": 1, "y": 2},\n {"x": 1 "y": 2}]', "line 2, column"),
        ("[]", "the list is empty"),
        ("{}", "field 'keyframes' is missing"),
        ("3", "a number where an object"),
        ("[[1, 2, 3]]", r"a list of points: write \[x, y\] for each"),
        ("[[[1, 2]], [[3, 4]]]", "2 tracks; an element follows one: keep one of them"),
        ('[{"x": 0.2, "y": 0.5}]', "within 0..1, the first pixel; pass --relative if"),
        ('[{"x": 1}]', "field 'y' is missing"),
        (
            '[{"x": 1, "y": 2, "zoom": 3}]',
            "unknown field 'zoom'; known are x, y, time, scale, rotation, easing",
        ),
        ('[{"x": 1, "y": 2, "y": 3}]', "'y' stands twice"),
        ('[{"x": "1", "y": 2}]', r"keyframes\[0\].x: the text '1' where a number"),
        ('[{"x": true, "y": 2}]', "true or false where a number"),
        ('[{"x": null, "y": 2}]', "null where a number"),
        ('[{"x": NaN, "y": 2}]', "NaN is not a number"),
        ('[{"x": 1e999, "y": 2}]', "inf is not a finite number"),
        ('[{"x": 1' + "0" * 400 + ', "y": 2}]', "a huge integer is not a finite"),
        ('[{"x": 1' + "0" * 5000 + ', "y": 2}]', "t.json"),
        ('[{"x": 1, "y": 2, "scale": 0}]', "scale: 0 must be above 0"),
        ('[{"x": 1, "y": 2, "time": 1.5}]', "time: 1.5 must be at most 1"),
        ('[{"x": 1, "y": 2, "time": 0}, {"x": 1, "y": 2}]', "1 of 2 key frames have a time"),
        ('[{"x": 1, "y": 2, "time": 0.5}, {"x": 1, "y": 2, "time": 0.5}]', r"\[1\].time is 0.5 after 0.5"),
        ('{"keyframes": [{"x": 1, "y": 2}], "timing": "time"}', "0 of 1 key frames have a time"),
        ('{"keyframes": [{"x": 1, "y": 2}], "timing": "slow"}', "choose one of arc, time, frames"),
        ('{"keyframes": [{"x": 1, "y": 2}], "relative": 1}', "a number where true or false"),
        ('{"keyframes": [{"x": 1, "y": 2}, {"x": 3, "y": 4}], "track": true}', "tracking takes one"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_bad_json(tmp_path: pathlib.Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        parse_trajectory(write(tmp_path, "t.json", text))
    assert "t.json" in str(raised.value) and "\n" not in str(raised.value)


def test_no_point_in_a_list() -> None:
    with pytest.raises(InputError, match="the list is empty"):
        from_points([])


def test_tracking_follows_the_background() -> None:
    rng = np.random.default_rng(0)
    noise = np.kron(rng.integers(0, 256, (30, 40)), np.ones((4, 4))).astype(np.uint8)
    frames = np.stack([np.roll(noise, (t, 2 * t), axis=(0, 1)) for t in range(4)])[..., None].repeat(3, -1)
    trajectory = parse_trajectory("track:80,60")
    path = resolve_path(trajectory, 4, (160, 120), scales=(0.5, 1.0), background=frames)
    np.testing.assert_allclose(path.xy, [(80 + 2 * t, 60 + t) for t in range(4)], atol=0.1)
    assert "all 4 frames" in path.report
    np.testing.assert_allclose(path.scale[[0, -1]], [0.5, 1.0])


optional_scale = st.none() | st.floats(0.01, 100)
keyframes = st.builds(
    Keyframe,
    x=st.floats(-4, 5),
    y=st.floats(-4, 5),
    scale=optional_scale,
    rotation=st.none() | st.floats(-1e4, 1e4),
)


@given(st.lists(keyframes, min_size=1, max_size=5), st.booleans(), st.sampled_from(["arc", "time", "frames"]))
@settings(max_examples=100, deadline=None)
def test_json_round_trip(keys: list[Keyframe], relative: bool, timing: str) -> None:
    if timing == "time":
        keys = [Keyframe(k.x, k.y, i / len(keys), k.scale, k.rotation) for i, k in enumerate(keys)]
    trajectory = Trajectory(tuple(keys), relative, timing)  # type: ignore[arg-type]
    assert from_json(json.loads(json.dumps(to_json(trajectory))), "here") == trajectory


def test_json_in_relative_coordinates_gets_the_hint_unless_it_says_which() -> None:
    file = str(pathlib.Path(__file__).parents[1] / "data" / "relative.json")
    with pytest.raises(InputError, match='pass --relative if .*, or write "relative": true or false'):
        parse_trajectory(file)
    assert parse_trajectory(file, relative=True).relative
    for stated in (True, False):
        keys = [{"x": 0.2, "y": 0.5}]
        assert from_json({"keyframes": keys, "relative": stated}, "here").relative == stated
    assert not from_json([{"x": 0, "y": 1}], "here").relative  # whole pixels


@pytest.mark.parametrize(
    "text", ["[[1, 2], [3, 5]]", '[[{"x": 1, "y": 2}, {"x": 3, "y": 5}]]', "[[[1, 2], [3, 5]]]"]
)
@pytest.mark.parametrize("name", ["spline.json", "spline.txt"])
def test_lists_of_spline_editors_are_recordings(tmp_path: pathlib.Path, name: str, text: str) -> None:
    assert parse_trajectory(write(tmp_path, name, text)) == from_points([(1, 2), (3, 5)], timing="frames")
