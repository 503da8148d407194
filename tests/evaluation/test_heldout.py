import dataclasses
import json
from typing import Any

import jax
import numpy as np
import pytest

from gencompositor_jax import checkpoints, cli
from gencompositor_jax.arch import ModelArch, tiny
from gencompositor_jax.checkpoints import Model
from gencompositor_jax.controls.conditions import Conditions
from gencompositor_jax.controls.geometry.paste_back import feather_weight
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.data_pipelines.examples import TestExample as Example
from gencompositor_jax.data_pipelines.examples import held_out_example
from gencompositor_jax.errors import InputError
from gencompositor_jax.evaluation import heldout, metrics, prediction, report
from gencompositor_jax.inference import pipeline
from gencompositor_jax.model.denoiser import Denoiser
from gencompositor_jax.pixels import to_signed

STEPS = 2
OPTIONS = SamplingOptions(steps=STEPS)


@pytest.fixture(scope="module")
def model() -> Model:
    """The smallest whole model; its weights are noise, so that every input changes its answer."""
    stack = dataclasses.replace(tiny().backbone, num_layers=2, num_heads=2, head_dim=16, time_embed_dim=16)
    arch: ModelArch = dataclasses.replace(
        tiny(),
        frames=5,
        height=32,
        width=48,
        backbone=stack,
        branch=dataclasses.replace(stack, num_layers=1),
        base_grid=(2, 3),
    )
    arrays = jax.jit(Denoiser(arch).init)(jax.random.key(0))
    rng = np.random.default_rng(0)
    for name in ("backbone", "branch"):
        noisy = jax.tree.map(
            lambda x: x + 0.1 * rng.standard_normal(x.shape, np.float32), arrays[name]["params"]
        )
        arrays[name] = {**arrays[name], "params": noisy}
    text = np.zeros((stack.text_tokens, stack.text_dim), np.float32)
    return Model(arch, {**arrays, "codec": {}, "null_text": text}, {"step": 12})


@pytest.fixture(scope="module")
def examples(model: Model) -> list[Example]:
    arch = model.arch
    return [held_out_example(n, arch.inflation, arch.frames, arch.height, arch.width) for n in range(3)]


@pytest.fixture(scope="module")
def judged(model: Model) -> heldout.Judged:
    return heldout.evaluate(model, OPTIONS, clips=3, keep=2)


def test_a_batch_gives_what_single_clips_give(model: Model, examples: list[Example]):
    options = SamplingOptions(steps=STEPS, seed=5)
    answers = prediction.predict(model, examples, range(3), options)
    for number, (example, answer) in enumerate(zip(examples, answers, strict=True)):
        mask = example["mask"]
        conditions = Conditions(
            mask[None, ..., None].astype(np.float32),
            to_signed(example["masked_background"][None]),
            to_signed(example["foreground"][None]),
        )
        alone = pipeline.generate(model, conditions, [number], options)[0].astype(int)
        inner = np.stack([feather_weight(frame, options.feather) == 1 for frame in mask])
        assert inner.any()
        assert np.abs(answer.astype(int) - alone)[inner].max() <= 1
        np.testing.assert_array_equal(answer[~mask], example["background"][~mask])


def test_the_network_reads_foreground_background_and_seed(model: Model, examples: list[Example]):
    def answer(seed: int = 0, **changed: np.ndarray) -> np.ndarray:
        example: Example = {**examples[0], **changed}
        return prediction.predict(model, [example], [0], SamplingOptions(steps=STEPS, seed=seed))[0]

    base, mask = answer(), examples[0]["mask"]
    np.testing.assert_array_equal(answer(), base)
    for name in ("foreground", "masked_background"):
        assert (answer(0, **{name: 255 - examples[0][name]}) != base)[mask].any(), name
    assert (answer(seed=1) != base)[mask].any()
    for name in ("target", "silhouette", "paste"):  # what the network must not see
        np.testing.assert_array_equal(answer(0, **{name: np.zeros_like(examples[0][name])}), base)


