"""compose-dataset: results in the reference's place, resumed, by the model and by baselines."""

import dataclasses
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from gencompositor_jax import cli
from gencompositor_jax.controls.media.video import read_video
from gencompositor_jax.controls.media.video_out import write_image_folder, write_video
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.data_pipelines import benchmark, benchmark_files
from gencompositor_jax.errors import InputError
from gencompositor_jax.evaluation import cases, scoring, tables
from gencompositor_jax.evaluation.composing import DatasetOptions, compose_dataset, tasks
from gencompositor_jax.evaluation.results import ResultsOptions, reference_clips

FRAMES = 6


def moving_disc() -> tuple[np.ndarray, np.ndarray]:
    """A composite, uint8 [6, 48, 64, 3], and its foreground's mask, which the third frame lacks."""
    rng = np.random.default_rng(0)
    scene = cv2.resize(rng.integers(60, 200, (6, 8, 3)).astype(np.uint8), (64, 48))
    frames, mask = np.repeat(scene[None], FRAMES, 0), np.zeros((FRAMES, 48, 64), bool)
    for t in range(FRAMES):
        if t != 2:
            disc = np.zeros((48, 64), np.uint8)
            cv2.circle(disc, (20 + 4 * t, 22), 9 + t % 2, 1, -1)
            mask[t] = disc > 0
            frames[t][mask[t]] = (220, 40, 60)
    return frames, mask


@pytest.fixture(scope="module")
def hyoutube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, (frames, mask) = tmp_path_factory.mktemp("hyoutube"), moving_disc()
    for place, video in {
        "Ground-truth/abc": frames,
        "Composite/abc/object_0": frames,
        "Mask/abc/object_0": np.repeat(mask[..., None].astype(np.uint8) * 255, 3, -1),
    }.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        write_image_folder(folder / place, video)
    return folder


def test_an_element_is_lifted_in_whole_pixels_and_pasted_where_it_was():
    frames, mask = moving_disc()
    element, points = cases.lifted(frames, mask)
    assert element.shape == (FRAMES, 21, 21, 4) and (points[2] == points[1]).all()
    for t in range(FRAMES):
        x, y = (points[t] - 10).astype(int)
        part = element[t][..., 3] > 0
        assert (mask[t, y : y + 21, x : x + 21] == part).all() and part.sum() == mask[t].sum()
    only = np.zeros_like(mask)
    only[3] = mask[3]
    assert (cases.lifted(frames, only)[1] == points[3]).all()  # all frames keep the only point


@pytest.mark.parametrize(("frames", "length"), [(1, 9), (9, 9), (10, 13), (20, 21), (49, 49)])
def test_clips_are_extended_to_lengths_that_codecs_take(frames, length):
    assert cases.clip_length(frames) == length
    assert len(cases.extended(np.arange(frames), length)) == length


def test_the_paste_of_what_was_lifted_is_the_composite(hyoutube, tmp_path):
    options = DatasetOptions("hyoutube", hyoutube, tmp_path / "out", "paste")
    assert compose_dataset(options) == 1
    made = tmp_path / "out" / "abc" / "object_0"
    np.testing.assert_array_equal(read_video(made).frames, moving_disc()[0])
    assert sorted(path.name for path in made.iterdir()) == [f"{t:05d}.png" for t in range(FRAMES)]
    assert compose_dataset(options) == 0  # all are there
    for method in ("seamless_clone", "model"):
        with pytest.raises(InputError, match="has another method"):
            compose_dataset(dataclasses.replace(options, method=method))
    elsewhere = tmp_path / "reference"
    shutil.copytree(hyoutube, elsewhere)
    assert compose_dataset(dataclasses.replace(options, reference=elsewhere)) == 0  # a copy
    Image.fromarray(moving_disc()[0][1]).save(elsewhere / "Composite" / "abc" / "object_0" / "00000.png")
    with pytest.raises(InputError, match="has another reference"):
        compose_dataset(dataclasses.replace(options, reference=elsewhere))
    (tmp_path / "out" / "made_by.json").unlink()
    with pytest.raises(InputError, match=r"holds other files, and no made_by.json"):
        compose_dataset(options)


