"""Mask-shape augmentation (released training): replaces a target mask by a shape that a user might draw.

Masks from a segmenter follow the element's outline, and a model trained on them alone learns to fill
silhouettes. One kind of shape is drawn per clip; in every frame its size and position follow the mask.

    brush          0.4   strokes along the outline, of varying thickness
    random brush   0.3   strokes in random directions that start at the mask
    rectangle      0.1   around the mask
    ellipse        0.1
    circle         0.1

The probabilities are the release's. The result always contains the mask; empty frames stay empty.
"""

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Bool


@dataclasses.dataclass(frozen=True)
class Box:
    """Bounding box of the mask in one frame, in pixels; both ends are inside."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def centre(self) -> np.ndarray:
        """(x, y), float64."""
        return np.array([self.left + self.right, self.top + self.bottom]) / 2

    @property
    def half(self) -> np.ndarray:
        """(x, y), float64: from the centre to the outer edges of the outermost pixels."""
        return np.array([self.right - self.left + 1, self.bottom - self.top + 1]) / 2

    @property
    def side(self) -> float:
        """Side of the square of equal area."""
        return float(2 * np.sqrt(self.half.prod()))


# Adds a clip's shape to one frame in place, uint8 [H, W] with 1 inside.
Painter = Callable[[np.ndarray, Box], None]


def reshape(mask: Bool[np.ndarray, "T H W"], rng: np.random.Generator) -> Bool[np.ndarray, "T H W"]:
    """Adds a random shape that hides the mask's outline.

    rng: source of all draws; their number doesn't depend on the mask.
    """
    return apply(mask, draw_kind(rng), rng)


def draw_kind(rng: np.random.Generator) -> str:
    """A key of PROBABILITIES, drawn with its probability."""
    return str(rng.choice(list(PROBABILITIES), p=list(PROBABILITIES.values())))


def apply(mask: Bool[np.ndarray, "T H W"], kind: str, rng: np.random.Generator) -> Bool[np.ndarray, "T H W"]:
    """`reshape` with a given kind of shape, a key of PROBABILITIES."""
    paint = _PAINTERS[kind](rng)
    out = mask.astype(np.uint8)
    for frame in out:
        if (box := bounding_box(frame)) is not None:
            paint(frame, box)
    return out > 0


def bounding_box(frame: np.ndarray) -> Box | None:
    """Bounding box of the nonzero pixels of a bool or uint8 [H, W]; None if there are none."""
    left, top, width, height = cv2.boundingRect(frame.view(np.uint8))
    return Box(top, left, top + height - 1, left + width - 1) if width else None


def _rectangle(rng: np.random.Generator) -> Painter:
    """The bounding box with a random margin on each side, at most a quarter of the box."""
    before, after = rng.uniform(0.0, 0.25, (2, 2))  # (x, y) each

    def paint(frame: np.ndarray, box: Box) -> None:
        left, top = np.maximum(_pixels(np.array([box.left, box.top]) - 2 * box.half * before), 0)
        right, bottom = _pixels(np.array([box.right, box.bottom]) + 2 * box.half * after)
        frame[top : bottom + 1, left : right + 1] = 1

    return paint


def _ellipse(rng: np.random.Generator) -> Painter:
    """An ellipse of the box's proportions, up to a fifth larger than necessary."""
    grow = rng.uniform(1.0, 1.2)
    return lambda frame, box: _fill_ellipse(frame, box, box.half, grow)


def _circle(rng: np.random.Generator) -> Painter:
    """A circle, up to a fifth larger than necessary."""
    grow = rng.uniform(1.0, 1.2)
    return lambda frame, box: _fill_ellipse(frame, box, np.ones(2), grow)


def _fill_ellipse(frame: np.ndarray, box: Box, axes: np.ndarray, grow: float) -> None:
    """Fills ((x - cx) / ax)^2 + ((y - cy) / ay)^2 <= r^2, r being `grow` times the least around the mask."""
    y, x = np.ogrid[: frame.shape[0], : frame.shape[1]]
    squared = ((x - box.centre[0]) / axes[0]) ** 2 + ((y - box.centre[1]) / axes[1]) ** 2
    frame[squared <= grow**2 * squared[frame > 0].max()] = 1


def _brush(rng: np.random.Generator) -> Painter:
    """Two to five strokes along the outline.

    A stroke covers a range of directions from the box's centre. A round brush follows the outline there; its
    radius rises from 0 to a fraction of the box's side and falls back to 0.
    """
    strokes = int(rng.integers(2, 6))
    middle, span, thickness = rng.random((3, 5))[:, :strokes]
    middle, span, thickness = 2 * np.pi * middle, np.pi * (0.25 + 0.6 * span), 0.06 + 0.2 * thickness

    def paint(frame: np.ndarray, box: Box) -> None:
        outlines, _ = cv2.findContours(frame, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        step = max(1, round(box.side / 32))
        points = np.concatenate([outline[::step, 0] for outline in outlines])
        towards = points - box.centre
        angle = np.arctan2(towards[:, 1], towards[:, 0])[:, None]
        away = np.abs((angle - middle + np.pi) % (2 * np.pi) - np.pi) / span  # 0 in a stroke's middle
        radius = (thickness * np.sqrt(np.clip(1 - away**2, 0, None))).max(axis=1) * box.side
        for (x, y), r in zip(points.tolist(), _pixels(radius).tolist(), strict=True):
            if r > 0:
                cv2.circle(frame, (x, y), r, 1, -1)

    return paint


def _random_brush(rng: np.random.Generator) -> Painter:
    """One to four strokes of constant thickness that start in the box and turn a little at every step."""
    strokes, steps = int(rng.integers(1, 5)), 6
    start = rng.uniform(-0.7, 0.7, (4, 1, 2))  # of the box's half
    heading = rng.uniform(0, 2 * np.pi, (4, 1)) + np.cumsum(rng.uniform(-0.9, 0.9, (4, steps)), axis=1)
    length = rng.uniform(0.08, 0.25, (4, steps))  # of the box's side
    thickness = rng.uniform(0.12, 0.35, 4)
    path = np.cumsum(length[..., None] * np.stack([np.cos(heading), np.sin(heading)], -1), axis=1)

    def paint(frame: np.ndarray, box: Box) -> None:
        begin = box.centre + start * box.half
        corners = _pixels(np.concatenate([begin, begin + path * box.side], axis=1)).astype(np.int32)
        width = np.maximum(_pixels(thickness * box.side), 1).tolist()
        for stroke in range(strokes):
            cv2.polylines(frame, [corners[stroke]], False, 1, width[stroke])
            for corner in (0, -1):  # round ends
                x, y = corners[stroke, corner].tolist()
                cv2.circle(frame, (x, y), width[stroke] // 2, 1, -1)

    return paint


def _pixels(values: np.ndarray) -> np.ndarray:
    return np.rint(values).astype(np.int64)


PROBABILITIES = {"brush": 0.4, "random_brush": 0.3, "rectangle": 0.1, "ellipse": 0.1, "circle": 0.1}
_PAINTERS: dict[str, Callable[[np.random.Generator], Painter]] = {
    "brush": _brush,
    "random_brush": _random_brush,
    "rectangle": _rectangle,
    "ellipse": _ellipse,
    "circle": _circle,
}
