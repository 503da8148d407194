"""Draws docs/procedural_clips.png: held-out procedural clips, the model's inputs, and the ground truth.

python docs/draw_clips.py
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gencompositor_jax.arch import tiny
from gencompositor_jax.data_pipelines import examples

CLIPS = (23, 24, 21, 32, 36, 18)  # numbers of held-out examples
COLUMNS = ("scene, region to fill", "foreground, relit", "plain paste", "ground truth", "", "")
TIMES = (4, 4, 4, 0, 4, 8)
ZOOM, GAP, HEAD = 2, 6, 26
INK, PAPER = (31, 41, 55), (255, 255, 255)


def draw(numbers: tuple[int, ...]) -> Image.Image:
    """One row per held-out example."""
    arch = tiny()
    cell = arch.width * ZOOM, arch.height * ZOOM
    size = len(COLUMNS) * (cell[0] + GAP) - GAP, HEAD + len(numbers) * (cell[1] + GAP) - GAP
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    for column, (title, time) in enumerate(zip(COLUMNS, TIMES, strict=True)):
        text = f"{title}, frame {time + 1}" if title == "ground truth" else title or f"frame {time + 1}"
        pen.text((column * (cell[0] + GAP) + cell[0] / 2, HEAD / 2), text, INK, font, "mm")
    for row, number in enumerate(numbers):
        test = examples.held_out_example(number, arch.inflation, arch.frames, arch.height, arch.width)
        rows = (test["masked_background"], test["foreground"], test["paste"], *3 * (test["target"],))
        for column, (frames, time) in enumerate(zip(rows, TIMES, strict=True)):
            picture = Image.fromarray(np.ascontiguousarray(frames[time])).resize(
                cell, Image.Resampling.BICUBIC
            )
            sheet.paste(picture, (column * (cell[0] + GAP), HEAD + row * (cell[1] + GAP)))
    return sheet


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("procedural_clips.png"))
    args = parser.parse_args()
    draw(CLIPS).save(args.out, optimize=True)


if __name__ == "__main__":
    main()
