"""Key frames from files as Nuke and After Effects write them, and back.

The files in data/ are for a plate of 64x48 pixels with the frames 1001 to 1009. Their point begins in the
pixel (10, 7), y down, and moves by (4, 1) per frame.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gencompositor_jax.cli import main
from gencompositor_jax.controls.geometry.path import resolve_path
from gencompositor_jax.controls.geometry.trajectory_text import parse_trajectory
from gencompositor_jax.controls.keyframes.after_effects import read_after_effects
from gencompositor_jax.controls.keyframes.clock import Clock, after_effects_clock, nuke_clock
from gencompositor_jax.controls.keyframes.motion import Motion, trajectory_of
from gencompositor_jax.controls.keyframes.nuke import Plate, read_nuke
from gencompositor_jax.controls.media.video import choose
from gencompositor_jax.controls.scene import read_scene, write_scene
from gencompositor_jax.errors import InputError

DATA = Path(__file__).parent / "data"
SIZE, T = (64, 48), np.arange(9)
XY = np.stack([10 + 4 * T, 7 + T], axis=1)
PLATE = Plate(48)


def tracker(old: str = "", new: str = "") -> str:
    return (DATA / "tracker.nk").read_text().replace(old, new, 1)


def transform(**knobs: str) -> str:
    text = (DATA / "transform.nk").read_text()
    return text.replace(" name ", "".join(f" {name} {value}\n" for name, value in knobs.items()) + " name ")


@pytest.fixture
def plate(tmp_path, monkeypatch):
    """A working folder with a plate, an element, and the files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plate").mkdir()
    for number in range(1001, 1010):
        Image.new("RGB", SIZE, (90, 90, 90)).save(f"plate/plate.{number}.png")
    Image.new("RGBA", (16, 12), (200, 0, 0, 255)).save("bird.png")
    for file in DATA.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def convert(source: str, target: str, *more: str) -> None:
    assert main(["keyframes", "--from", source, "--to", target, *more]) == 0


def resolved(path: str, frames: int = 9):
    return resolve_path(parse_trajectory(path), frames, SIZE)


def test_a_tracked_point_of_nuke(plate):
    convert("tracker.nk", "path.json", "--background", "plate", "--track", "track 1")
    path = resolved("path.json")
    np.testing.assert_allclose(path.xy, XY, atol=1e-9)
    assert (path.scale == 1).all() and (path.rotation == 0).all()


def test_two_tracks_give_scale_and_rotation(plate):
    convert("tracker.nk", "path.json", "--background", "plate", "--track", "track 1,tip")
    path = resolved("path.json")
    np.testing.assert_allclose(path.xy, XY, atol=1e-9)
    np.testing.assert_allclose(path.scale, 1 + T / 8, atol=1e-8)
    np.testing.assert_allclose(path.rotation, 10 * T, atol=1e-7)  # counter-clockwise on the screen


def test_a_transform_keeps_its_linear_keys(plate):
    convert("transform.nk", "path.json", "--background", "plate")
    made = parse_trajectory("path.json")
    assert [key.time for key in made.keyframes] == [0, 0.5, 1]
    path = resolved("path.json")
    np.testing.assert_allclose(path.xy[:, 0], 10 + 4 * T)
    np.testing.assert_allclose(path.xy[:, 1], 7 + 8 * (1 - abs(T - 4) / 4))
    np.testing.assert_allclose(path.scale, 1 + T / 16)
    np.testing.assert_allclose(path.rotation, -90 * T / 8)


def test_key_frames_of_after_effects(plate):
    convert("ae.txt", "path.json", "--background", "plate")
    path = resolved("path.json")
    np.testing.assert_allclose(path.xy, XY, atol=1e-9)
    np.testing.assert_allclose(path.scale, 1 + T / 16)
    np.testing.assert_allclose(path.rotation, -90 * T / 8)  # theirs are clockwise


@pytest.mark.parametrize("program", ["nk", "txt"])
def test_there_and_back_is_the_same_in_every_frame(plate, program):
    clips = ("--background", "plate", "--foreground", "bird.png", "--range", "1003-1008")
    convert("transform.nk", "scene.json", *clips)
    scene = read_scene("scene.json")
    first = resolve_path(scene.layers[0].trajectory, 6, SIZE)
    np.testing.assert_allclose(first.xy[:, 0], 10 + 4 * T[2:8])  # cut where the movement is then
    convert("scene.json", f"out.{program}")
    convert(f"out.{program}", "scene.json", "--overwrite")
    again = resolve_path(read_scene("scene.json").layers[0].trajectory, 6, SIZE)
    for name in ("xy", "scale", "rotation"):
        np.testing.assert_allclose(getattr(first, name), getattr(again, name), atol=1e-7)
    text = Path(f"out.{program}").read_text()
    assert ("curve L x1003 " in text) if program == "nk" else ("\n\t2\t18.5\t" in text)


