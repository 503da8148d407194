"""Procedural foreground elements: a painted material and a deformation over time.

A family is a pair of functions: one paints, the other draws a bend. A bend maps points of the element at a
time in 0..1 to points of the material; both are in -1..1 over the square.
"""

from collections.abc import Callable

import cv2
import numpy as np

from gencompositor_jax.data_pipelines.materials import (
    MATERIAL,
    Canvas,
    element_colours,
    paint_blob,
    paint_creature,
    paint_fish,
    paint_gear,
    paint_leaf,
    paint_wings,
)

Grid = tuple[np.ndarray, np.ndarray]
Bend = Callable[[np.ndarray, np.ndarray, float], Grid]
Paint = Callable[[Canvas, np.ndarray], None]


def bend_wobble(rng: np.random.Generator) -> Bend:
    """Wobbles like jelly."""
    p, amount, speed = rng.uniform(0, 6.3, 2), rng.uniform(0.03, 0.09), rng.uniform(0.6, 1.3)

    def move(x: np.ndarray, y: np.ndarray, t: float) -> Grid:
        a = 2 * np.pi * speed * t
        squash = 1.0 + amount * np.sin(a + p[0])
        return x * squash + amount * np.sin(3 * y + a + p[1]), y / squash + amount * np.sin(3 * x - a + p[0])

    return move


def bend_turn(rng: np.random.Generator) -> Bend:
    """Turns about the centre."""
    turn = rng.choice([-1, 1]) * rng.uniform(0.5, 2.2)

    def move(x: np.ndarray, y: np.ndarray, t: float) -> Grid:
        c, s = np.cos(turn * t), np.sin(turn * t)
        return c * x - s * y, s * x + c * y

    return move


def bend_flap(rng: np.random.Generator) -> Bend:
    """Wings fold towards a still body."""
    phase, beats, deep = rng.uniform(0, 6.3), rng.uniform(0.7, 1.6), rng.uniform(0.12, 0.26)

    def move(x: np.ndarray, y: np.ndarray, t: float) -> Grid:
        open_ = 1.0 - deep + deep * np.cos(2 * np.pi * beats * t + phase)
        wing = np.clip((np.abs(x) - 0.1) / 0.15, 0, 1)  # the body does not flap
        return x * (1 + wing * (1 / open_ - 1)), y + 0.12 * (1 - open_) * np.abs(x)

    return move


def bend_sway(rng: np.random.Generator) -> Bend:
    """Sways, more at the far end."""
    phase, beats, amount = rng.uniform(0, 6.3), rng.uniform(0.5, 1.2), rng.uniform(0.08, 0.2)

    def move(x: np.ndarray, y: np.ndarray, t: float) -> Grid:
        swing = amount * np.sin(2 * np.pi * beats * t + phase)
        return x - swing * (y - 0.2) * np.abs(y - 0.2), y + 0.3 * swing * x

    return move


def bend_swim(rng: np.random.Generator) -> Bend:
    """A wave that grows towards the tail; half of the fish face left."""
    phase, beats, amount = rng.uniform(0, 6.3), rng.uniform(0.8, 1.6), rng.uniform(0.05, 0.12)
    side = float(rng.choice([-1, 1]))

    def move(x: np.ndarray, y: np.ndarray, t: float) -> Grid:
        x = side * x
        return x, y + amount * (0.9 - x) ** 1.0 * np.sin(2.5 * x + 2 * np.pi * beats * t + phase)

    return move


FAMILIES: dict[str, tuple[Paint, Callable[[np.random.Generator], Bend]]] = {
    "blob": (paint_blob, bend_wobble),
    "gear": (paint_gear, bend_turn),
    "wings": (paint_wings, bend_flap),
    "creature": (paint_creature, bend_wobble),
    "leaf": (paint_leaf, bend_sway),
    "fish": (paint_fish, bend_swim),
}


def make_sprite(rng: np.random.Generator, family: str, frames: int, extent: float) -> np.ndarray:
    """Animate an element of one family.

    Args:
        family: a key of FAMILIES.
        extent: side of its square in pixels; the silhouette spans about nine tenths of it.

    Returns:
        uint8 [frames, h, w, 4], straight-alpha RGBA, unlit, cropped to the union of its extent over time.
    """
    paint, bend = FAMILIES[family]
    canvas = Canvas(rng)
    paint(canvas, element_colours(rng))
    material = np.dstack([canvas.rgb * canvas.alpha[..., None], canvas.alpha])
    side = max(8, round(extent))
    material = cv2.GaussianBlur(material, (0, 0), 0.35 * MATERIAL / side)  # antialiases the resize
    axis = (np.arange(side, dtype=np.float32) + 0.5) * (2.0 / side) - 1.0
    x, y = np.meshgrid(axis, axis)
    move = bend(rng)
    out = np.empty((frames, side, side, 4), np.float32)
    for t in range(frames):
        u, v = move(x, y, t / max(frames - 1, 1))
        half = MATERIAL / 2
        map_x, map_y = ((m + 1) * half - 0.5 for m in (u, v))
        out[t] = cv2.remap(material, map_x.astype(np.float32), map_y.astype(np.float32), cv2.INTER_LINEAR)
    alpha = np.clip(out[..., 3:], 0, 1)
    straight = np.clip(out[..., :3] / np.maximum(alpha, 1e-3), 0, 1)
    frames8 = np.round(np.concatenate([straight, alpha], -1) * 255).astype(np.uint8)
    seen = np.max(frames8[..., 3], axis=0) > 127
    rows, columns = np.flatnonzero(np.any(seen, axis=1)), np.flatnonzero(np.any(seen, axis=0))
    # One more pixel on each side keeps the soft edge.
    top, left = max(rows[0] - 1, 0), max(columns[0] - 1, 0)
    return np.ascontiguousarray(frames8[:, top : rows[-1] + 2, left : columns[-1] + 2])
