"""Keying: extracting an element from a plain background, white by contrast, coloured by hue.

A pixel's score is 0 on the background and grows with the difference from it: on a white, grey or black screen
the largest difference over the channels, on a coloured screen the missing part of the screen's chroma. A
pixel C at the element's edge mixes the element's colour F and the background B,

    (1)  C = a F + (1 - a) B.

The score is linear in this mixture, so

    (2)  a = score(C) / score(F),

with F the nearest pixel that is certainly element. (1), solved for F, gives the unmixed colour.
"""

from typing import NamedTuple

import cv2
import numpy as np

from gencompositor_jax.controls.element.screen import Screen, score
from gencompositor_jax.errors import InputError

REMEDIES = "pass a clip with alpha (--key alpha), a mask clip (--mask), or film it on green (--key green)"

_SPECK = 3e-5  # components of at most this fraction of the frame are coding noise
_HOLE = 1e-2  # enclosed parts below this fraction of the element belong to it: spots, highlights
# A key by contrast is refused if parts of the element would vanish, which is likely if
_FAINT = 0.4  # parts close to the background's colour cover this fraction of the certain element's area,
_HOLLOW = 0.3  # enclosed parts of the background's colour cover this fraction of the element with them,
_SMALL, _SPARSE = 5e-3, 0.15  # or pieces cover less than this of the frame and less than this of their hull


def key_out(frames: np.ndarray, screen: Screen, name: str) -> np.ndarray:
    """Key the element: uint8 RGB [T, H, W, 3] -> uint8 RGBA [T, H, W, 4], straight alpha.

    All components larger than a speck are kept. Enclosed parts belong to the element unless they are large
    and have the background's colour. Colours are unmixed from the background, and despilled on a coloured
    screen; where alpha is 0 they continue the element's, so that resampling makes no fringe.

    Raises:
        InputError: no element, no background, or parts of the element so close to the background's colour
            that they would vanish. The message names the key that was tried and the remedies.
    """
    out, found = key_frames(frames, screen)
    check_key(found, frames.shape[1] * frames.shape[2], screen, name)
    return out


class Found(NamedTuple):
    """What a key found in each frame, in pixels, float [T]."""

    area: np.ndarray  # of the certain element
    faint: np.ndarray  # of parts that differ little from the background
    hollow: np.ndarray  # of enclosed background
    scattered: np.ndarray  # 1 where there are only small pieces


def key_frames(frames: np.ndarray, screen: Screen) -> tuple[np.ndarray, Found]:
    """`key_out` of some frames of a clip, without its checks."""
    out = np.zeros((*frames.shape[:3], 4), np.uint8)
    found = Found(*np.zeros((4, len(frames))))
    for t, frame in enumerate(frames):
        scores = score(frame, screen)
        element, found.hollow[t] = _solid_parts(scores, screen)
        found.area[t] = element.sum()
        if not screen.hue:
            found.faint[t] = _faint_parts(frame, scores, element, screen)
            found.scattered[t] = _is_scattered(element)
        box = _box(element, margin=4)
        out[t][box] = _matte(frame[box], scores[box], element[box], screen)
    return out, found


def check_key(found: Found, size: int, screen: Screen, name: str) -> None:
    """Raises InputError unless what a key found in a clip with `size` pixels per frame is an element; see
    `key_out`.
    """
    area, faint, hollow, scattered = found
    tried = f"{name}: key {screen.name} was tried"
    if area.max() <= 2 * _SPECK * size:
        if faint.max() > 0.01 * size:
            raise InputError(f"{tried}; the element has nearly that colour and vanishes: {REMEDIES}")
        raise InputError(f"{tried} and no element was found; {REMEDIES}")
    if area.min() >= 0.99 * size:
        raise InputError(f"{tried} and no background was found; {REMEDIES}")
    if faint.sum() > _FAINT * area.sum():
        raise InputError(
            f"{tried}; parts of the element have nearly that colour and would vanish "
            f"({faint.sum() / area.sum():.0%} of the rest's area): {REMEDIES}"
        )
    if not screen.hue and hollow.sum() > _HOLLOW * (area.sum() + hollow.sum()):
        raise InputError(
            f"{tried}; {hollow.sum() / (area.sum() + hollow.sum()):.0%} of the element's inside has that "
            f"colour, which may be a hole or a part of it: {REMEDIES}"
        )
    if scattered.mean() > 0.5:
        raise InputError(
            f"{tried} and only small scattered pieces were found; most of the element probably has that "
            f"colour: {REMEDIES}"
        )


