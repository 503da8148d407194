"""Procedural clips: an element moves through a scene, in the scene's light, and casts a soft shadow.

`make_clip(seed)` draws everything from one seed. The held-out clips of the evaluation have the same
distribution and other seeds.
"""

import dataclasses

import cv2
import numpy as np

from gencompositor_jax.controls.geometry.offsets import Cell, whole_tokens
from gencompositor_jax.data_pipelines.backgrounds import make_background
from gencompositor_jax.data_pipelines.lighting import (
    Light,
    cast_shadow,
    draw_light,
    light_field,
    no_light,
    relight,
)
from gencompositor_jax.data_pipelines.sprites import FAMILIES, make_sprite
from gencompositor_jax.errors import InputError

TRAINING_SEEDS = range(1_000_000)  # for training only
HELD_OUT_SEED = 1_000_000_000  # the evaluation's seeds start here

ELSEWHERE = 1  # beside a clip's seed: for the draws of the light in which the element was filmed


@dataclasses.dataclass(frozen=True)
class ProceduralClip:
    """One clip with its ground truth. Frames are uint8 RGB [T, H, W, 3].

    Placement convention: the centre of the element's canvas, ((w - 1) / 2, (h - 1) / 2), is at `xy`; in the
    foreground it is at the centre of the frame.
    """

    target: np.ndarray  # the ground truth: background, shadow and lit element
    background: np.ndarray  # the scene without the element and without its shadow
    foreground: np.ndarray  # the element, moved to the centre, on white, in light `filmed`; see `offsets`
    alpha: np.ndarray  # float32 [T, H, W] in [0, 1]: coverage of the element in the target
    shadow: np.ndarray  # float32 [T, H, W] in [0, 1): fraction of light that the shadow takes
    element: np.ndarray  # uint8 [T, h, w, 4]: straight-alpha RGBA, unlit
    xy: np.ndarray  # float32 [T, 2]: trajectory in pixels
    scale: np.ndarray  # float32 [T]: multiplies the element's own pixels
    rotation: np.ndarray  # float32 [T]: degrees, counter-clockwise
    light: Light
    filmed: Light  # that of the foreground: the scene's own, or another one
    family: str
    # int32 [t, 2]: the foreground is this many tokens (rows, columns) from its place in the target instead of
    # at the centre; None without a `cell`. See `controls.geometry.offsets`.
    offsets: np.ndarray | None = None

    @property
    def silhouette(self) -> np.ndarray:
        """bool [T, H, W]: where the element covers at least half of a pixel."""
        return self.alpha >= 0.5


def make_clip(
    seed: int,
    frames: int = 9,
    height: int = 64,
    width: int = 96,
    family: str | None = None,
    size: float = 1.0,
    reach: float = 1.0,
    cell: Cell | None = None,
    other_light: float = 0.0,
) -> ProceduralClip:
    """Make one clip, determined by its seed and arguments.

    Args:
        seed: one of TRAINING_SEEDS for training, HELD_OUT_SEED and above for evaluation.
        frames: at least 1.
        height: pixels, a multiple of 16.
        width: pixels, a multiple of 16.
        family: one of `data_pipelines.sprites.FAMILIES`; drawn when None.
        size: multiplies the element's extent.
        reach: multiplies the trajectory's distance from the frame's centre.
        cell: of a token, `ModelArch.offset_cell`. The clip then has offsets.
        other_light: the probability that the element was filmed elsewhere: the foreground then has its own
            light, in half of the cases none, instead of the target's. Changes nothing else.

    Raises:
        InputError: a size or the family isn't as described.
    """
    if frames < 1 or height < 16 or width < 16 or height % 16 or width % 16:
        raise InputError(
            f"frames={frames}, height={height}, width={width}: pass frames >= 1 and multiples of 16"
        )
    if family is not None and family not in FAMILIES:
        raise InputError(f"family={family!r}: known are {sorted(FAMILIES)}")
    rng = np.random.default_rng(seed)
    unit = height / 64
    light = draw_light(rng, frames, unit)
    albedo = make_background(rng, frames, height, width)
    if family is None:
        family = list(FAMILIES)[rng.integers(len(FAMILIES))]
    extent = size * _extent(rng) * min(unit, width / 64)
    element = make_sprite(rng, family, frames, extent)
    xy, scale, rotation = draw_motion(rng, frames, height, width)

    centre = np.array([(width - 1) / 2, (height - 1) / 2], np.float32)
    xy = centre + np.float32(reach) * (xy - centre)
    moved = warp(element, xy, scale, rotation, height, width)

    field = light_field(light, height, width)
    background = relight(albedo, light, field)
    alpha = moved[..., 3]
    shadow = cast_shadow(alpha, light)
    lit = relight(moved[..., :3], light, field)
    target = background * (1.0 - shadow[..., None])
    target += alpha[..., None] * (lit - target)

    filmed = light
    elsewhere = np.random.default_rng([seed, ELSEWHERE])
    if elsewhere.random() < other_light:
        filmed = no_light(light) if elsewhere.random() < 0.5 else draw_light(elsewhere, frames, unit)

    offsets, shift = (None, np.float32(0) * xy) if cell is None else whole_tokens(xy - centre, cell)
    return ProceduralClip(
        target=to_uint8(target),
        background=to_uint8(background),
        foreground=_lit_foreground(element, filmed, xy, shift, scale, rotation, height, width),
        alpha=alpha,
        shadow=shadow,
        element=element,
        xy=xy,
        scale=scale,
        rotation=rotation,
        light=light,
        filmed=filmed,
        family=family,
        offsets=offsets,
    )


