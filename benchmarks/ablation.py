"""The figures of docs/ablations.md, from finished sweeps of `gencompositor ablate`.

    python benchmarks/ablation.py ablations [OTHER_BUDGET ...]

copies the first sweep's ablation.json to results/ and its pictures to docs/, writes its table and the
differences of all sweeps (folders, or the ablation.json of one) between the markers of docs/ablations.md, and
keeps the scores of every run in results/sweeps/STEPS, which copied to a folder is a sweep that `gencompositor
ablate` resumes.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from gencompositor_jax.ablation.results import IDEA, LABELS, verdict
from gencompositor_jax.evaluation.report import insert
from gencompositor_jax.evaluation.statistics import Interval
from gencompositor_jax.files import atomic_write_text, read_json

ROOT = Path(__file__).parent.parent
SCORES = "sweep.json", "*-*.json", "runs/*/seed-*.json"
PICTURES = ("target_psnr", "gamma_target_psnr")


def differences(sweeps: list[dict[str, Any]]) -> str:
    """A row per ablation: the full model minus it, in the metric of its idea, by sweep."""
    facts = [found["facts"] for found in sweeps]
    heads = [f"{own['steps']} steps, {own['seeds']} seed{'s' * (own['seeds'] > 1)}" for own in facts]
    lines = [f"| ablation | metric | {' | '.join(heads)} |\n|---|---|{'---:|' * len(heads)}\n"]
    for name in dict.fromkeys(name for found in sweeps for name in found["differences"]):
        metric = IDEA.get(name, "target_psnr")
        cells = []
        for found in sweeps:
            if name not in found["differences"] or found["facts"]["runs"][name]["same_as"] == "full":
                cells.append("")
                continue
            interval = Interval(**found["differences"][name][metric])
            bounds = "" if interval.low is None else f" [{interval.low:+.2f}, {interval.high:+.2f}]"
            mark = {"full is better": "**", "the ablation is better": "_"}.get(verdict(interval), "")
            cells.append(f"{mark}{interval.mean:+.2f}{mark}{bounds}")
        if any(cells):
            lines.append(f"| {name} | {LABELS[metric]} | {' | '.join(cells)} |\n")
    return "".join(lines)


def keep(sweep: Path, folder: Path) -> None:
    """Copy the scores and records of a sweep's runs, numbers with five digits."""
    for file in (file for pattern in SCORES for file in sweep.glob(pattern)):
        content = json.loads(file.read_text(), parse_float=lambda text: float(f"{float(text):.5g}"))
        own = folder / file.relative_to(sweep)
        own.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(own, json.dumps(content, separators=(",", ":")) + "\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sweeps", nargs="+", type=Path, metavar="OUT")
    sweeps = parser.parse_args().sweeps
    found = [read_json(sweep if sweep.is_file() else sweep / "ablation.json") for sweep in sweeps]
    atomic_write_text(
        ROOT / "benchmarks" / "results" / "ablation.json", json.dumps(found[0], indent=1) + "\n"
    )
    for sweep, results in zip(sweeps, found, strict=True):
        if sweep.is_dir():
            keep(sweep, ROOT / "benchmarks" / "results" / "sweeps" / str(results["facts"]["steps"]))
    for name in PICTURES:
        shutil.copy(sweeps[0] / f"{name}.svg", ROOT / "docs" / f"ablations_{name}.svg")
    table = (sweeps[0] / "table.md").read_text(encoding="utf-8").split("\n\n")
    document = ROOT / "docs" / "ablations.md"
    text = insert(document.read_text(encoding="utf-8"), differences(found).strip(), "differences")
    atomic_write_text(document, insert(text, f"{table[0].strip()}\n\n{table[-1].strip()}", "ablation"))


if __name__ == "__main__":
    main()
