"""Distilled students against their teacher, in several numbers of sampling steps.

    python benchmarks/distilled.py --student runs/student/model [--progressive runs/progressive]

The student is of consistency distillation; benchmarks/progressive.py makes those of progressive distillation.
Writes results/distilled.json: mean PSNR to the ground truth of the network's own frames in the regions of the
held-out protocol, over the same clips, in one run.
"""

import argparse
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import tqdm

from gencompositor_jax import checkpoints
from gencompositor_jax.arch import Solver
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.data_pipelines.examples import held_out_example
from gencompositor_jax.evaluation import heldout
from gencompositor_jax.evaluation.prediction import composite, predict

OUT = Path(__file__).parent / "results" / "distilled.json"
TEACHER: list[tuple[int, Solver]] = [(20, "dpm"), *((n, "ddim") for n in (20, 4, 2, 1))]
STUDENT: list[tuple[int, Solver]] = [(n, "consistency") for n in (4, 2, 1)]
PROGRESSIVE = 4, 2, 1  # each of another student


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--student", type=Path, required=True, help="folder of the student's checkpoint")
    parser.add_argument("--progressive", type=Path, help="folder of benchmarks/progressive.py")
    parser.add_argument("--teacher", type=Path, help="folder of the teacher's; default: the embedded model")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    models = {
        "teacher": checkpoints.load(args.teacher or checkpoints.packaged(), jnp.float32),
        "student": checkpoints.load(args.student, jnp.float32),
    }
    rows = [("teacher", *how) for how in TEACHER] + [("student", *how) for how in STUDENT]
    for steps in PROGRESSIVE if args.progressive else ():
        name = f"progressive {steps}"
        models[name] = checkpoints.load(args.progressive / str(steps) / "model", jnp.float32)
        rows.append((name, steps, "ddim"))
    found: dict[tuple[str, int, Solver], list[dict[str, float]]] = {row: [] for row in rows}
    arch = models["teacher"].arch
    for first in tqdm.tqdm(range(0, args.clips, heldout.BATCH)):
        numbers = range(first, min(first + heldout.BATCH, args.clips))
        examples = [
            held_out_example(n, arch.inflation, arch.frames, arch.height, arch.width, arch.offset_cell)
            for n in numbers
        ]
        for name, steps, solver in rows:
            options = SamplingOptions(steps=steps, solver=solver)
            frames = predict(models[name], examples, numbers, options, heldout.BATCH)
            for example, generated in zip(examples, frames, strict=True):
                regions = heldout.scored_regions(example, arch.inflation)
                made = {"": composite(example, generated)}
                found[name, steps, solver].append(heldout.score(made, example["target"], regions)[""])
    results = [
        {"model": name, "steps": steps, "solver": solver}
        | {r: round(float(np.mean([s[r] for s in scores if r in s])), 2) for r in heldout.REGIONS}
        for (name, steps, solver), scores in found.items()
    ]
    report = {
        "clips": args.clips,
        "student": models["student"].provenance.get("step"),
        "psnr_db": results,
    }
    heldout.write_json(args.out, report)
    for row in results:
        print(row)


if __name__ == "__main__":
    main()
