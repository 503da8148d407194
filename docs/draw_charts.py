"""Draws the charts of the documents from benchmarks/results: docs/training.svg, scaling.svg, sensitivity.svg.

pip install matplotlib && python docs/draw_charts.py
"""

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "benchmarks" / "results"
INK, ACCENT, PALE = "#1f2937", "#2563eb", "#93c5fd"
GIB = 2**30
# The same file whenever it is drawn.
STYLE: Any = {
    "svg.hashsalt": "gencompositor",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "axes.labelcolor": INK,
}


def read(name: str) -> Any:
    """A file of results."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def save(figure: Any, name: str) -> None:
    """Write docs/NAME.svg."""
    figure.savefig(DOCS / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)


def training() -> None:
    """The loss of the embedded model's training, by step."""
    rows = read("small_network")["h200"]["loss"]
    figure, axes = plt.subplots(figsize=(6.4, 2.6))
    axes.plot([row["step"] for row in rows], [row["loss"] for row in rows], color=ACCENT, marker="o", ms=3)
    axes.set(yscale="log", xlabel="step (64 clips)", ylabel="training loss")
    axes.set_yticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
    axes.minorticks_off()
    axes.set_ylim(bottom=0.42)
    save(figure, "training")


def scaling() -> None:
    """Memory of a chip and the bound of a step's time, by the number of chips."""
    plans = [plan for plan in read("scaling").values() if plan["fits"]]
    chips = [str(plan["devices"]) for plan in plans]
    moving = [plan["memory"]["activations and temporaries"] / GIB for plan in plans]
    whole = [plan["bytes_per_device"] / GIB for plan in plans]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.6))
    left.bar(chips, whole, color=PALE, label="weights, optimiser, batch")
    left.bar(chips, moving, color=ACCENT, label="activations and temporaries")
    most = plans[0]["hbm_bytes"] / GIB
    left.axhline(most, color=INK, lw=0.8, ls="--")
    left.text(len(chips) - 0.6, most - 7, "a v5p chip's memory", ha="right", fontsize=8)
    left.set(xlabel="chips", ylabel="GiB per chip")
    left.legend(frameon=False, fontsize=8, loc="upper right", bbox_to_anchor=(1, 0.88))
    per_clip = [plan["step_seconds_estimate"] / plan["batch"] for plan in plans]
    right.plot(chips, per_clip, color=ACCENT, marker="o", ms=4)
    right.set(yscale="log", xlabel="chips", ylabel="seconds per clip, at least")
    right.set_yticks([0.04, 0.1, 0.3, 1, 2], ["0.04", "0.1", "0.3", "1", "2"])
    right.minorticks_off()
    figure.tight_layout(w_pad=3)
    save(figure, "scaling")


def sensitivity() -> None:
    """FVD and FVD∞ between halves, by the number of clips; both for blur and noise."""
    found = read("sensitivity")
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8), width_ratios=(2, 3))
    for name, label, color in (("fvd", "FVD", PALE), ("fvd_infinity", "FVD∞", ACCENT)):
        halves, changes = found["halves"], found["changes"]
        errors = [row.get(f"{name}_error", 0) for row in halves]
        values = [row[name] for row in halves]
        clips = [row["clips"] for row in halves]
        left.errorbar(clips, values, errors, color=color, marker="o", ms=4, label=label)
        offset = 0.2 if name == "fvd_infinity" else -0.2
        count = next(iter(changes.values()))["clips"]
        unchanged = next(row[name] for row in halves if row["clips"] == count)
        right.axhline(unchanged, color=color, lw=1, ls="--")
        right.bar(
            [i + offset for i in range(len(changes))],
            [row[name] for row in changes.values()],
            0.4,
            color=color,
        )
    left.axhline(0, color=INK, lw=0.8)
    left.set(xscale="log", xlabel="clips of each half", ylabel="distance between halves")
    left.set_xticks(clips, [str(count) for count in clips])
    left.minorticks_off()
    left.legend(frameon=False, fontsize=8)
    right.set_xticks(range(len(changes)), [name.replace(", sigma", "\nσ =") for name in changes])
    right.set(ylabel=f"distance to {count} changed clips")
    figure.tight_layout(w_pad=3)
    save(figure, "sensitivity")


if __name__ == "__main__":
    with plt.rc_context(STYLE):
        training()
        scaling()
        sensitivity()