def test_a_model_changes_the_inflated_mask_only(hyoutube, small_checkpoint, tmp_path):
    sampling = SamplingOptions(steps=2, detail="model")
    options = DatasetOptions(
        "hyoutube", hyoutube, tmp_path / "out", checkpoint=Path(small_checkpoint), sampling=sampling
    )
    compose_dataset(options)
    made = read_video(tmp_path / "out" / "abc" / "object_0").frames
    frames, mask = moving_disc()
    changed = (made != frames).any(-1)
    assert made.shape == frames.shape and changed[0].any() and not changed[2].any()
    far = cv2.dilate(mask[0].astype(np.uint8), np.ones((61, 61), np.uint8)) == 0
    assert not changed[0][far].any()


def test_baselines_of_the_benchmark_are_those_of_the_held_out_protocol(tmp_path):
    reference = tmp_path / "reference"
    benchmark_files.write(reference, "hyoutube", clips=2)
    for method in ("paste", "color_transfer", "seamless_clone"):
        compose_dataset(DatasetOptions("procedural", reference, tmp_path / method, method))
    paste = read_video(tmp_path / "paste" / "0001" / "object_0").frames
    assert np.abs(paste.astype(int) - benchmark.example(1)["paste"]).max() <= 1
    report = scoring.score(
        ResultsOptions(
            "procedural",
            tuple((name, tmp_path / name) for name in ("seamless_clone", "color_transfer", "paste")),
            reference,
            metrics=("target_psnr", "fmse"),
        )
    )
    assert set(report["columns"]) == {"target_psnr", "fmse"} and not report["absent"]
    assert (
        len({report["methods"][m]["fmse"]["mean"] for m in ("paste", "color_transfer", "seamless_clone")})
        == 3
    )


def test_a_model_of_another_size_is_refused_on_the_benchmark(small_checkpoint, tmp_path):
    benchmark_files.write(tmp_path / "reference", "hyoutube", clips=1)
    options = DatasetOptions(
        "procedural", tmp_path / "reference", tmp_path / "out", checkpoint=Path(small_checkpoint)
    )
    with pytest.raises(InputError, match="5 frames of 48x32"):
        compose_dataset(options)


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    """A manifest of one group of 10 frames, which codecs take as 13."""
    frames, mask = moving_disc()
    folder = tmp_path / "trajectories"
    folder.mkdir()
    background = np.repeat(frames[2:3], 12, 0)
    write_video(folder / "b.mp4", background, 8)
    rgba = np.concatenate([frames[:1], mask[:1, ..., None].astype(np.uint8) * 255], -1)
    Image.fromarray(rgba[0]).save(folder / "f.png")
    group = {"name": "g1", "background": "b.mp4", "foreground": "f.png", "trajectory": "20,24 40,24"}
    (folder / "manifest.json").write_text(json.dumps({"version": 1, "frames": 10, "groups": [group]}))
    return folder


def test_groups_of_a_manifest_are_composed_and_scored(groups, tmp_path):
    assert compose_dataset(DatasetOptions("trajectory", groups, tmp_path / "out", "paste")) == 1
    made = read_video(tmp_path / "out" / "g1").frames
    assert made.shape == (10, 48, 64, 3)
    red = np.abs(made.astype(int) - (220, 40, 60)).max(-1) < 30
    columns = [np.nonzero(frame)[1].mean() for frame in red]
    assert columns[-1] - columns[0] == pytest.approx(20, abs=1)
    report = scoring.score(
        ResultsOptions("trajectory", (("paste", tmp_path / "out"),), groups, metrics=("warping_error",))
    )
    assert report["protocol"]["frames_per_clip"] == [10] and list(report["methods"]) == ["paste"]
    assert report["methods"]["paste"]["warping_error"]["mean"] >= 0
    with pytest.raises(InputError, match="--metrics: 'lpips'"):  # there is no ground truth
        scoring.score(ResultsOptions("trajectory", (("a", tmp_path / "out"),), groups, metrics=("lpips",)))


