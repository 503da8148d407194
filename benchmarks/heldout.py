"""The held-out table and picture of the README.

    python benchmarks/heldout.py

evaluates the embedded model on 64 clips (a few minutes on two cores) and writes results/heldout.json here,
docs/heldout.png and the table between the README's `heldout` markers. `--checkpoint DIR --clips 8 --steps 4
--out FOLDER` evaluates another model without changing these files.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.data_pipelines.examples import TestExample
from gencompositor_jax.evaluation import heldout, report
from gencompositor_jax.evaluation.heldout import Composites, Scores
from gencompositor_jax.files import atomic_write, atomic_write_text

ROOT = Path(__file__).parent.parent
SHOWN = 6  # the first clips, not chosen ones
COLUMNS = {
    "masked_background": "scene, region to fill",
    "foreground": "foreground, relit",
    "paste": "plain paste",
    "seamless_clone": "seamlessClone",
    "model_alone": "the network alone",
    "model": "this model",
    "target": "ground truth",
}
ZOOM, GAP, HEAD, FOOT = 2, 6, 26, 18
INK, PAPER = (31, 41, 55), (255, 255, 255)


def draw(shown: list[tuple[TestExample, Composites, Scores]]) -> Image.Image:
    """A row per clip at its middle frame; below each composite its PSNR in the target region."""
    height, width = (ZOOM * side for side in shown[0][0]["target"].shape[1:3])
    across, down = width + GAP, height + FOOT + GAP
    sheet = Image.new("RGB", (len(COLUMNS) * across - GAP, HEAD + len(shown) * down - GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    title, small = ImageFont.load_default(14), ImageFont.load_default(12)
    for column, label in enumerate(COLUMNS.values()):
        pen.text((column * across + width / 2, HEAD / 2), label, INK, title, "mm")
    for row, (example, composites, scores) in enumerate(shown):
        for column, name in enumerate(COLUMNS):
            frames = composites[name] if name in composites else example[name]
            picture = Image.fromarray(np.ascontiguousarray(frames[len(frames) // 2]))
            x, y = column * across, HEAD + row * down
            sheet.paste(picture.resize((width, height), Image.Resampling.BICUBIC), (x, y))
            if name in scores:
                text = f"{scores[name]['target']:.1f} dB"
                pen.text((x + width / 2, y + height + FOOT / 2), text, INK, small, "mm")
    return sheet


def write(path: Path, content: str | Image.Image) -> None:
    """Write a text or an image atomically."""
    if isinstance(content, str):
        atomic_write_text(path, content)
    else:
        with atomic_write(path, overwrite=True) as part:
            content.save(part, format="PNG", optimize=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", help="folder of a checkpoint; default: the embedded model")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--steps", type=int, help="default: the checkpoint's")
    parser.add_argument("--seed", type=int, default=SamplingOptions.seed)
    parser.add_argument("--out", type=Path, help="folder for results and picture; the README isn't changed")
    args = parser.parse_args()
    results = args.out or ROOT / "benchmarks" / "results"
    results.mkdir(parents=True, exist_ok=True)
    evaluation = heldout.run(
        args.checkpoint,
        clips=args.clips,
        options=SamplingOptions(steps=args.steps, seed=args.seed),
        out=results / "heldout.json",
        overwrite=True,
        keep=SHOWN,
    )
    table = report.table(evaluation.report)
    print(table)
    write((args.out or ROOT / "docs") / "heldout.png", draw(evaluation.shown))
    if args.out is None:
        readme = ROOT / "README.md"
        write(readme, report.insert(readme.read_text(encoding="utf-8"), table))


if __name__ == "__main__":
    main()