@pytest.mark.parametrize("program", ["nk", "txt"])
def test_scales_and_rotations_of_a_layer_come_back_once(plate, program):
    """They are in the program's key frames then."""
    convert("transform.nk", "scene.json", "--background", "plate", "--foreground", "bird.png")
    scene = read_scene("scene.json")
    layer = dataclasses.replace(scene.layers[0], scales=(0.6, 1.2), rotations=(5.0,))
    write_scene("scene.json", dataclasses.replace(scene, layers=(layer,)))
    convert("scene.json", f"out.{program}")
    convert(f"out.{program}", "scene.json", "--overwrite")
    back = read_scene("scene.json").layers[0]
    before, after = (
        resolve_path(each.trajectory, 9, SIZE, each.scales, rotations=each.rotations)
        for each in (layer, back)
    )
    for name in ("xy", "scale", "rotation"):
        np.testing.assert_allclose(getattr(after, name), getattr(before, name), atol=1e-4)


def test_a_layer_takes_key_frames_over_its_own_frames(plate):
    convert("ae.txt", "scene.json", "--background", "plate", "--foreground", "bird.png")
    text = Path("scene.json").read_text().replace('"in_frame": 0', '"in_frame": 2')
    Path("scene.json").write_text(text.replace('"out_frame": null', '"out_frame": 6'))
    convert("ae.txt", "scene.json", "--overwrite")
    made = read_scene("scene.json").layers[0].trajectory
    np.testing.assert_allclose(resolve_path(made, 5, SIZE).xy, XY[2:7], atol=1e-9)
    convert("scene.json", "out.nk")
    curve = Path("out.nk").read_text()
    assert "x1003 0 " in curve and "x1007 16}" in curve and "x1002" not in curve and "x1008" not in curve


def test_clocks_of_images_and_videos(plate, make_clip):
    images = choose("plate", 25.0, 3 / 25, None, None, False)
    assert nuke_clock(images) == Clock(1004, 1) and nuke_clock(images, 1.0) == Clock(1, 1)
    assert after_effects_clock(images, 30.0) == Clock(3, 1)
    path = make_clip("a.mkv", codec="ffv1", pixels="bgr0")  # 24 frames per second
    video = choose(path, None, 0.25, None, None, False)
    assert nuke_clock(video) == Clock(7, 1)  # its first frame is 1
    assert after_effects_clock(video, 30.0) == Clock(7.5, 1.25)
    halved = choose(path, 12.0, 0.25, None, None, False)
    assert nuke_clock(halved) == Clock(7, 2) and after_effects_clock(halved, 24.0) == Clock(6, 2)


def test_other_numbers_are_named_and_first_mends_them(plate, capsys):
    shifted = tracker().replace("x1001", "x1")
    Path("shifted.nk").write_text(shifted)
    words = [
        "keyframes",
        "--from",
        "shifted.nk",
        "--to",
        "path.json",
        "--background",
        "plate",
        "--track",
        "tip",
    ]
    assert main(words) == 2
    assert (
        "key frames 1 to 9 are outside the layer's frames 1001 to 1009: pass by --first"
        in capsys.readouterr().err
    )
    convert("shifted.nk", "path.json", *words[5:], "--first", "1")
    convert("tracker.nk", "same.json", *words[5:])
    assert Path("path.json").read_text() == Path("same.json").read_text()


def test_smooth_curves_are_sampled_in_every_frame():
    knobs = "translate {{curve x1001 0 x1005 8 x1009 0} 0}"
    motion = read_nuke(transform().replace("translate {{curve L", f"{knobs}\n unused {{{{curve L"), PLATE)
    assert motion.frames.tolist() == list(range(1001, 1010)) and "bake them there" in motion.notes[0]
    held = tracker("{curve x1001 10.5", "{curve K x1001 1 x1004 20} {curve K x1001 1 x1004 9} {curve x1001 1")
    held = read_nuke(held, PLATE, tracks=["track 1"])
    assert held.easings == ("hold", "hold") and held.frames.tolist() == [1001, 1004]


def test_a_movement_with_another_rate_has_key_frames_between_frames():
    motion = Motion(np.array([0.0, 5.0, 10.0]), np.array([[0.0, 0], [5, 0], [0, 0]]))
    made = trajectory_of(motion, Clock(0, 1.25), range(9))  # 10 of theirs are 8 of ours
    assert [key.time for key in made.keyframes] == [0, 0.5, 1]
    cut = trajectory_of(motion, Clock(0, 1.25), range(2, 5))
    assert [(key.time, key.x) for key in cut.keyframes] == [(0, 2.5), (1, 5)]