def test_one_program_serves_all_batches_the_short_last_one_too(model: Model, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(heldout, "BATCH", 2)
    programs: list[Any] = [pipeline.encode, pipeline.advance, pipeline.decode]
    for program in programs:
        program.clear_cache()
    heldout.evaluate(model, OPTIONS, clips=3)
    assert [program._cache_size() for program in programs] == [1, 1, 1]


def test_the_protocol_is_deterministic_and_knows_no_batch_size(
    model: Model, judged: heldout.Judged, monkeypatch: pytest.MonkeyPatch
):
    assert heldout.evaluate(model, OPTIONS, clips=3).report == judged.report
    monkeypatch.setattr(heldout, "BATCH", 2)
    other = heldout.evaluate(model, OPTIONS, clips=3).report
    for clip, same in zip(judged.report["clips"], other["clips"], strict=True):
        assert clip["paste"] == same["paste"]
        assert clip["model"] == pytest.approx(same["model"], abs=0.02)  # sums in another order
    reseeded = heldout.evaluate(model, SamplingOptions(steps=STEPS, seed=1), clips=3).report
    assert reseeded["clips"] != judged.report["clips"]


def test_means_and_gains_are_those_of_the_clips(judged: heldout.Judged, examples: list[Example]):
    clips, means = judged.report["clips"], judged.report["mean_db"]
    assert len(clips) == 3 and len(judged.shown) == 2
    assert set(means) == {*heldout.BASELINES, heldout.MODEL}
    for method, row in means.items():
        assert tuple(row) == heldout.REGIONS
        for region, mean in row.items():
            assert mean == pytest.approx(np.mean([clip[method][region] for clip in clips]), abs=2e-3)
            if method != heldout.MODEL:
                gain = judged.report["model_gain_db"][method][region]["mean"]
                assert gain == pytest.approx(means[heldout.MODEL][region] - mean, abs=2e-3)
    example = examples[1]
    own = metrics.psnr(example["paste"], example["target"], example["silhouette"])
    assert clips[1]["paste"]["silhouette"] == pytest.approx(own, abs=1e-3)


def test_judged_regions_do_not_know_the_jittered_mask(model: Model, examples: list[Example]):
    inflation = model.arch.inflation
    regions = heldout.judged_regions(examples[0], inflation)
    moved = heldout.judged_regions({**examples[0], "mask": ~examples[0]["mask"]}, inflation)
    for name in heldout.REGIONS:
        np.testing.assert_array_equal(regions[name], moved[name])
    assert (regions["target"] >= regions["silhouette"]).all()
    assert not (regions["target"] & regions["ring"]).any()


def test_the_right_answer_wins_everywhere(model: Model, examples: list[Example]):
    """With the target as the model's answer: the cap in every region, a gain over everything."""
    scores = []
    for example in examples:
        regions = heldout.judged_regions(example, model.arch.inflation)
        answers = {**heldout.baseline_answers(example, regions), heldout.MODEL: example["target"]}
        scores.append(heldout.judge(answers, example["target"], regions))
    out = heldout.summary(scores)
    assert set(out["mean_db"][heldout.MODEL].values()) == {metrics.CAP}
    for gains in out["model_gain_db"].values():
        assert gains["target"]["mean"] > 10 and gains["silhouette"]["mean"] > 10


def test_a_clip_without_a_ring_is_left_out_of_the_rings_mean():
    full = dict.fromkeys(heldout.REGIONS, 10.0)
    without = {name: 20.0 for name in heldout.REGIONS if name != "ring"}
    methods = (*heldout.BASELINES, heldout.MODEL)
    means = heldout.summary([dict.fromkeys(methods, without), dict.fromkeys(methods, full)])["mean_db"]
    assert means["paste"] == {"target": 15.0, "ring": 10.0, "silhouette": 15.0}


def test_run_writes_what_it_returns(model: Model, tmp_path):
    checkpoints.save(tmp_path / "model", model)
    out = tmp_path / "results.json"
    judged = heldout.run(tmp_path / "model", clips=1, options=OPTIONS, out=out)
    assert json.loads(out.read_text()) == judged.report
    assert judged.report["protocol"]["clips"] == 1
    assert judged.report["model"]["trained_steps"] == 12
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
def test_bad_arguments_are_refused_before_anything_is_loaded(arguments, names, monkeypatch):
    monkeypatch.setattr(heldout, "evaluate", None)
    with pytest.raises(InputError, match=names):
        heldout.run(**arguments)


def test_table_has_every_method_and_its_numbers(judged: heldout.Judged):
    lines = report.table(judged.report).splitlines()
    rows = [line for line in lines if line.startswith("| ")][1:]
    assert len(rows) == len(report.ROWS) == len(judged.report["mean_db"])
    for line, method in zip(rows, report.ROWS, strict=True):
        for region in heldout.REGIONS:
            assert f"{judged.report['mean_db'][method][region]:.1f}" in line
    assert all(line.count("|") == 5 for line in lines[: len(rows) + 2])
    assert "3 held-out clips" in lines[-1] and "±" in lines[-1]


def test_insert_replaces_what_stands_between_the_markers():
    document = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    once = report.insert(document, "new")
    assert once == f"before\n{report.BEGIN}\nnew\n{report.END}\nafter\n"
    assert report.insert(once, "new") == once


@pytest.mark.parametrize(
    "document", ["", report.BEGIN, report.END + report.BEGIN, 2 * (report.BEGIN + report.END)]
)
def test_insert_refuses_a_document_without_its_markers(document):
    with pytest.raises(InputError, match="heldout:begin"):
        report.insert(document, "new")