def test_results_have_the_names_of_the_background_s_images(groups, tmp_path):
    """Numbered from 1, and more than count: what is scored is the same frame of both."""
    content = json.loads((groups / "manifest.json").read_text())
    background, mask = groups / "images", np.zeros((48, 64, 3), np.uint8)
    mask[10:40, 8:56] = 255
    for folder in (background, groups / "mask"):
        folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(1, 13):
        noise = rng.integers(0, 256, (48, 64, 3)).astype(np.uint8)
        Image.fromarray(noise).save(background / f"frame_{number}.png")
        Image.fromarray(mask).save(groups / "mask" / f"frame_{number}.png")
    content["groups"][0] |= {"background": "images", "mask": "mask"}
    content["groups"].append(content["groups"][0] | {"name": "g2", "mask": None})
    (groups / "manifest.json").write_text(json.dumps(content))
    assert compose_dataset(DatasetOptions("trajectory", groups, tmp_path / "out", "paste")) == 2
    names = {path.stem for path in (tmp_path / "out" / "g1").iterdir()}
    assert names == {f"frame_{number}" for number in range(1, 11)}
    options = ResultsOptions("trajectory", (("paste", tmp_path / "out"),), groups, frames=8)
    chosen = dataclasses.replace(options, metrics=("background_psnr",))
    report = scoring.score(chosen)
    assert report["methods"]["paste"]["background_psnr"]["mean"] == 60.0  # of the group that has a mask
    assert report["clips"]["paste"]["g2"] == {}
    assert "by the released model" in tables.conditions(report)
    content["groups"][0]["mask"] = None
    (groups / "manifest.json").write_text(json.dumps(content))
    assert scoring.score(chosen)["absent"] == {"background_psnr": "no clip has a background and a mask"}
    (groups / "manifest.json").write_text(json.dumps(content | {"frames": 49}))
    with pytest.raises(InputError, match="has 12 frames, the manifest says 49"):
        scoring.score(chosen)
    with pytest.raises(InputError, match="--clips 5"):
        compose_dataset(DatasetOptions("trajectory", groups, tmp_path / "new", "paste", clips=5))
    assert not (tmp_path / "new").exists()


def test_only_missing_clips_are_read(hyoutube, tmp_path, monkeypatch):
    options = DatasetOptions("hyoutube", hyoutube, tmp_path / "out", "paste")
    compose_dataset(options)
    monkeypatch.setattr(cases, "case_of", None)
    assert list(tasks(options, reference_clips("hyoutube", hyoutube, None), None, set())) == []


def test_a_folder_that_isn_t_the_benchmark_is_refused(hyoutube, tmp_path):
    shutil.copytree(hyoutube, tmp_path / "reference")
    (tmp_path / "reference" / "benchmark.json").write_text('{"version": 1, "subsets": {}}')
    options = DatasetOptions("procedural", tmp_path / "reference", tmp_path / "out", "paste")
    with pytest.raises(InputError, match="is no clip of the benchmark"):
        compose_dataset(options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version 2"),
        ({"frames": 0}, "frames: 0"),
        ({"groups": []}, "groups: the list is empty"),
        ({"groups": [{"name": "g"}]}, r"groups\[0\]: field 'background' is missing"),
        ({"mask": "no.mp4"}, r"groups\[0\].mask: .*no such file"),
        ({"name": "a/b"}, "without folders"),
        ({"trajectory": "1"}, r"groups\[0\].trajectory"),
        ({"anchor": "top"}, "anchor"),
    ],
)
def test_a_manifest_s_errors_name_the_field(groups, change, message):
    file = groups / "manifest.json"
    content = json.loads(file.read_text())
    inside = change.keys() - content.keys()
    (content["groups"][0] if inside else content).update(change)
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        cases.manifest.read_groups(groups)


def test_the_command_makes_results_and_says_how_to_score_them(hyoutube, tmp_path, capsys):
    words = [
        "compose-dataset",
        "--protocol",
        "hyoutube",
        "--reference",
        str(hyoutube),
        "--out",
        str(tmp_path / "o"),
    ]
    assert cli.main([*words, "--method", "seamless_clone", "--clips", "1"]) == 0
    said = capsys.readouterr().out
    assert "1 clips made" in said and f"--results {tmp_path / 'o'}" in said
    assert cli.main([*words, "--method", "paste", "--checkpoint", "x"]) == 2
    assert "uses none" in capsys.readouterr().err
    assert cli.main([*words, "--method", "paste", "--steps", "7"]) == 2
    assert "samples nothing" in capsys.readouterr().err
