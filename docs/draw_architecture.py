"""Draws docs/architecture.svg and .png, the figure in the README.

    pip install matplotlib && python docs/draw_architecture.py

The small pictures are the demo's clip with its mask and conditions, and the embedded model's result.
"""

import argparse
from pathlib import Path
from typing import Any

import cv2
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle

from gencompositor_jax.arch import Inflation
from gencompositor_jax.compositor import Compositor
from gencompositor_jax.controls.element.element import Element
from gencompositor_jax.controls.geometry.path import resolve_path
from gencompositor_jax.controls.geometry.placement import centred_foreground, trajectory_to_mask
from gencompositor_jax.controls.geometry.trajectory_text import parse_numbers, parse_trajectory
from gencompositor_jax.controls.geometry.view import identity_view
from gencompositor_jax.data_pipelines import demo, procedural
from gencompositor_jax.masks.inflation import inflate

HERE = Path(__file__).parent
PIXELS = 200  # width of a small picture

INK, SOFT, LINE, PAPER = "#1f2937", "#5b6675", "#aab4c2", "#ffffff"
BACKGROUND, FOREGROUND, MASK, TEXT, NOISE, MODEL = (
    "#2f6fb0",
    "#d9822b",
    "#4b5563",
    "#3f8f63",
    "#8462b8",
    "#26324a",
)
LETTERS = {"noise": "z", "background": "b", "mask": "m", "foreground": "f"}
STREAMS = {"noise": NOISE, "background": BACKGROUND, "mask": MASK, "foreground": FOREGROUND}
TINT = {
    BACKGROUND: "#e8f0f8",
    FOREGROUND: "#fcf1e4",
    MASK: "#eef0f3",
    TEXT: "#e6f3ec",
    NOISE: "#f0ebf7",
    MODEL: "#f3f5f9",
}


# Bottoms of the rows of pictures, and the heights of their arrows.
ROWS = {"noise": 66.5, "background": 46.0, "mask": 27.5, "foreground": 8.0}
MIDDLE = {name: y + 5 for name, y in ROWS.items()} | {"noise": 69.2}


class Sheet:
    """A drawing of 160 x 84 units, y up."""

    def __init__(self, interpolation: str) -> None:
        self.interpolation = interpolation
        plt.rcParams.update(
            {"font.family": "DejaVu Sans", "svg.fonttype": "path", "svg.hashsalt": "gencompositor-jax"}
        )
        self.figure = plt.figure(figsize=(16, 8.4), facecolor=PAPER)
        self.ax: Axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, 160), ylim=(0, 84), aspect="equal")
        self.ax.axis("off")

    # Positions and sizes are in units of the sheet, font sizes in points.

    def box(
        self, x: float, y: float, w: float, h: float, colour: str, width: float = 1.4, fill: str | None = None
    ) -> None:
        """A box with rounded corners."""
        shape = FancyBboxPatch(
            (x, y),
            w,
            h,
            boxstyle="round,pad=0,rounding_size=1.1",
            fc=fill or TINT[colour],
            ec=colour,
            lw=width,
            zorder=2,
        )
        self.ax.add_patch(shape)

    def text(self, x: float, y: float, s: str, size: float = 9.5, colour: str = INK, **more: Any) -> None:
        """A line of text centred at (x, y)."""
        options: dict[str, Any] = {"ha": "center", "va": "center", "zorder": 6}
        self.ax.text(x, y, s, fontsize=size, color=colour, **(options | more))

    def arrow(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        colour: str = SOFT,
        lw: float = 1.8,
    ) -> None:
        """An arrow."""
        self.ax.add_patch(
            FancyArrowPatch(
                start,
                end,
                arrowstyle="-|>",
                mutation_scale=13,
                lw=lw,
                color=colour,
                shrinkA=0,
                shrinkB=0,
                zorder=4,
            )
        )

    def line(self, points: list[tuple[float, float]], colour: str = SOFT, lw: float = 1.8) -> None:
        """A line through some points."""
        self.ax.plot(*zip(*points, strict=True), color=colour, lw=lw, solid_joinstyle="round", zorder=4)

    def picture(self, x: float, y: float, w: float, frames: np.ndarray, colour: str, stack: int = 2) -> None:
        """The first frame on top of `stack` later ones; w units wide."""
        h = w * frames.shape[1] / frames.shape[2]
        for i in range(stack, -1, -1):
            dx = 0.7 * i
            frame = frames[min(len(frames) - 1, i * 3)]
            pixels = min(frame.shape[1], PIXELS if i == 0 else 40)  # only a margin of the others is visible
            frame = cv2.resize(frame, (pixels, round(pixels * h / w)), interpolation=cv2.INTER_AREA)
            self.ax.imshow(
                frame,
                extent=(x + dx, x + dx + w, y + dx, y + dx + h),
                zorder=3 + (stack - i) * 0.1,
                interpolation=self.interpolation,
            )
            edge = Rectangle(
                (x + dx, y + dx), w, h, fill=False, ec=colour, lw=1.3, zorder=3.05 + (stack - i) * 0.1
            )
            self.ax.add_patch(edge)
        self.ax.set_xlim(0, 160)
        self.ax.set_ylim(0, 84)


