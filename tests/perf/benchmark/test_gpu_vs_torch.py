"""benchmarks/gpu_vs_torch.py: its order, totals and ratios; the figures need a GPU."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "gpu_vs_torch.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("gpu_vs_torch", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


OURS = {
    "side": "ours",
    "step": 1.0,
    "step doubled": 2.0,
    "encode": 0.5,
    "decode": 1.5,
    "peak bytes": 20 * 2**30,
}
EAGER = {"side": "eager", "step": 2.0, "step doubled": 4.0, "encode": 3.0, "decode": 7.0}
COMPILED = {"side": "compiled", "step": 1.5, "step doubled": 3.0}
RUNS = [OURS, EAGER, OURS | {"step": 1.2}, {"side": "eager", "failed": 1}, OURS | {"step": 0.8}, COMPILED]


def test_the_sides_take_turns(script):
    assert script.order(2, True) == ["ours", "eager"] * 2 + ["ours", "compiled"] * 2
    assert script.order(2, False) == ["ours", "ours"]


def test_totals_and_ratios_use_medians(script):
    found = script.summary(RUNS)
    alone, doubled = (
        [found["step_seconds"][side + how] for side in script.SIDES] for how in ("", " doubled")
    )
    assert (alone, doubled) == ([1.0, 2.0, 1.5], [2.0, 4.0, 3.0])
    totals = found["total_seconds_20_steps"]
    assert (totals["ours"], totals["eager doubled"], totals["compiled"]) == (22.0, 90.0, 40.0)
    assert found["total_ratios"]["eager doubled"] == pytest.approx(90 / 22)
    assert found["step_ratios"]["compiled"] == 1.5 and "ours" not in found["step_ratios"]
    assert found["processes"] == {"ours": 3, "eager": 2, "compiled": 1}
    lines = script.table({"summary": found}).splitlines()
    assert lines[0] == "ours                 1.0000 s per step (1.00 x ours),   22.00 s in all, peak 20.0 GiB"
    assert lines[-1].startswith("VAE of pytorch: encode 3.000 s, decode 7.000 s")


def test_ours_alone_has_no_ratios(script):
    found = script.summary([OURS])
    assert found["step_ratios"] == {"ours doubled": 2.0} and found["total_seconds_20_steps"]["ours"] == 22.0
    assert script.table({"summary": found}).count("\n") == 2


def test_a_run_resumes_from_its_file_and_refuses_another_setting(script, tmp_path):
    out, setting = tmp_path / "figures.json", {"small": True, "rounds": 1}
    assert script.read(out, setting) == []
    script.write(out, {"setting": setting, "summary": {}, "runs": RUNS})
    assert script.read(out, setting) == RUNS
    with pytest.raises(SystemExit, match="delete it or pass --out"):
        script.read(out, setting | {"rounds": 2})


@pytest.mark.slow
def test_ours_end_to_end_without_pytorch(script, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(script, "missing", lambda: ["diffusers"])
    out = tmp_path / "out.json"
    words = ["gpu_vs_torch.py", "--small", "--rounds", "1", "--steps", "1", "--json", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", words)
    script.main()
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first == "PyTorch is skipped: diffusers can't be imported"
    found = json.loads(last)
    assert found["step_seconds"]["ours"] > 0 and found["step_seconds"]["eager"] is None
    assert json.loads(out.read_text())["runs"][0]["joint tokens"] == 16 + 2 * 72