def make_followed_clip(
    seed: int,
    frames: int = 9,
    height: int = 64,
    width: int = 96,
    cell: Cell | None = None,
    other_light: float = 0.0,
) -> ProceduralClip:
    """A clip seen through a window that follows the element, in a scene 1.5 times as large along both axes.

    The window moves in whole pixels, as `controls.geometry.window` does.
    """
    margin = height // 32 * 16, width // 32 * 16
    whole = height + margin[0], width + margin[1]
    size = min(height / whole[0], width / whole[1])  # the element keeps its usual extent in the window
    reach = min(margin[0] / whole[0], margin[1] / whole[1])  # the window stays inside the scene
    clip = make_clip(seed, frames, *whole, size=size, reach=reach, other_light=other_light)
    origins = np.rint(clip.xy - (np.array([width, height]) - 1) / 2).clip(0, margin[::-1]).astype(int)
    window = [(slice(y, y + height), slice(x, x + width)) for x, y in origins]
    middle = (slice(margin[0] // 2, margin[0] // 2 + height), slice(margin[1] // 2, margin[1] // 2 + width))
    xy, foreground, offsets = clip.xy - origins, clip.foreground, None
    if cell is not None:
        offsets, shift = whole_tokens(xy - (np.array([width, height]) - 1) / 2, cell)
        motion = clip.scale, clip.rotation
        foreground = _lit_foreground(clip.element, clip.filmed, clip.xy, shift, *motion, *whole)

    def crop(video: np.ndarray) -> np.ndarray:
        return np.stack([frame[part] for frame, part in zip(video, window, strict=True)])

    return dataclasses.replace(
        clip,
        target=crop(clip.target),
        background=crop(clip.background),
        foreground=np.ascontiguousarray(foreground[(slice(None), *middle)]),
        alpha=crop(clip.alpha),
        shadow=crop(clip.shadow),
        xy=xy.astype(np.float32),
        offsets=offsets,
    )


def _lit_foreground(
    element: np.ndarray,
    light: Light,
    xy: np.ndarray,
    shift: np.ndarray,
    scale: np.ndarray,
    rotation: np.ndarray,
    height: int,
    width: int,
) -> np.ndarray:
    """uint8 [T, H, W, 3]: the element as in the target, `shift` [T, 2] away from the centre, on white.

    It is lit at its position in the target, where its centre is at `xy`.
    """
    place = np.array([(width - 1) / 2, (height - 1) / 2], np.float32) + shift.astype(np.float32)
    drawn = warp(element, place, scale, rotation, height, width)
    cover = drawn[..., 3:]
    field = light_field(light, height, width, xy - place)
    return to_uint8(1.0 + cover * (relight(drawn[..., :3], light, field) - 1.0))


def warp(
    element: np.ndarray, xy: np.ndarray, scale: np.ndarray, rotation: np.ndarray, height: int, width: int
) -> np.ndarray:
    """Move the centre of an element's canvas to `xy`, scaled and rotated.

    Args:
        element: uint8 [T, h, w, 4], straight-alpha RGBA.
        xy: [T, 2] pixels.
        scale: [T], multiplies the element's pixels.
        rotation: [T] degrees, counter-clockwise.
        height: of the frame, pixels.
        width: of the frame, pixels.

    Returns:
        float32 [T, height, width, 4], straight-alpha RGBA in [0, 1].
    """
    premultiplied = element.astype(np.float32) / 255.0
    premultiplied[..., :3] *= premultiplied[..., 3:]
    h, w = element.shape[1:3]
    out = np.empty((len(element), height, width, 4), np.float32)
    for t, frame in enumerate(premultiplied):
        matrix = cv2.getRotationMatrix2D(((w - 1) / 2, (h - 1) / 2), float(rotation[t]), float(scale[t]))
        matrix[:, 2] += xy[t] - ((w - 1) / 2, (h - 1) / 2)
        out[t] = cv2.warpAffine(frame, matrix, (width, height), flags=cv2.INTER_LINEAR)
    out[..., :3] /= np.maximum(out[..., 3:], 1e-3)
    return np.clip(out, 0.0, 1.0, out=out)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """[0, 1] -> 0..255, clipped and rounded."""
    return np.clip(np.round(image * 255.0), 0, 255).astype(np.uint8)


def _extent(rng: np.random.Generator) -> float:
    """Side of an element in pixels of a frame 64 high.

    Mostly 5 tokens and more, which is easy to learn; some as small as real elements, and some large.
    """
    kind = rng.random()
    low, high = (14, 34) if kind < 0.15 else (34, 60) if kind < 0.83 else (60, 68)
    return rng.uniform(low, high)


def draw_motion(
    rng: np.random.Generator, frames: int, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Trajectory [T, 2] in pixels, scale [T] and rotation [T] in degrees, all smooth in time.

    Half of the clips stay more than a quarter of the frame away from its centre on average (along x or y), so
    that the model has to attend to foreground tokens at other positions than the video's.
    """
    s = np.linspace(0.0, 1.0, frames)
    size = np.array([width, height], np.float64)
    path = _draw_path(rng, s) * (1.0, width / height * 0.6)
    offset = rng.uniform(-0.2, 0.2, 2)
    if rng.random() < 0.5:  # far from the centre
        axis = 0 if rng.random() < 0.7 else 1
        offset[axis] = rng.choice([-1, 1]) * rng.uniform(0.27, 0.4 if axis == 0 else 0.32)
    xy = _keep_in_frame(rng, (0.5 + offset + path) * size - 0.5, size)

    grow = rng.uniform(-0.18, 0.18) if rng.random() < 0.7 else 0.0
    scale = rng.uniform(0.85, 1.0) * np.exp(grow * (s - 0.5))
    spin = rng.uniform(-22, 22) if rng.random() < 0.7 else 0.0
    rotation = rng.uniform(-15, 15) + spin * (s - 0.5)
    return xy.astype(np.float32), scale.astype(np.float32), rotation.astype(np.float32)


def _draw_path(rng: np.random.Generator, s: np.ndarray) -> np.ndarray:
    """[T, 2] of mean 0, in relative coordinates, for times `s` [T] in 0..1."""
    along = rng.uniform(0, 2 * np.pi)
    heading = np.array([np.cos(along), 0.7 * np.sin(along)])
    side = np.array([-heading[1], heading[0]])
    reach = rng.uniform(0.04, 0.22)
    kind = rng.integers(0, 5)
    if kind == 0:  # straight
        path = np.outer(s - 0.5, heading)
    elif kind == 1:  # curved
        path = np.outer(s - 0.5, heading) + np.outer(rng.uniform(0.6, 1.4) * (s - 0.5) ** 2 * 2, side)
    elif kind == 2:  # zig-zag, softened
        phase = rng.uniform(0, 2 * np.pi)
        path = np.outer(s - 0.5, heading) + 0.35 * np.outer(
            np.sin(2 * np.pi * rng.uniform(1.0, 1.6) * s + phase), side
        )
    elif kind == 3:  # part of a circle
        turn = np.pi * rng.uniform(0.6, 1.6) * (s - 0.5)
        path = 0.5 * (np.outer(np.sin(turn), heading) + np.outer(np.cos(turn), side))
    else:  # accelerates, then slows down
        path = np.outer(s * s * (3 - 2 * s) - 0.5, heading)
    return (path - path.mean(0)) * reach


def _keep_in_frame(rng: np.random.Generator, xy: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Clip a trajectory [T, 2] to the frame; in one clip of eight it begins or ends at the border."""
    border = 0.04 if rng.random() < 0.875 else -0.06
    xy = np.clip(xy, border * size, (1 - border) * size)
    if border < 0:
        edge = np.array([rng.choice([border, 1 - border]) * size[0], xy[0, 1]])
        weight = np.linspace(1, 0, len(xy))[:, None] * 0.6
        if rng.random() < 0.5:
            weight = weight[::-1]
        xy = xy + weight * (edge - xy)
    return xy
