"""The figures of docs/evaluation.md, from nothing but this repository.

    python benchmarks/evaluation.py

writes the first 64 clips of the procedural benchmark in HYouTube's layout, composes them with the embedded
model and the baselines, scores all folders, and writes results/evaluation.json here, a page with players
(build/evaluation.html), and the tables between the markers of docs/evaluation.md. If the weights of I3D and
ST-LPIPS are installed, it also measures both between halves of the benchmark, and on blur and noise. Results
that are there already are kept.
`--clips 4 --out FOLDER` tries it without changing these files.
"""

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tqdm

from gencompositor_jax.data_pipelines import benchmark, benchmark_files
from gencompositor_jax.evaluation import learned, page, scoring, tables
from gencompositor_jax.evaluation.composing import DatasetOptions, Method, compose_dataset
from gencompositor_jax.evaluation.heldout import write_json
from gencompositor_jax.evaluation.measures import Clip
from gencompositor_jax.evaluation.metrics import distances
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
HALVES, CHANGED = (16, 32, 64), 16  # clips; I3D takes seconds per clip on a CPU
CHANGES = {
    "blur, sigma 1": lambda frame, rng: cv2.GaussianBlur(frame, (0, 0), 1),
    "blur, sigma 2": lambda frame, rng: cv2.GaussianBlur(frame, (0, 0), 2),
    "blur, sigma 4": lambda frame, rng: cv2.GaussianBlur(frame, (0, 0), 4),
    "noise, sigma 8": lambda frame, rng: _noisy(frame, rng, 8),
    "noise, sigma 16": lambda frame, rng: _noisy(frame, rng, 16),
    "noise, sigma 32": lambda frame, rng: _noisy(frame, rng, 32),
}


def _noisy(frame: np.ndarray, rng: np.random.Generator, sigma: float) -> np.ndarray:
    return np.clip(frame + rng.normal(0, sigma, frame.shape), 0, 255).astype(np.uint8)


def sensitivity(sizes: tuple[int, ...], changed: int) -> dict[str, Any] | None:
    """FVD and KVD between halves of `sizes` targets each, and from the first `changed` ones to what blur and
    noise make of them, there with ST-LPIPS. None where the weights aren't installed.
    """
    loaded = learned.load(("fvd", "st_lpips"), {})
    if loaded.features is None or "st_lpips" not in loaded.measures:
        return None
    targets = [benchmark.example(number)["target"] for number in range(2 * max(sizes))]
    features = np.concatenate([loaded.features([clip]) for clip in tqdm.tqdm(targets, desc="clips")])
    rows = [
        {"name": f"the other half, {n} clips", **_distances(features[: 2 * n : 2], features[1 : 2 * n : 2])}
        for n in sizes
    ]
    for name, change in tqdm.tqdm(CHANGES.items(), desc="changes"):
        rng = np.random.default_rng(0)
        clips = [np.stack([change(frame, rng) for frame in clip]) for clip in targets[:changed]]
        pairs = zip(clips, targets, strict=False)
        perceptual = float(np.mean([loaded.measures["st_lpips"].compute(Clip(a, b)) for a, b in pairs]))
        row = _distances(loaded.features(clips), features[:changed])
        rows.append({"name": name, **row, "st_lpips": round(perceptual, 5)})
    return {"changed_clips": changed, "frames": benchmark.FRAMES, "rows": rows}


def _distances(ours: np.ndarray, real: np.ndarray) -> dict[str, Any]:
    fvd, kvd = distances.frechet_distance(ours, real), distances.kernel_distance(ours, real)
    return {"fvd": round(fvd, 3), "kvd": round(kvd, 4)}


def sensitivity_table(found: dict[str, Any]) -> str:
    """Markdown: a row per comparison."""
    lines = ["| | FVD ↓ | KVD ↓ | ST-LPIPS ↓ |", "|---|---:|---:|---:|"]
    for row in found["rows"]:
        perceptual = f"{row['st_lpips']:.4f}" if "st_lpips" in row else ""
        lines.append(f"| {row['name']} | {row['fvd']:.1f} | {row['kvd']:.2f} | {perceptual} |")
    changed = f"{found['changed_clips']} clips of {found['frames']} frames"
    return "\n".join(
        [*lines, "", f"Halves against each other; blur and noise: {changed} against themselves."]
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
    parser.add_argument("--only", choices=("methods", "sensitivity"), help="one of the two tables")
    parser.add_argument(
        "--out", type=Path, help="folder for everything; no file of the repository is changed"
    )
    args = parser.parse_args()
    if args.only != "sensitivity":
        report = methods(args.clips, args.out or ROOT / "build")
        table = tables.markdown(report) + "\n\n" + subset_table(report)
        publish("evaluation", report, table, args.out)
    if args.only != "methods":
        found = sensitivity(HALVES if args.clips >= max(HALVES) else (2,), min(args.clips, CHANGED))
        if found is not None:
            publish("sensitivity", found, sensitivity_table(found), args.out)


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
