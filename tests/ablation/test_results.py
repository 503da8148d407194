import csv
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from gencompositor_jax.ablation import picture, results
from gencompositor_jax.ablation.options import SweepOptions, same_runs
from gencompositor_jax.ablation.scoring import METRICS
from gencompositor_jax.errors import InputError
from gencompositor_jax.evaluation.statistics import Interval, bootstrap, crossed

CLIPS = 12


@pytest.fixture
def sweep(tmp_path):
    """A folder of finished runs: full is 1 dB above no_branch in every clip and 0 above no_gamma."""
    options = SweepOptions(
        tmp_path, variants=("full", "no_branch", "no_gamma", "x0", "v"), steps=999, clips=CLIPS
    )
    rng = np.random.default_rng(0)
    clips = rng.normal(15, 2, CLIPS)
    for name, shift in (("full", 0.0), ("no_branch", -1.0), ("no_gamma", 0.0)):
        for seed in range(2):
            values = clips + shift + rng.normal(0, 0.1, CLIPS)
            scores = {metric: [float(v) for v in values] for metric in METRICS}
            scores["gamma_target_psnr"][::2] = [None] * (CLIPS // 2)
            folder = options.run_folder(name)
            folder.mkdir(parents=True, exist_ok=True)
            record = {"parameters": 5, "seconds": 2.0, "device": "cpu"}
            (folder / f"seed-{seed}.json").write_text(json.dumps({"scores": scores, "record": record}))
    others = {name: {metric: [20.0] * CLIPS for metric in METRICS} for name in ("paste", "region_mean")}
    (tmp_path / f"baselines-{CLIPS}.json").write_text(json.dumps(others))
    return options


def test_partial_results_have_what_is_finished(sweep):
    found = results.write(sweep, same_runs(sweep), 999)
    assert list(found.variants) == ["full", "no_branch", "no_gamma", "x0"]  # v has no run
    written = json.loads((sweep.out / "ablation.json").read_text())
    assert written["variants"]["x0"] == written["variants"]["full"]
    assert len(written["variants"]["full"]["ssim"]) == 2 and set(written["variants"]["full"]) == set(METRICS)
    assert written["baselines"]["paste"]["target_psnr"] == 20.0 == written["oracle"]["target_psnr"]
    assert written["facts"]["runs"]["x0"]["same_as"] == "full"
    own = json.loads((sweep.run_folder("full") / "seed-1.json").read_text())["scores"]["gamma_target_psnr"]
    mean = np.mean([value for value in own if value is not None])
    assert written["variants"]["full"]["gamma_target_psnr"][1] == pytest.approx(mean, abs=1e-4)


def test_the_tables_agree(sweep):
    results.write(sweep, same_runs(sweep), 999)
    rows = list(csv.DictReader((sweep.out / "table.csv").open()))
    written = json.loads((sweep.out / "ablation.json").read_text())
    of_full = [float(r["mean"]) for r in rows if (r["method"], r["metric"]) == ("full", "ring_psnr")]
    assert of_full == written["variants"]["full"]["ring_psnr"]
    assert {r["clips"] for r in rows if r["metric"] == "gamma_target_psnr" and r["seed"]} == {"6"}
    text = (sweep.out / "table.md").read_text()
    assert re.search(r"\| no_branch \| background, dB \| \+(0\.9|1\.0)", text) and "full is better" in text
    assert "| no_gamma | target region of relit clips, dB |" in text and "not separated" in text
    assert "12 clips of 9 frames" in text and "999 steps per run, 2 seeds" in text
    assert "| x0 | target region, dB |" not in text  # it is the full model
    assert "minus region_mean in the target region: -" in text and "nothing is claimed" in text


def test_differences_are_paired(sweep):
    found = results.collect(sweep, same_runs(sweep), 999)
    interval = results.difference(found, "no_branch", "target_psnr")
    # Clips differ by 2 dB, differences by 0.1.
    assert 0.85 < interval.low < interval.mean < interval.high < 1.15


def test_seeds_are_paired_by_their_number(sweep):
    (sweep.run_folder("no_branch") / "seed-0.json").unlink()
    found = results.collect(sweep, same_runs(sweep), 999)
    full, ablation = (found.variants[name]["target_psnr"] for name in ("full", "no_branch"))
    assert results.difference(found, "no_branch", "target_psnr").mean == pytest.approx(
        (full[1] - ablation[0]).mean(), abs=1e-4
    )
    rows = csv.DictReader(results.as_csv(found).splitlines())
    assert {row["seed"] for row in rows if row["method"] == "no_branch"} == {"1"}
    (sweep.run_folder("full") / "seed-1.json").unlink()
    found = results.collect(sweep, same_runs(sweep), 999)
    assert results.compared(found) == ["no_gamma", "x0"]
    assert "no_branch |" not in results.as_markdown(found).partition("full minus ablation")[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: run["scores"].pop("ssim"), "scores: field 'ssim' is missing"),
        (lambda run: run["scores"]["ssim"].pop(), "scores.ssim: 11 clips, the sweep has 12"),
        (lambda run: run["record"].update(steps=600), "record.steps: 600, the sweep has 999"),
    ],
)
def test_runs_that_can_not_be_of_the_sweep_are_named(sweep, change, message):
    file = sweep.run_folder("full") / "seed-1.json"
    run = json.loads(file.read_text())
    change(run)
    file.write_text(json.dumps(run))
    with pytest.raises(InputError, match=rf"seed-1.json: {message}"):
        results.collect(sweep, same_runs(sweep), 999)


def test_the_picture_is_an_svg_with_a_dot_per_seed(sweep):
    results.write(sweep, same_runs(sweep), 999)
    root = ElementTree.parse(sweep.out / "target_psnr.svg").getroot()
    circles = [each for each in root.iter() if each.tag.endswith("circle")]
    assert len(circles) == 4 * 2
    texts = [each.text for each in root.iter() if each.tag.endswith("text")]
    assert {"full", "no_branch", "paste", "region_mean (oracle)"} <= set(texts)


@pytest.mark.parametrize(("low", "high"), [(12.3, 21.7), (0.28, 0.95), (10.0, 60.0), (15.01, 15.09)])
def test_ticks_are_few_and_inside(low, high):
    found = picture.ticks(low, high)
    assert 3 <= len(found) <= 10 and all(low <= tick <= high for tick in found)
    assert np.ptp(np.diff(found)) < 1e-6


def test_verdict():
    assert results.verdict(Interval(1.0, 0.5, 1.5)) == "full is better"
    assert results.verdict(Interval(-1.0, -1.5, -0.5)) == "the ablation is better"
    assert results.verdict(Interval(0.1, -0.5, 0.5)) == results.verdict(Interval(1, None, None))


def test_the_crossed_bootstrap_counts_seeds_and_clips():
    rng = np.random.default_rng(0)
    clips = rng.normal(0, 1, 50)
    one = crossed(clips[None])
    plain = bootstrap(clips)
    assert one.mean == pytest.approx(plain.mean) and one.low == pytest.approx(plain.low, abs=0.03)
    # Seeds that differ widen the interval, equal ones don't.
    same, apart = crossed(np.stack([clips] * 3)), crossed(np.stack([clips, clips + 1, clips + 2]))
    assert same.high - same.low == pytest.approx(one.high - one.low, abs=0.03)
    assert apart.high - apart.low > 1.5 * (same.high - same.low)
    with_gap = crossed(np.stack([[np.nan, 1.0, 3.0], [np.nan, 1.0, 3.0]]))
    assert with_gap.mean == 2.0
    with pytest.raises(ValueError, match="no clip"):
        crossed(np.full((2, 3), np.nan))
