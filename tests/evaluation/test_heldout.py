import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from gencompositor_jax import checkpoints, cli
from gencompositor_jax.checkpoints import Model
from gencompositor_jax.controls.conditions import Conditions
from gencompositor_jax.controls.geometry.paste_back import feather_weight
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.data_pipelines.examples import TestExample as Example
from gencompositor_jax.data_pipelines.examples import held_out_example
from gencompositor_jax.errors import InputError
from gencompositor_jax.evaluation import heldout, metrics, prediction, report
from gencompositor_jax.inference import pipeline
from gencompositor_jax.pixels import to_signed

STEPS = 2
OPTIONS = SamplingOptions(steps=STEPS)


@pytest.fixture(scope="module")
def model(small_model: Model) -> Model:
    return dataclasses.replace(small_model, provenance={"step": 12})


@pytest.fixture(scope="module")
def examples(model: Model) -> list[Example]:
    arch = model.arch
    return [held_out_example(n, arch.inflation, arch.frames, arch.height, arch.width) for n in range(3)]


@pytest.fixture(scope="module")
def evaluation(model: Model) -> heldout.Evaluation:
    return heldout.evaluate(model, OPTIONS, clips=3, keep=2)


def test_a_batch_gives_what_single_clips_give(model: Model, examples: list[Example]):
    options = SamplingOptions(steps=STEPS, seed=5)
    generated = prediction.predict(model, examples, range(3), options)
    for number, (example, frames) in enumerate(zip(examples, generated, strict=True)):
        mask = example["mask"]
        composite = prediction.composite(example, frames, options.feather)
        conditions = Conditions(
            mask[None, ..., None].astype(np.float32),
            to_signed(example["masked_background"][None]),
            to_signed(example["foreground"][None]),
        )
        single = pipeline.generate(model, conditions, [number], options)[0].astype(int)
        inner = np.stack([feather_weight(frame, options.feather) == 1 for frame in mask])
        assert inner.any()
        assert np.abs(composite.astype(int) - single)[inner].max() <= 1
        np.testing.assert_array_equal(composite[~mask], example["background"][~mask])


def test_the_composite_depends_on_foreground_background_and_seed_only(model: Model, examples: list[Example]):
    def composite(seed: int = 0, **changed: np.ndarray) -> np.ndarray:
        example: Example = {**examples[0], **changed}
        (frames,) = prediction.predict(model, [example], [0], SamplingOptions(steps=STEPS, seed=seed))
        return prediction.composite(example, frames)

    base, mask = composite(), examples[0]["mask"]
    np.testing.assert_array_equal(composite(), base)
    for name in ("foreground", "masked_background"):
        assert (composite(0, **{name: 255 - examples[0][name]}) != base)[mask].any(), name
    assert (composite(seed=1) != base)[mask].any()
    for name in ("target", "silhouette", "paste"):  # not an input of the network
        np.testing.assert_array_equal(composite(0, **{name: np.zeros_like(examples[0][name])}), base)