def despill(pixels: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Remove the screen's reflected light from an element, uint8 [..., 3] -> uint8 [..., 3].

    With S the strong channels of the screen's colour (above the mean of its largest and smallest) and W the
    others, max(min(S) - max(W), 0) is subtracted from each channel of S. For a green screen the result has
    G <= max(R, B). Neutral pixels and the channels of W don't change.
    """
    strong = np.asarray(colour) > (np.max(colour) + np.min(colour)) / 2
    if strong.all() or not strong.any():
        raise ValueError(f"colour {colour}: a neutral screen has no spill")
    values = pixels.astype(np.int16)
    excess = values[..., strong].min(axis=-1) - values[..., ~strong].max(axis=-1)
    return (values - np.where(strong, np.maximum(excess, 0)[..., None], 0)).astype(np.uint8)


def soft_edges(frames: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Add an alpha from elsewhere to frames: [T, H, W, 3] and float32 [T, H, W] in 0..1 -> RGBA.

    Soft pixels have the old background in their colour, so it is blended with the nearest opaque pixel's.
    """
    out = np.empty((*frames.shape[:3], 4), np.uint8)
    for t, (frame, a) in enumerate(zip(frames, alpha, strict=True)):
        seeds = _erode(a >= 0.99, 3)
        seeds = seeds if seeds.any() else a >= max(0.5, float(a.max()))
        near = frame[_nearest(seeds)] if seeds.any() else frame
        out[t, ..., :3] = np.rint(a[..., None] * frame + (1 - a[..., None]) * near)
        out[t, ..., 3] = np.rint(255 * a)
    return out


def _solid_parts(scores: np.ndarray, screen: Screen) -> tuple[np.ndarray, int]:
    """The certain element, bool [H, W], and the area of enclosed background that is not part of it."""
    speck = max(4.0, _SPECK * scores.size)
    element = _components_above(scores > screen.firm, speck)
    _, labels, stats, _ = cv2.connectedComponentsWithStats((~element).view(np.uint8), connectivity=4)
    h, w = scores.shape
    area, hollow = int(element.sum()), 0
    for label in range(1, len(stats)):
        x, y, dx, dy, size = stats[label]
        if x == 0 or y == 0 or x + dx == w or y + dy == h:
            continue  # it reaches the frame's edge, so it is not enclosed
        box = np.s_[y : y + dy, x : x + dx]
        inside = labels[box] == label
        if size > max(4 * speck, _HOLE * area) and np.median(scores[box][inside]) <= screen.clear:
            hollow += int(size)
        else:
            element[box] |= inside
    return element, hollow


def _matte(frame: np.ndarray, scores: np.ndarray, element: np.ndarray, screen: Screen) -> np.ndarray:
    """RGBA [H, W, 4] of one frame, by (1) and (2)."""
    out = np.zeros((*scores.shape, 4), np.uint8)
    if not element.any():
        return out
    # A low score inside means that a coloured screen shines through; on white, that the element is pale.
    opaque = element & (scores >= screen.solid) if screen.hue else element
    inner = _erode(opaque, 5)
    far = cv2.distanceTransform((~inner).view(np.uint8), cv2.DIST_L2, 3) > 4 if inner.any() else True
    ridge = scores >= np.maximum(cv2.dilate(scores, np.ones((5, 5), np.uint8)), 3 * screen.firm)
    ridge &= element & far  # too thin to have an inside: legs, antennae, hair
    nearest = _nearest(inner | ridge)
    full = np.maximum(scores[nearest], screen.firm)
    fade = (scores - screen.clear) / (screen.firm - screen.clear)  # removes noise on the background
    alpha = np.clip(scores / full, 0, 1) * np.clip(fade, 0, 1)
    alpha = np.where(inner | ridge, 1, np.where(_dilate(element, 3), alpha, 0)).astype(np.float32)
    alpha[alpha < 0.03] = 0
    own = frame[nearest].astype(np.float32)
    colour = np.array(screen.rgb, np.float32)
    a = alpha[..., None]
    unmixed = np.clip(colour + (frame - colour) / np.maximum(a, 0.05), 0, 255)
    # The smaller alpha is, the noisier the unmixed colour.
    rgb = np.rint(a * unmixed + (1 - a) * own).astype(np.uint8)
    out[..., :3] = despill(rgb, colour) if screen.hue else rgb
    out[..., 3] = np.rint(255 * alpha)
    return out


def _box(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Rows and columns of the bounding box, with a margin; empty if nothing is set."""
    x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
    grow = margin if w else 0
    return slice(max(y - grow, 0), y + h + grow), slice(max(x - grow, 0), x + w + grow)


def _components_above(mask: np.ndarray, area: float) -> np.ndarray:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] > area
    keep[0] = False
    return keep[labels]


def _faint_parts(frame: np.ndarray, scores: np.ndarray, element: np.ndarray, screen: Screen) -> int:
    """Area that differs little from the background, without the element's soft edge.

    Close to the element the difference must exceed coding noise. Beyond a coding block there is none, and the
    mean over a few pixels distinguishes two levels.
    """
    close = (scores > screen.clear) & (scores <= screen.firm) & ~_dilate(element, 7)
    smooth = score(cv2.blur(frame.astype(np.float32), (5, 5)), screen)
    distant = (smooth > screen.clear - 4) & ~_dilate(element, 25)
    return int((close | distant).sum())


def _is_scattered(element: np.ndarray) -> bool:
    """Whether there are only pieces, small and far apart, such as eyes and buttons of a white element."""
    area = int(element.sum())
    if area == 0 or area > _SMALL * element.size:
        return False
    if cv2.connectedComponents(element.view(np.uint8), connectivity=8)[0] < 3:
        return False
    hull = cv2.convexHull(np.argwhere(element).astype(np.int32))
    return area < _SPARSE * cv2.contourArea(hull)


def _nearest(seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and column [H, W] of the seed nearest to each pixel."""
    _, labels = cv2.distanceTransformWithLabels(
        (~seeds).view(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    rows, columns = np.nonzero(seeds)
    at = np.zeros((labels.max() + 1, 2), np.intp)
    at[labels[rows, columns]] = np.stack([rows, columns], axis=-1)
    return at[labels, 0], at[labels, 1]


def _dilate(mask: np.ndarray, side: int) -> np.ndarray:
    return cv2.dilate(mask.view(np.uint8), np.ones((side, side), np.uint8)).astype(bool)


def _erode(mask: np.ndarray, side: int) -> np.ndarray:
    return cv2.erode(mask.view(np.uint8), np.ones((side, side), np.uint8)).astype(bool)
