"""Folders of results against a protocol's reference: from files to the report and the table."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from gencompositor_jax import cli
from gencompositor_jax.controls.media.video_out import write_image_folder, write_video
from gencompositor_jax.data_pipelines import benchmark, benchmark_files
from gencompositor_jax.errors import InputError
from gencompositor_jax.evaluation import measures, metrics, results, scoring, tables
from gencompositor_jax.evaluation.metrics import frames as per_frame
from gencompositor_jax.evaluation.results import INPUT, TRUTH, ResultsOptions

CLIPS = 3
PLAIN = tuple(scoring.measures_of("procedural"))  # without weights, whatever is installed


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark") / "reference"
    benchmark_files.write(folder, "hyoutube", clips=CLIPS)
    return folder


@pytest.fixture(scope="module")
def better(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Halfway from the input to the ground truth."""
    folder = tmp_path_factory.mktemp("results") / "better"
    for number in range(CLIPS):
        clip, place = benchmark.example(number), folder / f"{number:04d}" / "object_0"
        place.parent.mkdir(parents=True)
        half = (clip["paste"].astype(int) + clip["target"]) // 2
        write_image_folder(place, half.astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def report(reference: Path, better: Path) -> dict[str, Any]:
    return scoring.score(ResultsOptions("procedural", (("better", better),), reference, metrics=PLAIN))


def test_values_are_the_metrics_of_the_files(report):
    clip = benchmark.example(1)
    row = report["clips"][INPUT]["0001/object_0"]
    paste, target, mask = clip["paste"], clip["target"], clip["silhouette"]
    assert row["psnr"] == pytest.approx(per_frame.psnr(paste, target).mean(), rel=1e-5)
    assert row["fmse"] == pytest.approx(np.nanmean(per_frame.fmse(paste, target, mask)), rel=1e-5)
    assert row["ring_psnr"] == pytest.approx(metrics.psnr(paste, target, clip["ring"]), rel=1e-5)
    assert set(row) == set(report["columns"])


def test_a_result_between_input_and_ground_truth_ranks_between_them(report):
    order = [INPUT, "better", TRUTH]
    for metric in ("psnr", "ssim", "fssim", "target_psnr", "ring_psnr", "psnr_peak_target"):
        values = [report["methods"][method][metric]["mean"] for method in order]
        assert values == sorted(values) and values[0] < values[2], metric
    for metric in ("mse", "fmse"):
        assert report["methods"]["better"][metric]["mean"] == pytest.approx(
            report["methods"][INPUT][metric]["mean"] / 4, rel=0.05
        )
    gain = report["differences"][INPUT]["psnr"]  # 6 dB in every clip
    assert gain["mean"] == pytest.approx(6, abs=0.2) and gain["high"] - gain["low"] < 0.3


def test_subsets_are_means_over_their_clips(report, reference):
    for idea, names in benchmark.read_subsets(reference).items():
        subset = report["subsets"][idea]
        rows = [report["clips"]["better"][f"{name}/object_0"]["psnr"] for name in names]
        assert subset["clips"] == len(names) == 2
        assert subset["methods"]["better"]["psnr"]["mean"] == pytest.approx(np.mean(rows), rel=1e-5)


def test_the_conditions_and_published_figures_are_stated(report, reference, better, tmp_path):
    stated = report["protocol"]
    assert (stated["clips"], stated["frames_per_clip"], stated["height_width"]) == (CLIPS, [9], [[64, 96]])
    assert stated["resize"] == "none" and stated["stride"] == 1
    plain = tmp_path / "reference"
    shutil.copytree(reference, plain)
    (plain / benchmark.MANIFEST).unlink()  # published figures aren't of the benchmark
    options = ResultsOptions(
        "hyoutube", (("a", better),), plain, clips=1, frames=5, stride=4, metrics=PLAIN[:3]
    )
    with pytest.raises(InputError, match=f"--clips 99: .* has {CLIPS}: pass {CLIPS} or less"):
        results.reference_clips(options.protocol, options.reference, 99)
    other = scoring.score(options)
    stated = other["protocol"]
    assert (stated["clips"], stated["frames_per_clip"], stated["stride"]) == (1, [3], 4)
    assert stated["height_width"] == [[256, 256]] and "bilinear" in stated["resize"]
    text = tables.markdown(other)
    assert "1 clips of 3 frames, stride 4, 256 x 256 pixels" in text
    assert not report["published"]
    assert "| CO2Net (published) |" in text and "37.61" in text and "Published: " in text


def test_every_method_has_a_row_and_every_metric_a_column(report):
    lines = tables.markdown(report).splitlines()
    heads = lines[0].split(" | ")
    assert len(heads) == 1 + len(report["columns"])
    for method in ("better", INPUT, TRUTH):
        (row,) = (line for line in lines if line.startswith(f"| {method} |"))
        assert f"{report['methods'][method]['psnr']['mean']:.2f}" in row
        assert row.count("|") == lines[0].count("|")


def test_the_command_writes_what_it_prints(reference, better, tmp_path, capsys):
    out = tmp_path / "r.json"
    words = ["evaluate", "--protocol", "procedural", "--reference", str(reference), "--clips", "1"]
    words += ["--metrics", "psnr,ring_psnr"]
    assert cli.main([*words, "--results", f"mine={better}", "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == tables.markdown(json.loads(out.read_text())).strip()
    assert cli.main([*words, "--results", str(better), "--out", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    for written, message in (
        (["--out", str(tmp_path), "--overwrite"], "holds more than"),
        (["--page", str(tmp_path / "empty"), "--overwrite"], "--page .* is a folder"),
        (["--out", str(tmp_path / "x"), "--page", f"{tmp_path}/./x"], "is --out, too"),
    ):
        (tmp_path / "empty").mkdir(exist_ok=True)
        assert cli.main([*words, "--results", str(better), *written]) == 2
        assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--protocol", "procedural", "--reference", "R"], "--reference: isn't an option"),
        (["--results", "D", "--protocol", "procedural"], "--reference is missing"),
        (["--results", "D", "--reference", "R"], "--protocol is missing"),
        (["--results", "D", "--checkpoint", "C"], "--checkpoint: isn't an option"),
        (["--results", "D", "--results", "x/D", "--reference", "R", "--protocol", "hyoutube"], "NAME=DIR"),
        (["--results", "=D", "--reference", "R", "--protocol", "hyoutube"], "--results =D"),
        (["--results", "D", "--reference", "R", "--protocol", "hyoutube", "--resize", "9"], "--resize 9"),
        (["--results", "D", "--reference", "R", "--protocol", "hyoutube", "--stride", "0"], "--stride: 0"),
        (["--results", "D", "--reference", "R", "--protocol", "hyoutube", "--weights", "x=/"], "--weights x"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(words, names, capsys):
    assert cli.main(["evaluate", *words]) == 2
    assert names in capsys.readouterr().err


def test_results_of_another_size_or_length_are_refused(reference, better, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(better, other)
    shutil.rmtree(other / "0000" / "object_0")
    write_image_folder(other / "0000" / "object_0", np.zeros((9, 32, 48, 3), np.uint8))
    with pytest.raises(InputError, match="48x32 pixels, its reference has 9 frames of 96x64"):
        scoring.score(ResultsOptions("procedural", (("other", other),), reference))
    with pytest.raises(InputError, match=r"0002.*\(1 of 3 clips"):
        shutil.rmtree(other / "0002")
        scoring.score(ResultsOptions("procedural", (("other", other),), reference))


def test_all_frames_of_a_result_are_counted_whatever_is_scored(reference, better, tmp_path):
    """Also where a stride would take as many of a shorter one."""
    other = tmp_path / "other"
    (other / "0000").mkdir(parents=True)
    write_video(other / "0000" / "object_0.mp4", np.zeros((6, 64, 96, 3), np.uint8), 8)
    for part in ({"stride": 5}, {"frames": 4}):
        options = ResultsOptions("procedural", (("other", other),), reference, clips=1, metrics=PLAIN, **part)
        with pytest.raises(InputError, match="has 6 frames, its reference has 9"):
            scoring.score(options)


def test_frames_that_are_too_small_for_a_metric_are_a_line(reference, better):
    options = ResultsOptions(
        "procedural", (("a", better),), reference, clips=1, metrics=("psnr", "ssim"), size=(8, 8)
    )
    found = scoring.score(options)
    assert set(found["columns"]) == {"psnr"} and "11 pixels or more" in found["absent"]["ssim"]


def test_the_background_may_change_in_the_released_model_s_region_at_every_size():
    rng = np.random.default_rng(0)
    for height, reach in ((480, 25), (240, 12), (96, 5)):
        scene = rng.integers(0, 256, (1, height, 2 * height, 3), dtype=np.uint8)
        mask = np.zeros((1, height, 2 * height), bool)
        mask[:, height // 3 : height // 2, height // 3 : height // 2] = True
        for wider, exact in ((reach, True), (reach + 2, False)):
            around = cv2.dilate(mask[0].view(np.uint8), np.ones((2 * wider + 1, 1), np.uint8)) > 0
            frames = np.where(around[None, ..., None], 255 - scene, scene)
            clip = measures.Clip(frames, None, mask, scene)
            value = measures.BACKGROUND["background_psnr"].compute(clip)
            assert (value == metrics.CAP) == exact


def test_folders_with_an_equals_sign(tmp_path):
    folder = tmp_path / "lr=0.1" / "out"
    folder.mkdir(parents=True)
    assert results.parse_results(str(folder)) == ("out", folder)
    assert results.parse_results(f"mine={folder}") == ("mine", folder)
    assert results.parse_results("mine=elsewhere") == ("mine", Path("elsewhere"))


@pytest.mark.parametrize(
    ("given", "size"), [("256", (256, 256)), ("640x480", (480, 640)), ("native", "native")]
)
def test_sizes(given, size):
    assert results.parse_size(given) == size


def test_unknown_metrics_are_refused(reference, better):
    options = ResultsOptions("procedural", (("better", better),), reference, metrics=("psnr", "vmaf"))
    with pytest.raises(InputError, match="--metrics: 'vmaf'"):
        scoring.score(options)


def test_distances_of_sets_of_clips_are_added_or_are_a_line():
    rng = np.random.default_rng(0)
    real = list(rng.normal(size=(5, 3)))
    features = {"same": real, "changed": [clip + 4 for clip in real], scoring.REAL: real}

    def empty(lengths: list[int]) -> dict[str, Any]:
        methods: dict[str, dict[str, Any]] = {"same": {}, "changed": {}}
        return {"protocol": {"frames_per_clip": lengths}, "columns": {}, "absent": {}, "methods": methods}

    report = empty([9])
    scoring.add_set_distances(report, features, ("fvd", "fvd_infinity", "kvd"))
    assert report["methods"]["same"]["fvd"]["mean"] == pytest.approx(0, abs=1e-6)
    assert report["methods"]["changed"]["fvd"]["mean"] == pytest.approx(48, rel=1e-4)
    assert report["methods"]["changed"]["fvd_infinity"]["mean"] == pytest.approx(48, rel=1e-4)
    assert report["methods"]["changed"]["kvd"]["mean"] > report["methods"]["same"]["kvd"]["mean"]
    assert set(report["columns"]) == {"fvd", "fvd_infinity", "kvd"} and not report["absent"]
    for lengths, found in (([9, 17], features), ([9], {name: few[:1] for name, few in features.items()})):
        report = empty(lengths)
        scoring.add_set_distances(report, found, ("fvd",))
        assert report["methods"] == {"same": {}, "changed": {}}
        assert "2 clips or more" in report["absent"]["fvd"] and not report["columns"]


def test_metrics_without_any_value_are_a_line():
    value = {"mean": 1.0, "low": None, "high": None}
    methods: dict[str, dict[str, Any]] = {"a": {"x": None, "y": value}, "b": {"x": None, "y": None}}
    report: dict[str, Any] = {"methods": methods, "columns": {"x": {}, "y": {}}, "absent": {}}
    plain = scoring.Measure("", "lower", 1, lambda clip: float("nan"), lacks="needs more")
    scoring.move_empty(report, {"x": plain, "y": plain})
    assert report["absent"] == {"x": "needs more"} and set(report["columns"]) == {"y"}


def test_features_of_every_clip_are_compared(reference, better, monkeypatch):
    """With the mean colour of the clip as its features."""

    def features(videos: list[np.ndarray]) -> np.ndarray:
        return np.stack([video.mean(axis=(0, 1, 2)) for video in videos])

    loaded = scoring.Learned({}, features, {})
    monkeypatch.setattr(scoring.learned, "load", lambda names, paths: loaded)
    report = scoring.score(ResultsOptions("procedural", (("better", better),), reference, metrics=("fvd",)))
    assert report["methods"]["better"]["fvd"]["mean"] < report["methods"][INPUT]["fvd"]["mean"]
    short = ResultsOptions("procedural", (("better", better),), reference, metrics=("fvd",), frames=5)
    assert "9 frames or more" in scoring.score(short)["absent"]["fvd"]