def test_all_batches_use_one_program_also_the_shorter_last_one(model: Model, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(heldout, "BATCH", 2)
    programs: list[Any] = [pipeline.encode, pipeline.advance, pipeline.decode]
    for program in programs:
        program.clear_cache()
    heldout.evaluate(model, OPTIONS, clips=3)
    assert [program._cache_size() for program in programs] == [1, 1, 1]


def test_the_report_is_deterministic_and_does_not_depend_on_the_batch_size(
    model: Model, evaluation: heldout.Evaluation, monkeypatch: pytest.MonkeyPatch
):
    assert heldout.evaluate(model, OPTIONS, clips=3).report == evaluation.report
    monkeypatch.setattr(heldout, "BATCH", 2)
    other = heldout.evaluate(model, OPTIONS, clips=3).report
    for clip, same in zip(evaluation.report["clips"], other["clips"], strict=True):
        assert clip["paste"] == same["paste"]
        assert clip["model"] == pytest.approx(same["model"], abs=0.02)  # sums in another order
    reseeded = heldout.evaluate(model, SamplingOptions(steps=STEPS, seed=1), clips=3).report
    assert reseeded["clips"] != evaluation.report["clips"]


def test_means_and_gains_are_those_of_the_clips(evaluation: heldout.Evaluation, examples: list[Example]):
    clips, means = evaluation.report["clips"], evaluation.report["mean_db"]
    assert len(clips) == 3 and len(evaluation.shown) == 2
    assert set(means) == {*heldout.BASELINES, heldout.ALONE, heldout.MEAN, heldout.MODEL}
    for method, row in means.items():
        assert tuple(row) == heldout.REGIONS
        for region, mean in row.items():
            assert mean == pytest.approx(np.mean([clip[method][region] for clip in clips]), abs=2e-3)
            if method in heldout.BASELINES:
                gain = evaluation.report["model_gain_db"][method][region]["mean"]
                assert gain == pytest.approx(means[heldout.MODEL][region] - mean, abs=2e-3)
    example = examples[1]
    expected = metrics.psnr(example["paste"], example["target"], example["silhouette"])
    assert clips[1]["paste"]["silhouette"] == pytest.approx(expected, abs=1e-3)


def test_scored_regions_do_not_depend_on_the_jittered_mask(model: Model, examples: list[Example]):
    inflation = model.arch.inflation
    regions = heldout.scored_regions(examples[0], inflation)
    moved = heldout.scored_regions({**examples[0], "mask": ~examples[0]["mask"]}, inflation)
    for name in heldout.REGIONS:
        np.testing.assert_array_equal(regions[name], moved[name])
    assert (regions["target"] >= regions["silhouette"]).all()
    assert not (regions["target"] & regions["ring"]).any()


def test_the_ground_truth_has_the_highest_score_in_every_region(model: Model, examples: list[Example]):
    """With the target as the model's composite: the cap in every region, and a gain over every baseline."""
    scores = []
    for example in examples:
        regions = heldout.scored_regions(example, model.arch.inflation)
        ours = dict.fromkeys((heldout.ALONE, heldout.MEAN, heldout.MODEL), example["target"])
        composites = {**heldout.baseline_composites(example, regions), **ours}
        scores.append(heldout.score(composites, example["target"], regions))
    summary = heldout.summary(scores)
    assert set(summary["mean_db"][heldout.MODEL].values()) == {metrics.CAP}
    for gains in summary["model_gain_db"].values():
        assert gains["target"]["mean"] > 10 and gains["silhouette"]["mean"] > 10


def test_the_mean_of_a_region_is_over_the_clips_that_have_it():
    full = dict.fromkeys(heldout.REGIONS, 10.0)
    without = {name: 20.0 for name in heldout.REGIONS if name != "ring"}
    methods = (*heldout.BASELINES, heldout.ALONE, heldout.MEAN, heldout.MODEL)
    means = heldout.summary([dict.fromkeys(methods, without), dict.fromkeys(methods, full)])["mean_db"]
    assert means["paste"] == {"target": 15.0, "ring": 10.0, "silhouette": 15.0}


def test_run_writes_what_it_returns(model: Model, tmp_path):
    checkpoints.save(tmp_path / "model", model)
    out = tmp_path / "results.json"
    evaluation = heldout.run(tmp_path / "model", clips=1, options=OPTIONS, out=out)
    assert json.loads(out.read_text()) == evaluation.report
    assert evaluation.report["protocol"]["clips"] == 1
    assert evaluation.report["model"]["trained_steps"] == 12
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "results.json"]
    with pytest.raises(InputError, match="--overwrite"):
        heldout.run(tmp_path / "model", out=out)


def test_the_command_prints_the_table_and_writes_the_report(model: Model, tmp_path, capsys):
    checkpoints.save(tmp_path / "model", model)
    out = tmp_path / "results.json"
    arguments = ["evaluate", "--checkpoint", str(tmp_path / "model"), "--out", str(out)]
    assert cli.main([*arguments, "--clips", "1", "--steps", str(STEPS)]) == 0
    assert capsys.readouterr().out.strip() == report.table(json.loads(out.read_text()))
    assert cli.main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"clips": 0}, "--clips 0"),
        ({"checkpoint": "nowhere"}, "nowhere"),
        ({"out": "nowhere/results.json"}, "nowhere"),
    ],
)
def test_bad_arguments_are_refused_before_the_evaluation(arguments, names, monkeypatch):
    monkeypatch.setattr(heldout, "evaluate", None)
    with pytest.raises(InputError, match=names):
        heldout.run(**arguments)


def test_the_table_has_every_method_and_its_scores(evaluation: heldout.Evaluation):
    lines = report.table(evaluation.report).splitlines()
    rows = [line for line in lines if line.startswith("| ")][1:]
    assert len(rows) == len(report.ROWS) == len(evaluation.report["mean_db"])
    for line, method in zip(rows, report.ROWS, strict=True):
        for region in heldout.REGIONS:
            assert f"{evaluation.report['mean_db'][method][region]:.1f}" in line
    assert all(line.count("|") == 5 for line in lines[: len(rows) + 2])
    assert "3 held-out clips" in lines[-1] and "±" in lines[-1]


BEGIN, END = report.BEGIN.format("heldout"), report.END.format("heldout")


def test_insert_replaces_the_text_between_the_markers():
    document = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    once = report.insert(document, "new")
    assert once == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    assert report.insert(once, "new") == once


@pytest.mark.parametrize("document", ["", BEGIN, END + BEGIN, 2 * (BEGIN + END)])
def test_insert_refuses_a_document_without_its_markers(document):
    with pytest.raises(InputError, match="heldout:begin"):
        report.insert(document, "new")
