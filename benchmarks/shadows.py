"""What the light around the element, its shadow or glow, adds to a paste, on clips for development.

    python benchmarks/shadows.py          # some minutes on two cores

composites the clips 1000 to 1639 of the evaluation's generator (the held-out ones are 0 to 63) and writes
results/shadows.json: the gain in PSNR over the paste by region, with and without shadow, mean and half of the
95 % interval; and how much of the true shadow is drawn, in the mask beside the element: the sum of true times
drawn darkening over that of the true one's square.
"""

import argparse
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import tqdm

from gencompositor_jax import checkpoints
from gencompositor_jax.controls.geometry.paste_back import make_transfer
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.data_pipelines.examples import held_out_example
from gencompositor_jax.evaluation import heldout, metrics
from gencompositor_jax.evaluation.prediction import composite, predict

OUT = Path(__file__).parent / "results" / "shadows.json"
FIRST = 1000
BESIDE = 8  # alpha, of 255, below which a pixel isn't the element's


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, help="default: the embedded model")
    parser.add_argument("--clips", type=int, default=640)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    model = checkpoints.load(args.checkpoint or checkpoints.packaged(), jnp.float32)
    arch, options = model.arch, SamplingOptions()
    gains: dict[str, dict[str, list[float]]] = {
        name: {region: [] for region in heldout.REGIONS} for name in ("with", "without")
    }
    drawn = true = 0.0
    for first in tqdm.tqdm(range(FIRST, FIRST + args.clips, heldout.BATCH)):
        numbers = range(first, min(first + heldout.BATCH, FIRST + args.clips))
        examples = [
            held_out_example(n, arch.inflation, arch.frames, arch.height, arch.width, arch.offset_cell)
            for n in numbers
        ]
        frames = predict(model, examples, numbers, options, heldout.BATCH)
        for example, generated in zip(examples, frames, strict=True):
            pastes = example["placed"], example["placed"]
            scene, mask = example["background"], example["mask"]
            found = make_transfer(scene, generated, mask, pastes, arch.cell[1], options.detail)
            if found is None:
                continue
            plain = found._replace(fit=found.fit._replace(shade=np.ones_like(found.fit.shade)))
            made = {
                "with": composite(example, generated, options.feather, found),
                "without": composite(example, generated, options.feather, plain),
                "paste": example["paste"],
            }
            regions = heldout.scored_regions(example, arch.inflation)
            scores = heldout.score(made, example["target"], regions)
            for name, by_region in gains.items():
                for region, score in scores[name].items():
                    by_region[region].append(score - scores["paste"][region])
            beside = mask & ~example["silhouette"] & (example["placed"][..., 3] < BESIDE)
            dark = [
                (scene.astype(np.float32) - v).mean(axis=-1)[beside]
                for v in (example["target"], made["with"])
            ]
            true += float(dark[0] @ dark[0])
            drawn += float(dark[0] @ dark[1])
    report = {
        "clips": {"first": FIRST, "count": args.clips},
        "gain_over_the_paste_db": {
            name: {
                region: [None if v is None else round(v, 3) for v in metrics.mean_and_half_width(values)]
                for region, values in by_region.items()
            }
            for name, by_region in gains.items()
        },
        "shadow_drawn": round(drawn / true, 3),
    }
    heldout.write_json(args.out, report)
    print(report)


if __name__ == "__main__":
    main()
