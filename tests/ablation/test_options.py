import json
from pathlib import Path

import pytest

from gencompositor_jax.ablation.options import SweepOptions, begin, same_runs, write_record
from gencompositor_jax.configs.ablations import VARIANTS
from gencompositor_jax.errors import InputError


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "pass one of them"),
        ({"steps": 10, "minutes": 1.0}, "pass one of them"),
        ({"steps": 1}, "--steps-per-run"),
        ({"minutes": 0.0}, "--minutes-per-run"),
        ({"steps": 999, "seeds": 0}, "--seeds"),
        ({"steps": 999, "variants": ("full", "")}, "--variants '': known are full,"),
        ({"steps": 999, "variants": ("full", "no_brnch")}, "--variants 'no_brnch': known are full,"),
        ({"steps": 999, "variants": ("full", "full")}, "each once"),
        ({"steps": 999, "clips": 257}, "--clips"),
        ({"steps": 999, "processes": 0}, "--processes"),
        ({"steps": 999, "size": "released"}, "--size released"),
        ({"steps": 999, "overrides": ("learning_rate=1",)}, "learning_rate"),
        ({"steps": 999, "overrides": ("data.source=videocomp",)}, "procedural or cache"),
        ({"steps": 999, "overrides": ("arch_changes.frames=17",)}, "9 frames of 96 x 64"),
        ({"steps": 40}, "the warm-up alone has 100"),
        ({"steps": 999, "overrides": ("seed=7",)}, "--config.seed=7: is no option of a sweep"),
        ({"steps": 999, "overrides": ("steps=7",)}, "--config.steps=7: is no option of a sweep"),
        ({"steps": 999, "overrides": ("mesh.data=1",)}, "--config.mesh.data=1: is no option of a sweep"),
        (
            {"steps": 999, "overrides": ("distill.intervals=4",)},
            "distill.intervals=4: is no option of a sweep",
        ),
    ],
)
def test_what_can_not_be_used_is_refused(tmp_path, given, message):
    with pytest.raises(InputError, match=message):
        SweepOptions(tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_runs_with_equal_configs_are_trained_once(tmp_path):
    same = same_runs(SweepOptions(tmp_path, steps=999))
    assert {name: first for name, first in same.items() if name != first} == {"x0": "full"}


def test_runs_share_clips_where_they_can(tmp_path):
    options = SweepOptions(tmp_path, steps=999)
    folder = {name: Path(options.config(name).data.path).name for name in VARIANTS}
    assert folder["full"] == folder["no_branch"] == folder["cross_attention"] == folder["noise"]
    # No offsets, other light, other masks.
    others = [folder[name] for name in ("full", "erope_height", "no_gamma", "no_inflation")]
    assert len(set(others)) == 4
    assert folder["erope_height"] == folder["erope_shared"] == folder["channel_concat"]


def test_a_short_run_renders_no_more_clips_than_it_reads(tmp_path):
    counts = {s: SweepOptions(tmp_path, steps=s).config("full").data.clips for s in (101, 999)}
    assert counts == {101: 808, 999: 4_096}
    # Steps that are measured in the middle of a sweep don't change what is already rendered.
    assert SweepOptions(tmp_path, minutes=1.0).config("full", steps=101).data.clips == 4_096


def test_a_folder_holds_one_sweep(tmp_path):
    assert begin(SweepOptions(tmp_path / "out", steps=999)) == 999
    assert begin(SweepOptions(tmp_path / "out", variants=("full",), steps=999)) == 999
    with pytest.raises(InputError, match="holds a sweep with budget"):
        begin(SweepOptions(tmp_path / "out", steps=998))
    with pytest.raises(InputError, match="overrides"):
        begin(SweepOptions(tmp_path / "out", steps=999, overrides=("batch_size=4",)))


def test_a_sweep_s_config_is_compared_where_both_versions_have_a_key(tmp_path):
    options = SweepOptions(tmp_path / "out", steps=999)
    begin(options)
    file = options.out / "sweep.json"
    content = json.loads(file.read_text())
    assert content["config"]["optimizer.learning_rate"] == 2.4e-3 and "data.path" not in content["config"]
    del content["config"]["loss.mask_weight"]
    content["config"]["of.another.version"] = 1
    file.write_text(json.dumps(content))
    assert begin(options) == 999
    content["config"]["optimizer.learning_rate"] = 0.9
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"runs with optimizer.learning_rate 0.9, .* says 0.0024"):
        begin(options)
    file.unlink()
    options.run_folder("full").mkdir(parents=True)
    with pytest.raises(InputError, match=r"holds runs without sweep.json"):
        begin(options)


def test_minutes_become_the_same_steps_when_it_resumes(tmp_path):
    options = SweepOptions(tmp_path / "out", minutes=1.0)
    assert begin(options) is None
    write_record(options, 77)
    assert begin(options) == 77