def checkerboard(rgba: np.ndarray, cell: int = 8) -> np.ndarray:
    """Straight-alpha frames over a checkerboard."""
    y, x = np.mgrid[: rgba.shape[1], : rgba.shape[2]]
    board = np.where((x // cell + y // cell) % 2, 225, 250)[None, ..., None]
    alpha = rgba[..., 3:] / 255.0
    return (rgba[..., :3] * alpha + board * (1 - alpha)).astype(np.uint8)


def scene() -> dict[str, np.ndarray]:
    """Pictures, uint8 [T, H, W, 3], by name, and `path` [T, 2] in relative coordinates."""
    inputs = demo.DemoInputs("", "")
    clip = procedural.make_clip(demo.SEED, 9, demo.HEIGHT, demo.WIDTH, family="wings")
    element, size = Element(clip.element, "demo"), (demo.HEIGHT, demo.WIDTH)
    scales = parse_numbers(inputs.scale, "scale")
    path = resolve_path(parse_trajectory(inputs.trajectory), 9, (demo.WIDTH, demo.HEIGHT), scales)
    view = identity_view(size)
    target = trajectory_to_mask(element, path, "center", view)
    mask = inflate(target, Inflation(opening=0, min_area=0.0, kernel=21, sigma=6.0, tau=0.1))
    composite = Compositor.load().compose(clip.background, element, inputs.trajectory, scale=scales)
    return {
        "background": clip.background,
        "element": checkerboard(clip.element),
        "mask": np.repeat((mask * 255).astype(np.uint8)[..., None], 3, -1),
        "masked": np.where(mask[..., None], 0, clip.background),
        "foreground": centred_foreground(element, path, view),
        "noise": np.random.default_rng(0).integers(0, 255, (9, 16, 24, 3), dtype=np.uint8),
        "result": np.asarray(composite.frames),
        "path": path.xy / (demo.WIDTH, demo.HEIGHT),
    }


def draw(p: dict[str, np.ndarray], interpolation: str) -> Figure:
    """The figure. p: from `scene`; interpolation: of the small pictures."""
    s = Sheet(interpolation)
    columns = [
        (12, "inputs"),
        (36, "conditions"),
        (58, "latents"),
        (75, "tokens"),
        (101, "network"),
        (128.6, "sampling"),
        (151, "result"),
    ]
    for x, name in columns:
        s.text(x, 82, name.upper(), 9.5, SOFT, fontweight="bold")

    _inputs(s, p)
    _conditions(s, p)
    _latents(s)
    _tokens(s)
    _branch(s)
    _backbone(s)
    _sampling(s)
    _result(s, p)
    return s.figure


def _inputs(s: Sheet, p: dict[str, np.ndarray]) -> None:
    """The user's inputs: background, trajectory, element, seed."""
    s.picture(3.2, ROWS["background"], 16, p["background"], BACKGROUND)
    s.text(12, ROWS["background"] - 2.2, "background video", 10)
    s.picture(3.2, ROWS["mask"], 16, p["background"], MASK, stack=0)
    s.ax.add_patch(Rectangle((3.2, ROWS["mask"]), 16, 16 * 2 / 3, fc="#ffffffb0", zorder=3.5))
    path = p["path"] * np.array([16, -16 * 2 / 3]) + np.array([3.2, ROWS["mask"] + 16 * 2 / 3])
    s.ax.plot(*path.T, color=FOREGROUND, lw=2.2, zorder=4)
    for i in (0, 4, 8):
        s.ax.add_patch(Circle(tuple(path[i]), 0.55, fc=PAPER, ec=FOREGROUND, lw=1.8, zorder=5))
    s.text(12, ROWS["mask"] - 2.2, "trajectory, scale, rotation", 10)
    element = p["element"]
    s.picture(6.2, ROWS["foreground"], 10.2, element, FOREGROUND)
    s.text(12, ROWS["foreground"] - 2.2, "element (alpha, key or mask)", 10)
    s.text(12, 69.2, "seed", 11, NOISE, fontweight="bold")


def _conditions(s: Sheet, p: dict[str, np.ndarray]) -> None:
    """Conditions, and arrows from the inputs."""
    s.picture(28, ROWS["noise"] - 3, 14, p["noise"], NOISE, stack=0)
    s.picture(28, ROWS["background"], 14, p["masked"], BACKGROUND)
    s.picture(28, ROWS["mask"], 14, p["mask"], MASK)
    s.picture(28, ROWS["foreground"], 14, p["foreground"], FOREGROUND)
    for name, label in (
        ("noise", "noise"),
        ("background", "masked background"),
        ("mask", "inflated target mask"),
        ("foreground", "foreground, centred on white"),
    ):
        s.text(36, ROWS[name] - (5.0 if name == "noise" else 2.2), label, 10)
    s.arrow((15.5, MIDDLE["noise"]), (27, MIDDLE["noise"]), NOISE)
    s.arrow((21.5, MIDDLE["background"]), (27, MIDDLE["background"]), BACKGROUND)
    s.arrow((21.5, MIDDLE["foreground"]), (27, MIDDLE["foreground"]), FOREGROUND)
    s.arrow((21.5, MIDDLE["mask"]), (27, MIDDLE["mask"]), MASK)
    s.arrow((18.3, MIDDLE["foreground"] + 5.4), (27, MIDDLE["mask"] - 2.6), MASK)
    s.arrow((31, ROWS["mask"] + 11.5), (31, ROWS["background"] - 3.7), MASK)


def _latents(s: Sheet) -> None:
    """The codec and the latents."""
    s.box(47.5, 5, 4.2, 54, MODEL, fill="#e3e8f1")
    s.text(49.6, 32, "codec: causal 3-D VAE, or lossless patches", 9.5, MODEL, rotation=90)
    for name, colour in (("background", BACKGROUND), ("foreground", FOREGROUND)):
        s.arrow((44, MIDDLE[name]), (47, MIDDLE[name]), colour)
    s.line([(44, MIDDLE["mask"]), (47, MIDDLE["mask"])], MASK)
    s.arrow((52.2, MIDDLE["mask"]), (54.5, MIDDLE["mask"]), MASK)
    s.arrow((52.2, MIDDLE["background"]), (54.5, MIDDLE["background"]), BACKGROUND)
    s.arrow((52.2, MIDDLE["foreground"]), (54.5, MIDDLE["foreground"]), FOREGROUND)
    s.arrow((42.7, MIDDLE["noise"]), (54.5, MIDDLE["noise"]), NOISE)
    for name, colour in (
        ("noise", NOISE),
        ("background", BACKGROUND),
        ("mask", MASK),
        ("foreground", FOREGROUND),
    ):
        cube(s, 55.2, MIDDLE[name] - 2.4, colour)

    # A letter on each block of latents.
    for name, letter in LETTERS.items():
        s.text(57.3, MIDDLE[name] - 0.75, letter, 12, PAPER, fontweight="bold")
        s.text(58, MIDDLE[name] - 4.6, {"mask": "latent mask"}.get(name, ""), 8.5, SOFT)


def _tokens(s: Sheet) -> None:
    """The tokens of one sequence."""
    x, w, pitch = 73.4, 3.2, 2.45
    tokens = {"text": (TEXT, 2, 55.6), "video": (BACKGROUND, 8, 33.6), "foreground": (FOREGROUND, 8, 6.4)}
    for name, (colour, count, bottom) in tokens.items():
        for i in range(count):
            inside = name == "video" and i in (3, 4)
            square = Rectangle(
                (x, bottom + i * pitch), w, 2.1, fc=PAPER if inside else colour, ec=colour, lw=1.3, zorder=4
            )
            if inside:
                square.set_hatch("/////")
            s.ax.add_patch(square)
        top = bottom + count * pitch
        s.text(x + w / 2, bottom - 1.6, name, 9.5, colour, fontweight="bold")
        s.arrow((x + w + 0.8, (bottom + top) / 2), (83.4, (bottom + top) / 2), colour, lw=2.4)
    chips(s, 64.6, 42.4, ["noise", "background"])
    s.arrow((69.2, 43.4), (72.6, 43.4))
    chips(s, 66.6, 15.2, ["foreground"])
    s.arrow((69.2, 16.2), (72.6, 16.2))
    s.text(66.2, 36.4, "hatched: inside", 8.5, SOFT)
    s.text(66.2, 34.4, "the mask", 8.5, SOFT)
    s.text(67.9, 57.9, "null text", 9.5, TEXT)
    s.arrow((71.2, 57.9), (72.6, 57.9), TEXT)


def _branch(s: Sheet) -> None:
    """The background branch."""
    s.box(84, 64.6, 33, 11.4, BACKGROUND)
    s.text(100.5, 72.8, "background branch", 12, BACKGROUND, fontweight="bold")
    s.text(100.5, 69.6, "2 blocks on noise, masked background and", 9)
    s.text(100.5, 67.1, "mask; aligned positions", 9)
    chips(s, 71.6, 69.4, ["noise", "background", "mask"])
    s.arrow((79, 70.4), (83.4, 70.4))
    s.arrow((91, 64.3), (91, 58.6), BACKGROUND, lw=2.6)
    s.text(92.6, 61.9, "masked token injection: added after every block,", 9, BACKGROUND, ha="left")
    s.text(92.6, 59.9, "only to video tokens without a masked pixel", 9, BACKGROUND, ha="left")


def _backbone(s: Sheet) -> None:
    """The backbone."""
    for i in (2, 1, 0):
        s.box(84 + i * 0.9, 4.6 + i * 0.9, 33, 51.6, MODEL, fill="#ffffff" if i == 0 else "#e9edf4")
    s.text(100.5, 53.4, "FusionDiT", 13, MODEL, fontweight="bold")
    s.text(100.5, 50.6, "42 fusion blocks at full size", 9, SOFT)
    s.box(87, 26.2, 27, 21.6, MODEL, width=1.1)
    s.text(100.5, 45.4, "full self-attention over", 10.5)
    words = (
        ("text", TEXT, 90.2),
        ("|", SOFT, 93.3),
        ("video", BACKGROUND, 97.4),
        ("|", SOFT, 101.4),
        ("foreground", FOREGROUND, 107.4),
    )
    for word, colour, at in words:
        s.text(at, 42.8, word, 10.5, colour, fontweight="bold")
    for row in range(3):
        for column in range(4):
            corner = (89.6 + column * 1.75, 34.6 + row * 1.75)
            s.ax.add_patch(Rectangle(corner, 1.5, 1.5, fc=BACKGROUND, ec="none", alpha=0.85, zorder=5))
            s.ax.add_patch(
                Rectangle(
                    (corner[0], corner[1] - 5.25), 1.5, 1.5, fc=FOREGROUND, ec="none", alpha=0.85, zorder=5
                )
            )
    s.line([(88.6, 40.2), (88.6, 28.2)], SOFT, 1.1)
    s.text(105.4, 38.4, "ERoPE", 9.5, fontweight="bold")
    s.text(105.4, 35.9, "foreground positions", 8.5)
    s.text(105.4, 33.6, "extend beyond", 8.5)
    s.text(105.4, 31.3, "the video's grid", 8.5)
    s.box(87, 14.8, 27, 8.2, MODEL, width=1.1)
    s.text(100.5, 18.9, "feed-forward", 10.5)
    s.box(87, 7.2, 27, 5.0, MODEL, width=1.1)
    s.text(100.5, 9.7, "timestep: shift, scale, gate", 9.5)
    s.arrow((100.5, 25.9), (100.5, 23.3), MODEL)
    s.arrow((93.5, 12.5), (93.5, 14.5), SOFT)
    s.line([(107.5, 12.2), (107.5, 13.5), (115.4, 13.5), (115.4, 30)], SOFT, 1.3)
    s.arrow((115.4, 30), (114.2, 30), SOFT, lw=1.3)


def _sampling(s: Sheet) -> None:
    """Sampler, and the loop over steps."""
    s.arrow((119.2, 43.4), (122.2, 43.4), NOISE, lw=2.4)
    s.box(122.6, 35.4, 12, 16, NOISE)
    s.text(128.6, 48.6, "sampler", 12, NOISE, fontweight="bold")
    s.text(128.6, 45.4, "DPM or DDIM,", 9)
    s.text(128.6, 43.0, "one lax.scan", 9)
    s.text(128.6, 39.4, "v, noise or x0", 9, SOFT)
    s.text(128.6, 37.2, "prediction", 9, SOFT)
    s.line([(128.6, 51.8), (128.6, 78.0), (58.3, 78.0)], NOISE)
    s.arrow((58.3, 78.0), (58.3, MIDDLE["noise"] + 3.2), NOISE)
    s.text(101, 79.3, "every step (20 by default)", 9.5, NOISE)


def _result(s: Sheet, p: dict[str, np.ndarray]) -> None:
    """Decoding and paste-back."""
    s.arrow((134.9, 43.4), (137.0, 43.4), NOISE, lw=2.4)
    s.box(137.4, 27, 3.2, 32.8, MODEL, fill="#e3e8f1")
    s.text(139.0, 43.4, "codec: decode", 9.5, MODEL, rotation=90)
    s.arrow((140.9, 43.4), (143.0, 43.4), lw=2.4)
    s.box(143.4, 36.6, 15.6, 13.6, BACKGROUND)
    s.text(151.2, 47.6, "paste-back", 11, BACKGROUND, fontweight="bold")
    s.text(151.2, 44.6, "at native size, inside", 8.5)
    s.text(151.2, 42.3, "the feathered mask:", 8.5)
    s.text(151.2, 40.0, "other pixels stay exact", 8.5)
    s.arrow((151.2, 50.6), (151.2, 57.2), INK, lw=2.4)
    s.picture(143.8, 58.0, 13.4, p["result"], INK)
    s.text(151.2, 70.6, "composite", 10.5, fontweight="bold")
    s.arrow((151.2, 31.2), (151.2, 36.2), BACKGROUND)
    s.text(151.2, 29.4, "background at native", 8.5, SOFT)
    s.text(151.2, 27.2, "size, and mask", 8.5, SOFT)


def cube(s: Sheet, x: float, y: float, colour: str) -> None:
    """A block of latents [t, h, w]."""
    w, h, d = 4.2, 3.4, 1.3
    front = [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]
    top = [(x, y + h), (x + w, y + h), (x + w + d, y + h + d), (x + d, y + h + d)]
    side = [(x + w, y), (x + w + d, y + d), (x + w + d, y + h + d), (x + w, y + h)]
    for points, alpha in ((front, 0.55), (top, 0.3), (side, 0.8)):
        s.ax.add_patch(Polygon(points, closed=True, fc=colour, ec=colour, lw=1.0, alpha=alpha, zorder=4))


def chips(s: Sheet, x: float, y: float, names: list[str]) -> None:
    """Small squares with the letters of the latents that are concatenated along channels."""
    for i, name in enumerate(names):
        s.ax.add_patch(Rectangle((x + i * 2.3, y), 2.1, 2.1, fc=STREAMS[name], ec="none", zorder=5))
        s.text(x + i * 2.3 + 1.05, y + 1.0, LETTERS[name], 9.5, PAPER, fontweight="bold")


def main() -> None:
    """Write both files."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    pictures = scene()
    for suffix, interpolation in (("svg", "none"), ("png", "lanczos")):
        figure = draw(pictures, interpolation)
        figure.savefig(
            HERE / f"architecture.{suffix}", dpi=110, metadata={"Date": None} if suffix == "svg" else None
        )


if __name__ == "__main__":
    main()
