"""Materials of procedural elements: a square painted with colour, inner texture and coverage.

Coordinates run from -1 to 1 over the square, x to the right and y down; shapes stay inside radius 0.95. Each
`paint_*` function paints one family on a canvas with three colours: two saturated ones and an accent.
"""

import cv2
import numpy as np

from gencompositor_jax.data_pipelines.textures import LUMINANCE, hsv, natural_noise, value_noise

MATERIAL = 128  # pixels on a side of the painted material
GLYPHS = "ABEFGHJKMNPQRSTWXYZ23456789&?!#"


class Canvas:
    """A material that is being painted: colour [S, S, 3] and coverage [S, S], from antialiased shapes."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.rgb = np.zeros((MATERIAL, MATERIAL, 3), np.float32)
        self.alpha = np.zeros((MATERIAL, MATERIAL), np.float32)

    def shape(self, points: np.ndarray) -> np.ndarray:
        """Coverage [S, S] in [0, 1] of a closed polygon of [n, 2] points in -1..1."""
        pixels = np.round((points + 1.0) * (MATERIAL / 2 * 16) - 8).astype(np.int32)
        cover = np.zeros((MATERIAL, MATERIAL), np.uint8)
        cv2.fillPoly(cover, [pixels], 255, cv2.LINE_AA, 4)
        return cover.astype(np.float32) / 255.0

    def line(self, points: np.ndarray, thickness: float) -> np.ndarray:
        """Coverage [S, S] in [0, 1] of an open line; thickness in the same units as the points."""
        pixels = np.round((points + 1.0) * (MATERIAL / 2 * 16) - 8).astype(np.int32)
        cover = np.zeros((MATERIAL, MATERIAL), np.uint8)
        width = max(1, round(thickness * MATERIAL / 2))
        cv2.polylines(cover, [pixels], False, 255, width, cv2.LINE_AA, 4)
        return cover.astype(np.float32) / 255.0

    def put(self, cover: np.ndarray, colour: np.ndarray | np.float32, inside: bool = False) -> None:
        """Paint `colour` ([3] or [S, S, 3]) under `cover`; `inside` clips it to the current coverage."""
        if inside:
            cover = cover * self.alpha
        self.rgb += cover[..., None] * (colour - self.rgb)
        self.alpha = np.maximum(self.alpha, cover)


def ellipse(cx: float, cy: float, rx: float, ry: float, turn: float = 0.0) -> np.ndarray:
    """[48, 2] points of an ellipse, turned by `turn` radians."""
    a = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x, y = rx * np.cos(a), ry * np.sin(a)
    return np.stack([cx + x * np.cos(turn) - y * np.sin(turn), cy + x * np.sin(turn) + y * np.cos(turn)], -1)


def element_colours(rng: np.random.Generator) -> np.ndarray:
    """[3, 3]: two saturated colours of clearly different hue, and an accent that contrasts with the first."""
    hue = rng.random()
    other = hue + rng.choice([-1, 1]) * rng.uniform(0.15, 0.5)
    first = hsv(hue, rng.uniform(0.7, 1.0), rng.uniform(0.75, 0.95))
    second = hsv(
        other,
        rng.uniform(0.5, 0.95),
        rng.uniform(0.25, 0.45) if rng.random() < 0.35 else rng.uniform(0.7, 0.95),
    )
    accent = hsv(rng.random(), rng.uniform(0.0, 0.25), 0.95 if first @ LUMINANCE < 0.5 else 0.1)
    return np.stack([first, second, accent])


def pattern(rng: np.random.Generator, colours: np.ndarray) -> np.ndarray:
    """[S, S, 3] inner texture: two colours in bands, spots, rings, halves, clouds or sectors, and grain."""
    axis = np.linspace(-1, 1, MATERIAL, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    kind, turn, pitch = rng.integers(0, 6), rng.uniform(0, np.pi), rng.uniform(1.2, 2.6)
    along = x * np.cos(turn) + y * np.sin(turn)
    across = y * np.cos(turn) - x * np.sin(turn)
    if kind == 0:
        wave = np.sin(along * pitch * np.pi)
    elif kind == 1:
        wave = np.sin(along * pitch * 2.6) * np.sin(across * pitch * 2.6) * 2 - 0.3
    elif kind == 2:
        wave = np.sin(np.hypot(x - 0.3 * np.cos(turn), y - 0.3 * np.sin(turn)) * pitch * 3)
    elif kind == 3:
        wave = 3 * along
    elif kind == 4:
        wave = 4 * (value_noise(rng, MATERIAL, MATERIAL, MATERIAL / pitch / 1.5, 2) - 0.5) * 2
    else:
        wave = np.sin(np.arctan2(y, x) * rng.integers(2, 5) + 4 * np.hypot(x, y) * rng.uniform(-1, 1))
    mix = np.clip(0.5 + wave * rng.uniform(0.8, 3.0), 0, 1)[..., None].astype(np.float32)
    grain = (natural_noise(rng, MATERIAL, MATERIAL, 1.1) - 0.5)[..., None] * rng.uniform(0.1, 0.35)
    shade = 1.0 - 0.18 * (y[..., None] + 0.3)  # darker below, so that up and down differ
    return np.clip((colours[0] + mix * (colours[1] - colours[0])) * shade + grain, 0.02, 0.98)


def paint_glyph(canvas: Canvas, colour: np.ndarray | np.float32, cx: float, cy: float, size: float) -> None:
    """A letter, digit or sign, `size` high, centred at (cx, cy), inside the coverage; units of -1..1."""
    text = GLYPHS[canvas.rng.integers(len(GLYPHS))]
    height = size * MATERIAL / 2
    font, thick = cv2.FONT_HERSHEY_SIMPLEX, max(2, round(height * 0.22))
    scale = height / 21.0
    (w, h), _ = cv2.getTextSize(text, font, scale, thick)
    cover = np.zeros((MATERIAL, MATERIAL), np.uint8)
    origin = (round((cx + 1) * MATERIAL / 2 - w / 2), round((cy + 1) * MATERIAL / 2 + h / 2))
    cv2.putText(cover, text, origin, font, scale, 255, thick, cv2.LINE_AA)
    canvas.put(cover.astype(np.float32) / 255.0, colour, inside=True)


def outline(canvas: Canvas, colour: np.ndarray | np.float32) -> None:
    """Darken the rim of the coverage, a few material pixels wide."""
    inner = cv2.erode(canvas.alpha, np.ones((7, 7), np.uint8))
    rim = canvas.alpha - cv2.GaussianBlur(inner, (5, 5), 0) * canvas.alpha
    canvas.put(np.clip(rim, 0, 1) * 0.75, colour, inside=True)


def paint_blob(canvas: Canvas, colours: np.ndarray) -> None:
    """A lumpy body with a large glyph."""
    a = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    rng = canvas.rng
    radius = np.ones_like(a)
    for k in (2, 3, 4, 5):
        radius += rng.uniform(-0.25, 0.25) / k * np.cos(k * a + rng.uniform(0, 6.3))
    radius *= 0.9 / radius.max()
    canvas.put(canvas.shape(np.stack([np.cos(a), np.sin(a)], -1) * radius[:, None]), pattern(rng, colours))
    paint_glyph(canvas, colours[2], 0, 0, rng.uniform(0.7, 0.95))


def paint_gear(canvas: Canvas, colours: np.ndarray) -> None:
    """A toothed wheel with a hub and a glyph."""
    rng = canvas.rng
    teeth = rng.integers(5, 9)
    a = np.linspace(0, 2 * np.pi, teeth * 16, endpoint=False)
    radius = 0.77 + 0.15 * np.tanh(3.5 * np.cos(teeth * a))
    canvas.put(canvas.shape(np.stack([np.cos(a), np.sin(a)], -1) * radius[:, None]), pattern(rng, colours))
    canvas.put(canvas.shape(ellipse(0, 0, 0.5, 0.5)), colours[1] * 0.8, inside=True)
    if rng.random() < 0.5:
        for k in range(3):
            centre = 0.62 * np.array([np.cos(k * 2.1), np.sin(k * 2.1)])
            canvas.put(
                canvas.shape(ellipse(float(centre[0]), float(centre[1]), 0.09, 0.09)), colours[2], inside=True
            )
    paint_glyph(canvas, colours[2], 0, 0, 0.62)


def paint_wings(canvas: Canvas, colours: np.ndarray) -> None:
    """A butterfly: four symmetric wings with eye spots, a body, antennae."""
    rng = canvas.rng
    tilt, low = rng.uniform(0.3, 0.7), rng.uniform(0.28, 0.4)
    texture = pattern(rng, colours)
    texture = (texture + texture[:, ::-1]) / 2
    for side in (-1, 1):
        canvas.put(canvas.shape(ellipse(side * 0.46, -0.33, 0.52, 0.36, -side * tilt)), texture)
        canvas.put(canvas.shape(ellipse(side * 0.38, 0.4, low, 0.34, side * tilt)), texture * 0.85)
    outline(canvas, np.float32(0.08))
    for side in (-1, 1):
        spot, ring = (side * 0.52, -0.38), (side * 0.38, 0.42)
        canvas.put(canvas.shape(ellipse(*spot, 0.17, 0.17)), colours[2], inside=True)
        canvas.put(canvas.shape(ellipse(*spot, 0.08, 0.08)), colours[1], inside=True)
        canvas.put(canvas.shape(ellipse(*ring, 0.1, 0.1)), colours[2], inside=True)
    canvas.put(canvas.shape(ellipse(0, 0.02, 0.1, 0.62)), hsv(rng.random(), 0.4, 0.22))
    canvas.put(canvas.shape(ellipse(0, -0.55, 0.14, 0.13)), hsv(rng.random(), 0.4, 0.25))
    for side in (-1, 1):
        canvas.put(
            canvas.line(np.array([[0, -0.6], [side * 0.1, -0.78], [side * 0.2, -0.88]]), 0.06),
            np.float32(0.1),
        )


def paint_creature(canvas: Canvas, colours: np.ndarray) -> None:
    """A body on legs with eyes, a mouth, often ears."""
    rng = canvas.rng
    texture = pattern(rng, colours)
    for x in (-0.42, -0.14, 0.14, 0.42) if rng.random() < 0.5 else (-0.34, 0.34):
        canvas.put(canvas.line(np.array([[x * 0.8, 0.3], [x, 0.82]]), 0.2), colours[1] * 0.75)
    if rng.random() < 0.6:
        for side in (-1, 1):
            canvas.put(canvas.shape(ellipse(side * 0.5, -0.62, 0.2, 0.28, side * 0.5)), colours[1])
    canvas.put(canvas.shape(ellipse(0, 0.05, rng.uniform(0.66, 0.82), rng.uniform(0.6, 0.72))), texture)
    outline(canvas, colours[1] * 0.3)
    gap, look = rng.uniform(0.24, 0.34), rng.uniform(-0.05, 0.05, 2)
    for side in (-1, 1):
        canvas.put(canvas.shape(ellipse(side * gap, -0.18, 0.19, 0.22)), np.float32(0.96), inside=True)
        canvas.put(
            canvas.shape(ellipse(side * gap + look[0], -0.16 + look[1], 0.1, 0.12)),
            np.float32(0.05),
            inside=True,
        )
    mouth = np.linspace(-0.25, 0.25, 9)
    smile = 0.28 + rng.uniform(-1.2, 2.0) * (0.0625 - mouth**2)
    canvas.put(canvas.line(np.stack([mouth, smile], -1), 0.09), np.float32(0.08), inside=True)
    if rng.random() < 0.5:
        paint_glyph(canvas, colours[2], 0, 0.42, 0.3)


def paint_leaf(canvas: Canvas, colours: np.ndarray) -> None:
    """A serrated leaf with a stalk and veins."""
    rng = canvas.rng
    y = np.linspace(-0.9, 0.72, 40)
    s = (y + 0.9) / 1.62
    half = (
        rng.uniform(0.75, 1.0)
        * np.sin(np.pi * s ** rng.uniform(0.7, 1.2))
        * (0.8 + 0.06 * np.cos(s * rng.integers(18, 40)))
    )
    canvas.put(canvas.line(np.array([[0, 0.6], [0.05, 0.93]]), 0.14), colours[1] * 0.6)
    canvas.put(
        canvas.shape(np.concatenate([np.stack([half, y], -1), np.stack([-half, y], -1)[::-1]])),
        pattern(rng, colours),
    )
    outline(canvas, colours[1] * 0.35)
    canvas.put(canvas.line(np.array([[0, -0.8], [0, 0.75]]), 0.09), colours[2], inside=True)
    for start in np.linspace(-0.4, 0.5, 4):
        for side in (-1, 1):
            vein = np.array([[0, start], [side * 0.35, start - 0.2], [side * 0.75, start - 0.5]])
            canvas.put(canvas.line(vein, 0.055), colours[2], inside=True)


def paint_fish(canvas: Canvas, colours: np.ndarray) -> None:
    """A fish with fins, a tail, an eye and a glyph."""
    rng = canvas.rng
    tail = np.array([[-0.4, 0.0], [-0.92, -0.55], [-0.78, 0.0], [-0.92, 0.55]])
    canvas.put(canvas.shape(tail), colours[1])
    canvas.put(canvas.shape(np.array([[-0.3, -0.3], [0.1, -0.78], [0.35, -0.3]])), colours[1] * 0.8)
    canvas.put(canvas.shape(np.array([[-0.1, 0.3], [-0.1, 0.74], [0.25, 0.3]])), colours[1] * 0.8)
    canvas.put(canvas.shape(ellipse(0.15, 0, 0.76, rng.uniform(0.42, 0.58))), pattern(rng, colours))
    outline(canvas, colours[1] * 0.35)
    canvas.put(canvas.shape(ellipse(0.6, -0.1, 0.14, 0.14)), np.float32(0.96), inside=True)
    canvas.put(canvas.shape(ellipse(0.63, -0.1, 0.07, 0.07)), np.float32(0.05), inside=True)
    paint_glyph(canvas, colours[2], 0.05, 0.02, 0.5)
