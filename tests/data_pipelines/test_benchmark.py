"""The procedural benchmark as files: both layouts read back what was rendered."""

import json
from pathlib import Path

import numpy as np
import pytest

from gencompositor_jax.arch import tiny
from gencompositor_jax.controls.media.video import read_video
from gencompositor_jax.data_pipelines import benchmark, benchmark_files
from gencompositor_jax.data_pipelines.check import check
from gencompositor_jax.data_pipelines.videocomp import VideoCompSource
from gencompositor_jax.errors import InputError
from gencompositor_jax.masks.inflation import inflate


@pytest.fixture(scope="module")
def hyoutube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark") / "hyoutube"
    benchmark_files.write(folder, "hyoutube", clips=4)
    return folder


def test_images_are_those_of_the_examples(hyoutube):
    example = benchmark.example(2)
    for place, frames in {
        "Ground-truth/0002": example["target"],
        "Composite/0002/object_0": example["paste"],
        "Background/0002": example["background"],
        "Foreground/0002/object_0": example["foreground"],
    }.items():
        np.testing.assert_array_equal(read_video(hyoutube / place).frames, frames, err_msg=place)
    for place, mask in {"Mask": example["silhouette"], "Region": example["mask"]}.items():
        drawn = read_video(hyoutube / place / "0002/object_0").frames
        np.testing.assert_array_equal(drawn, np.repeat(mask[..., None], 3, -1) * 255)


def test_the_manifest_has_the_harder_half_of_the_clips_by_idea(hyoutube):
    manifest = json.loads((hyoutube / "benchmark.json").read_text())
    assert manifest["version"] == benchmark.VERSION and len(manifest["clips"]) == 4
    for idea in benchmark.IDEAS:
        by_name = {clip["name"]: clip[idea] for clip in manifest["clips"]}
        chosen = manifest["subsets"][idea]
        rest = by_name.keys() - set(chosen)
        assert len(chosen) == 2 and min(by_name[n] for n in chosen) >= max(by_name[n] for n in rest)
    assert benchmark.read_subsets(hyoutube) == manifest["subsets"]


def test_each_idea_measures_its_own_change():
    """A change that only one idea is for raises that idea alone."""
    clip = benchmark.example(0)
    before = benchmark.ideas(clip)
    silhouette, region = clip["silhouette"], inflate(clip["silhouette"], tiny().inflation)
    darker = np.where(silhouette[..., None], clip["paste"] // 4, clip["paste"]).astype(np.uint8)
    shaded = np.where((region & ~silhouette)[..., None], clip["target"] // 2, clip["target"]).astype(np.uint8)
    moved = np.roll(clip["mask"], 6, axis=2)
    changes = {"relit": {"paste": darker}, "shadow": {"target": shaded}, "mask": {"mask": moved}}
    for idea, change in changes.items():
        after = benchmark.ideas({**clip, **change})
        raised = {name for name in benchmark.IDEAS if abs(after[name] - before[name]) > 1e-9}
        assert raised == {idea} and after[idea] > before[idea]
    inverted = np.where(silhouette[..., None], 255 - clip["target"], clip["target"])
    assert benchmark.ideas({**clip, "target": inverted})["shadow"] == before["shadow"]


def test_the_training_layout_is_read_by_its_source(tmp_path):
    benchmark_files.write(tmp_path / "set", "videocomp", clips=2, media="mp4")
    report = check(tmp_path / "set", frames=9, fps=8, workers=1)
    assert not report.problems and report.usable == 2
    clip = VideoCompSource(tmp_path / "set", tiny()).read(1, np.random.default_rng(0), removal=False)
    example = benchmark.example(1)
    region = inflate(example["silhouette"], tiny().inflation)
    assert (clip["mask"] == region).mean() > 0.99
    assert np.abs(clip["target"].astype(int) - example["target"]).mean() < 4
    white = (example["foreground"] == 255).all(-1)
    assert clip["foreground"].shape == example["foreground"].shape and white.mean() > 0.2


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"clips": 0}, "--clips 0"),
        ({"clips": 257}, "has 256"),
        ({"layout": "videocomp"}, "--format png"),
    ],
)
def test_bad_arguments_are_refused_before_a_clip_is_made(arguments, names, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "example", None)
    with pytest.raises(InputError, match=names):
        benchmark_files.write(tmp_path / "set", **{"layout": "hyoutube", **arguments})
    assert not (tmp_path / "set").exists()


def test_other_folders_and_versions_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"benchmark\.json"):
        benchmark.read_subsets(tmp_path)
    (tmp_path / "benchmark.json").write_text('{"version": 7}')
    with pytest.raises(InputError, match="version 7"):
        benchmark.read_subsets(tmp_path)