def test_pixels_of_an_anamorphic_plate_are_squared():
    motion = read_nuke(tracker(), Plate(48, 2.0), tracks=["track 1"])
    np.testing.assert_allclose(motion.xy[0], (20.5, 7))
    text = (DATA / "ae.txt").read_text().replace("Comp Pixel Aspect Ratio\t1", "Comp Pixel Aspect Ratio\t2")
    np.testing.assert_allclose(read_after_effects(text)[0].xy[0], (20.5, 7))


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("Blur {\n name Blur1\n}\n", {}, "no Tracker4 and no Transform node"),
        (tracker() + transform(), {}, "2 nodes fit, there are Tracker1; Transform3: pass --node"),
        (tracker(), {}, r"Tracker1: its tracks are track 1; tip: pass --track"),
        (tracker(), {"tracks": ["nose"]}, "its tracks are track 1; tip"),
        (transform(), {"tracks": ["tip"]}, "Transform3: is a Transform: leave --track out"),
        (transform(skewX="0.2"), {}, "skewX isn't 0"),
        (transform(invert_matrix="true"), {}, "invert_matrix is on"),
        (transform(scale="{1 2}"), {}, "scale differs between width and height"),
        (transform(rotate='{{"frame * 2"}}'), {}, "Transform3: rotate: .*is an expression"),
        (transform(translate="{1 2 3}"), {}, "translate and center need two values"),
        ("Transform {\n scale {{curve x1 0}\n", {}, "a brace isn't closed"),
        ("}", {}, "a brace isn't opened"),
        (tracker('"track 1"', '"track 1'), {"tracks": ["tip"]}, "a quote isn't closed"),
    ],
)
def test_scripts_that_are_refused(text, options, message):
    with pytest.raises(InputError, match=message):
        read_nuke(text, PLATE, **options)


AE = (DATA / "ae.txt").read_text()
CORNERS = AE.replace("Transform\tPosition", "Effects\tCorner Pin\tUpper Left").replace(
    "Transform\tScale", "Effects\tCorner Pin\tUpper Right"
)
POINTS = AE.replace("Transform\tPosition", "Motion Trackers\tTracker #1\tTrack Point #1\tFeature Center")


def test_the_point_of_a_tracker():
    np.testing.assert_allclose(read_after_effects(POINTS)[0].xy, XY)
    two = POINTS.replace(
        "End of", "Effects\tPoint Control\tPoint\n\tFrame\tX pixels\tY pixels\n\t3\t1.5\t2.5\nEnd of"
    )
    np.testing.assert_allclose(read_after_effects(two)[0].xy, XY)
    assert read_after_effects(two, "Point Control")[0].xy.tolist() == [[1, 2], [1, 2]]  # scale has two keys


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Adobe Premiere\n", "begins with 'Adobe Premiere'"),
        (AE.replace("\tUnits Per Second\t24", ""), "Units Per Second '': a number from 0.01 to 1000"),
        (AE.replace("\t24", "\t0"), "Units Per Second '0': a number from"),
        (AE.replace("\t10.5\t", "\tten\t"), r"line \d+: '0 ten 7.5 0': numbers are expected"),
        (AE.replace("\t10.5\t", "\t1e300\t"), "numbers are expected"),
        (AE.replace("\t3\t22.5", "\t1\t22.5"), "Transform Position: frames must increase"),
        (AE.replace("\t150\t150", "\t150\t140"), "Transform Scale: differs between x and y"),
        (AE.replace("\t0\t10.5\t7.5\t0\t", "\t0\t10.5\t7.5\t"), "different numbers of values"),
        (
            CORNERS,
            "2 positions fit, there are: Effects Corner Pin Upper Left; Effects Corner Pin Upper Right: ",
        ),
        (
            "Adobe After Effects 8.0 Keyframe Data\n\n\tUnits Per Second\t24\n",
            "0 positions fit, there are: none",
        ),
    ],
)
def test_keyframe_data_that_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        read_after_effects(text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--from", "tracker.nk", "--to", "ae.txt"], "one must be a .nk or .txt file"),
        (["--from", "tracker.nk", "--to", "path.json"], "--background is missing"),
        (["--from", "ae.txt", "--to", "p.json", "--background", "plate", "--track", "a"], "has no Tracker4"),
        (["--from", "none.nk", "--to", "p.json"], "none.nk: no such file"),
        (
            ["--from", "transform.nk", "--to", "ae.json", "--background", "plate"],
            "ae.json: exists: pass --overwrite",
        ),
    ],
)
def test_calls_that_are_refused(plate, capsys, words, message):
    Path("ae.json").write_text("{}")
    assert main(["keyframes", *words]) == 2
    assert message in capsys.readouterr().err
