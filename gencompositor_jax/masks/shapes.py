"""Mask-shape augmentation: a target mask becomes one that a user might have drawn.

Masks cut from a video follow the element's outline, so a model trained on them alone learns to fill a
silhouette. Here the outline is hidden: one kind of shape is drawn per clip, sized and placed in every frame
by the mask of that frame, so that it moves and grows with it.

    brush          0.4   strokes along the outline, of uneven pressure
    random brush   0.3   strokes that start at the mask and wander off
    rectangle      0.1   around the mask
    ellipse        0.1
    circle         0.1

The shares are those of the released training. The result always contains the mask; a frame without a mask
stays without.
"""

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np


@dataclasses.dataclass(frozen=True)
class Box:
    """Bounding box of the mask in one frame, pixel centres included at both ends."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def centre(self) -> np.ndarray:
        """float64 (x, y)."""
        return np.array([self.left + self.right, self.top + self.bottom]) / 2

    @property
    def half(self) -> np.ndarray:
        """float64 (x, y): from the centre to the outer edge of the last pixel."""
        return np.array([self.right - self.left + 1, self.bottom - self.top + 1]) / 2

    @property
    def side(self) -> float:
        """Side of the square of equal area."""
        return float(2 * np.sqrt(self.half.prod()))


# What a clip's draw gives: adds the shape to one frame, uint8 [H, W] with 1 inside, in place.
Painter = Callable[[np.ndarray, Box], None]


def reshape(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws a shape for a clip and hides the mask's outline in it.

    Args:
        mask: bool [T, H, W].
        rng: where all draws come from; how many there are doesn't depend on the mask.

    Returns:
        bool [T, H, W] that contains `mask`.
    """
    return apply(mask, draw_kind(rng), rng)


def draw_kind(rng: np.random.Generator) -> str:
    """A name of SHARES, as often as it says."""
    return str(rng.choice(list(SHARES), p=list(SHARES.values())))


def apply(mask: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """`reshape` with a given kind of shape, one of SHARES."""
    paint = _PAINTERS[kind](rng)
    out = mask.astype(np.uint8)
    for frame in out:
        if (box := bounding_box(frame)) is not None:
            paint(frame, box)
    return out > 0


def bounding_box(frame: np.ndarray) -> Box | None:
    """Box of what is not 0 in a bool or uint8 [H, W]; None where all is 0."""
    left, top, width, height = cv2.boundingRect(frame.view(np.uint8))
    return Box(top, left, top + height - 1, left + width - 1) if width else None


def _rectangle(rng: np.random.Generator) -> Painter:
    """The bounding box, with a margin of its own on each side of up to a quarter of the box."""
    before, after = rng.uniform(0.0, 0.25, (2, 2))  # (x, y) each

    def paint(frame: np.ndarray, box: Box) -> None:
        left, top = np.maximum(_pixels(np.array([box.left, box.top]) - 2 * box.half * before), 0)
        right, bottom = _pixels(np.array([box.right, box.bottom]) + 2 * box.half * after)
        frame[top : bottom + 1, left : right + 1] = 1

    return paint


def _ellipse(rng: np.random.Generator) -> Painter:
    """An ellipse with the proportions of the box, up to a fifth larger than it must be."""
    grow = rng.uniform(1.0, 1.2)
    return lambda frame, box: _fill_ellipse(frame, box, box.half, grow)


def _circle(rng: np.random.Generator) -> Painter:
    """A circle, up to a fifth larger than it must be."""
    grow = rng.uniform(1.0, 1.2)
    return lambda frame, box: _fill_ellipse(frame, box, np.ones(2), grow)


def _fill_ellipse(frame: np.ndarray, box: Box, axes: np.ndarray, grow: float) -> None:
    """Fills ((x - cx) / ax)² + ((y - cy) / ay)² <= r², with r `grow` times the least that holds the mask."""
    y, x = np.ogrid[: frame.shape[0], : frame.shape[1]]
    squared = ((x - box.centre[0]) / axes[0]) ** 2 + ((y - box.centre[1]) / axes[1]) ** 2
    frame[squared <= grow**2 * squared[frame > 0].max()] = 1


def _brush(rng: np.random.Generator) -> Painter:
    """Two to five strokes along the outline, by direction from the box's centre.

    A stroke spans an angle; a round brush follows the outline there, and its radius rises from 0 to a share
    of the box's side and falls again.
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
    """One to four strokes of even thickness that start within the box and turn a little at every step."""
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


SHARES = {"brush": 0.4, "random_brush": 0.3, "rectangle": 0.1, "ellipse": 0.1, "circle": 0.1}
_PAINTERS: dict[str, Callable[[np.random.Generator], Painter]] = {
    "brush": _brush,
    "random_brush": _random_brush,
    "rectangle": _rectangle,
    "ellipse": _ellipse,
    "circle": _circle,
}
