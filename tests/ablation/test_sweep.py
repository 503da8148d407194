"""Whole sweeps, at the smallest sizes."""

import dataclasses
import json

import numpy as np
import pytest

from gencompositor_jax.ablation import sweep, training
from gencompositor_jax.ablation.options import SweepOptions
from gencompositor_jax.checkpoints import load
from gencompositor_jax.data_pipelines import benchmark
from gencompositor_jax.training import codec_basis

STACK = ("num_heads=1", "head_dim=16", "time_embed_dim=8")
SMALL = (
    "data.source=procedural",
    "batch_size=2",
    "optimizer.warmup=1",
    "arch_changes.backbone.num_layers=1",
    "arch_changes.codec.latent_channels=4",
    *(f"arch_changes.{stack}.{size}" for stack in ("backbone", "branch") for size in STACK),
)


def options(folder, **changes):
    given = {"variants": ("full",), "seeds": 2, "steps": 4, "clips": 2, "overrides": SMALL}
    return SweepOptions(folder, **{**given, **changes})


def test_the_clips_that_are_scored_are_the_benchmarks():
    from gencompositor_jax.ablation import scoring

    given = scoring.examples(2, benchmark.INFLATION, None)
    np.testing.assert_array_equal(given[1]["target"], benchmark.example(1)["target"])
    truths = [example["target"] for example in given]
    scores = scoring.of_frames(truths)
    assert scores["target_psnr"] == scores["ring_psnr"] == scores["background_psnr"] == [60.0, 60.0]
    assert np.isnan(scores["gamma_target_psnr"]).tolist().count(False) == 1
    painted = [frames.copy() for frames in truths]
    for frames, example in zip(painted, given, strict=True):
        frames[example["ring"]] ^= 8
    scores = scoring.of_frames(painted)
    assert max(scores["ring_psnr"]) < 35 and scores["target_psnr"] == scores["background_psnr"] == [
        60.0,
        60.0,
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two seeds in one program, interrupted between two checkpoints, and what an uninterrupted run gives."""
    given = options(tmp_path_factory.mktemp("sweep"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec_basis, "CLIPS", 4)
        sweep.prepare(given, ["full"])
    config, source, basis = sweep.shared(given, "full", None)
    whole = training.train(config, (0, 1), source, basis, given.out / "whole", "full")
    return given, whole


@pytest.mark.slow
def test_a_killed_run_resumes_and_each_seed_is_its_own(trained, monkeypatch, capsys):
    given, (models, record) = trained
    config, source, basis = sweep.shared(given, "full", None)
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)

    class Killed(Exception):
        pass

    read = training.stacked_batches

    def until_the_third(*arguments):
        for step, batch in enumerate(read(*arguments)):
            if step == 3:
                raise Killed
            yield batch

    monkeypatch.setattr(training, "stacked_batches", until_the_third)
    with pytest.raises(Killed):
        training.train(config, (0, 1), source, basis, given.out / "killed", "full")
    monkeypatch.setattr(training, "stacked_batches", read)
    assert (given.out / "killed").is_dir()
    capsys.readouterr()
    again, _ = training.train(config, (0, 1), source, basis, given.out / "killed", "full")
    shown = capsys.readouterr().err
    assert "full:  75%" in shown and "4/4" in shown and "loss=" in shown
    alone, _ = training.train(config, (1,), source, basis, given.out / "alone", "full")
    of = [m.arrays["backbone"]["params"]["out"]["kernel"] for m in (*models, *again, *alone)]
    np.testing.assert_array_equal(of[2], of[0])
    np.testing.assert_array_equal(of[3], of[1])
    np.testing.assert_allclose(of[4], of[1], atol=1e-5)
    assert np.abs(of[0] - of[1]).max() > 1e-5
    assert [row[0] for row in record["curve"]] == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_sweep_trains_scores_and_does_nothing_twice(trained, monkeypatch):
    given, _ = trained
    monkeypatch.setitem(sweep.OTHERS, "embedded", lambda clips: {})
    found = sweep.run(given)
    assert found.variants["full"]["target_psnr"].shape == (2, 2)
    written = json.loads((given.out / "ablation.json").read_text())
    assert set(written["baselines"]) == {"paste", "color_transfer", "seamless_clone"}
    assert written["facts"]["steps"] == 4 and written["oracle"]["target_psnr"] > 5
    assert load(given.run_folder("full") / "model-1").arch.layout == "trajectory"
    monkeypatch.setattr(training, "train", None)
    sweep.run(given)


@pytest.mark.slow
def test_what_was_trained_is_scored_whatever_seeds_are_asked_for_then(trained, monkeypatch):
    """Killed after one of two seeds is scored, and started again with three."""
    given, (models, record) = trained
    own = options(given.out / "more", seeds=3)
    trainings = []

    def train(config, seeds, source, basis, folder, name):
        trainings.append((seeds, folder.name))
        return [models[0]] * len(seeds), {**record, "curve": [[1] + [0.0] * len(seeds)]}

    class Killed(Exception):
        pass

    def until_one_is_scored(model, clips):
        if sweep.scores_file(own, "full", 0).is_file():
            raise Killed
        return scores(model, clips)

    scores = sweep.scoring.of_model
    monkeypatch.setattr(sweep, "shared", lambda *arguments: (None, None, None))
    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(sweep.scoring, "of_model", until_one_is_scored)
    with pytest.raises(Killed):
        sweep.make(dataclasses.replace(own, seeds=2), 4, "full")
    assert trainings == [((0, 1), "checkpoints-0-1")]
    (own.run_folder("full") / "checkpoints-0-1").mkdir()  # as if killed before it was removed
    monkeypatch.setattr(sweep.scoring, "of_model", scores)
    sweep.make(own, 4, "full")
    assert trainings[1:] == [((2,), "checkpoints-2")]
    assert sorted(path.name for path in own.run_folder("full").iterdir()) == [
        *(f"model-{seed}" for seed in range(3)),
        *(f"seed-{seed}.json" for seed in range(3)),
    ]
    (own.run_folder("no_gamma") / "checkpoints-0-2").mkdir(parents=True)  # of an interrupted training
    assert [seeds for seeds, _ in sweep.untrained(own, "no_gamma")][0] == (0, 2)
