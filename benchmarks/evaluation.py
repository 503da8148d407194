"""The figures of docs/evaluation.md, from nothing but this repository.

    python benchmarks/evaluation.py

writes the first 64 clips of the procedural benchmark in HYouTube's layout, composes them with the embedded
model and the baselines, scores all folders, and writes results/evaluation.json here, a page with players
(build/evaluation.html), and the tables between the markers of docs/evaluation.md. Results that are there
already are kept.
`--clips 4 --out FOLDER` tries it without changing these files.
"""

import argparse
from pathlib import Path
from typing import Any

from gencompositor_jax.data_pipelines import benchmark_files
from gencompositor_jax.evaluation import page, scoring, tables
from gencompositor_jax.evaluation.composing import DatasetOptions, Method, compose_dataset
from gencompositor_jax.evaluation.heldout import write_json
from gencompositor_jax.evaluation.report import insert
from gencompositor_jax.evaluation.results import ResultsOptions
from gencompositor_jax.files import atomic_write_text

ROOT = Path(__file__).parent.parent
METHODS: tuple[Method, ...] = ("model", "paste", "color_transfer", "seamless_clone")
METRICS = (
    "psnr",
    "fmse",
    "ssim",
    "fssim",
    "temporal_loss",
    "target_psnr",
    "ring_psnr",
    "background_psnr",
    "st_lpips",
)


def subset_table(report: dict[str, Any], metric: str = "target_psnr") -> str:
    """Markdown: a metric of each method on all clips and on each idea's half."""
    subsets = report["subsets"]
    lines = ["| PSNR target region, dB | all | " + " | ".join(subsets) + " |"]
    lines.append("|---|" + "---:|" * (1 + len(subsets)))
    for method in METHODS:
        means = [report["methods"], *(subset["methods"] for subset in subsets.values())]
        cells = [f"{mean[method][metric]['mean']:.1f}" for mean in means]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument(
        "--out", type=Path, help="folder for everything; no file of the repository is changed"
    )
    args = parser.parse_args()
    report = methods(args.clips, args.out or ROOT / "build")
    table = tables.markdown(report) + "\n\n" + subset_table(report)
    publish("evaluation", report, table, args.out)


def methods(clips: int, build: Path) -> dict[str, Any]:
    """Compose what isn't there in `build`, score it, and write the page."""
    reference = build / f"benchmark-{clips}"
    if not reference.is_dir():
        build.mkdir(parents=True, exist_ok=True)
        benchmark_files.write(reference, "hyoutube", clips)
    results = tuple((method, build / f"results-{clips}" / method) for method in METHODS)
    for method, folder in results:
        compose_dataset(DatasetOptions("procedural", reference, folder, method))
    options = ResultsOptions("procedural", results, reference, metrics=METRICS)
    report = scoring.score(options)
    page.write(build / "evaluation.html", report, options)
    report["protocol"] |= {
        "reference": "the benchmark",
        "methods": dict.fromkeys(METHODS, "compose-dataset"),
    }
    return report


def publish(name: str, found: dict[str, Any], table: str, out: Path | None) -> None:
    """Print a table; write the figures to NAME.json and the table to the document, if `out` is None."""
    print(table)
    write_json((out or ROOT / "benchmarks" / "results") / f"{name}.json", found)
    if out is None:
        document = ROOT / "docs" / "evaluation.md"
        atomic_write_text(document, insert(document.read_text(encoding="utf-8"), table, name))


if __name__ == "__main__":
    main()
