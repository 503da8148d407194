"""How FVD, FVD∞, KVD and ST-LPIPS react to nothing, to blur and to noise: a table of docs/evaluation.md.

    python benchmarks/sensitivity.py && python docs/draw_charts.py

takes the I3D features of 1024 held-out procedural clips, the benchmark's and more, as two halves that share
no clip: the distances between the halves, and between one half and what blur and noise make of some clips of
the other. ST-LPIPS is between the changed clips and themselves. It writes results/sensitivity.json and the
table between the markers of the document. The features take a quarter of an hour on two idle CPU cores. They
are kept in build/features, so an interrupted run resumes.
`--clips 8 --changed 4 --out FOLDER` tries it without changing these files. Needs the weights of I3D and
ST-LPIPS.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tqdm

from gencompositor_jax.data_pipelines import benchmark
from gencompositor_jax.evaluation import learned
from gencompositor_jax.evaluation.heldout import write_json
from gencompositor_jax.evaluation.measures import Clip, Measure
from gencompositor_jax.evaluation.report import insert
from gencompositor_jax.evaluation.scoring import SET_DISTANCES
from gencompositor_jax.files import atomic_write_text

ROOT = Path(__file__).parent.parent
HALF, CHANGED, PAIRS = 512, 32, 16  # clips of a half, changed ones, and those of ST-LPIPS
BLOCK = 32  # clips whose features are a file
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def _blurred(sigma: float) -> Change:
    return lambda frame, rng: cv2.GaussianBlur(frame, (0, 0), sigma)


def _noisy(sigma: float) -> Change:
    return lambda frame, rng: np.clip(frame + rng.normal(0, sigma, frame.shape), 0, 255).astype(np.uint8)


CHANGES: dict[str, Change] = {
    **{f"blur, sigma {sigma:g}": _blurred(sigma) for sigma in (1, 2, 4)},
    **{f"noise, sigma {sigma:g}": _noisy(sigma) for sigma in (8, 16, 32)},
}


def clip_of(number: int, change: str | None) -> np.ndarray:
    """The ground truth of a clip, changed: uint8 [T, H, W, 3]. The same number gives the same clip."""
    target = benchmark.example(number)["target"]
    if change is None:
        return target
    rng = np.random.default_rng(number)
    return np.stack([CHANGES[change](frame, rng) for frame in target])


def features_of(numbers: range, change: str | None, extract: learned.Features, folder: Path) -> np.ndarray:
    """I3D features [N, 400] of clips; kept in `folder`, a file per BLOCK clips."""
    folder = folder / (change or "clips").replace(", sigma ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for start in tqdm.tqdm(range(0, len(numbers), BLOCK), desc=change or "clips"):
        block = numbers[start : start + BLOCK]
        path = folder / f"{block[0]}-{block[-1]}-{block.step}.npy"
        if not path.exists():
            made = np.concatenate([extract([clip_of(number, change)]) for number in block])
            with (partial := path.with_suffix(".partial")).open("wb") as file:
                np.save(file, made)
            partial.replace(path)
        found.append(np.load(path))
    return np.concatenate(found)


def distances(first: np.ndarray, second: np.ndarray, count: int) -> dict[str, Any]:
    """The mean of each distance over disjoint pairs of sets of `count` clips, and its standard error."""
    starts = range(0, len(second) - count + 1, count)
    row: dict[str, Any] = {"clips": count, "pairs": len(starts)}
    for name, (function, _) in SET_DISTANCES.items():
        values = [function(first[start : start + count], second[start : start + count]) for start in starts]
        row[name] = round(float(np.mean(values)), 3)
        if len(values) > 1:
            row[f"{name}_error"] = round(float(np.std(values, ddof=1) / np.sqrt(len(values))), 3)
    return row


def perceptual(change: str, measure: Measure, pairs: int) -> float:
    """ST-LPIPS between changed clips and themselves."""
    numbers = range(1, 2 * pairs, 2)
    values = [measure.compute(Clip(clip_of(n, change), clip_of(n, None))) for n in numbers]
    return round(float(np.mean(values)), 5)


def run(half: int, changed: int, folder: Path) -> dict[str, Any]:
    """The figures: JSON values. Halves of `half` clips, of one of which `changed` clips are changed."""
    loaded = learned.load(("fvd", "st_lpips"), {})
    if loaded.features is None or "st_lpips" not in loaded.measures:
        raise SystemExit("; ".join(loaded.absent.values()))
    pairs = min(PAIRS, changed)
    even, odd = range(0, 2 * half, 2), range(1, 2 * half, 2)
    first, second = (features_of(numbers, None, loaded.features, folder) for numbers in (even, odd))
    counts = [half >> k for k in range(half.bit_length()) if half >> k >= changed]
    rows = {}
    for change in CHANGES:
        found = features_of(odd[:changed], change, loaded.features, folder)
        closeness = perceptual(change, loaded.measures["st_lpips"], pairs)
        rows[change] = distances(first, found, changed) | {"st_lpips": closeness}
    return {
        "frames": benchmark.FRAMES,
        "halves": [distances(first, second, count) for count in reversed(counts)],
        "changes": rows,
        "st_lpips_clips": pairs,
    }


def table(found: dict[str, Any]) -> str:
    """Markdown: a row per comparison."""
    lines = [
        "| | clips of each set | FVD ↓ | FVD∞ ↓ | KVD ↓ | ST-LPIPS ↓ |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    rows = [("the other half", row) for row in found["halves"]] + list(found["changes"].items())
    for name, row in rows:
        sets = " | ".join((_cell(row, "fvd", 0), _cell(row, "fvd_infinity", 0), _cell(row, "kvd", 1)))
        closeness = f"{row['st_lpips']:.3f}" if "st_lpips" in row else ""
        lines.append(f"| {name} | {row['clips']} | {sets} | {closeness} |")
    pairs, shown = ", ".join(str(row["pairs"]) for row in found["halves"]), found["st_lpips_clips"]
    return "\n".join(
        [
            *lines,
            "",
            f"Clips of {found['frames']} frames. Two sets share no clip. The other half: mean and standard "
            f"error over {pairs} pairs of sets. ST-LPIPS: {shown} clips against themselves.",
        ]
    )


def _cell(row: dict[str, Any], name: str, digits: int) -> str:
    error = f" ± {row[f'{name}_error']:.{digits}f}" if f"{name}_error" in row else ""
    return f"{row[name] + 0.0:.{digits}f}{error}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=HALF, help="of each half (default 512)")
    parser.add_argument("--changed", type=int, default=CHANGED, help="of them (default 32)")
    parser.add_argument("--features", type=Path, default=ROOT / "build" / "features")
    parser.add_argument("--out", type=Path, help="folder for the figures; no file of the repository changes")
    args = parser.parse_args()
    if not 4 <= args.changed <= args.clips:
        parser.error("--changed: pass 4 or more, and no more than --clips")
    found = run(args.clips, args.changed, args.features)
    print(table(found))
    folder = args.out or ROOT / "benchmarks" / "results"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "sensitivity.json", found)
    if args.out is None:
        document = ROOT / "docs" / "evaluation.md"
        text = insert(document.read_text(encoding="utf-8"), table(found), "sensitivity")
        atomic_write_text(document, text)


if __name__ == "__main__":
    main()
