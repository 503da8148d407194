"""Procedural clips: an element moves through a scene, in the scene's light, and throws a soft shadow.

`make_clip(seed)` draws everything from one seed. The held-out clips of the evaluation are the same
distribution under other seeds.
"""

import dataclasses

import cv2
import numpy as np

from gencompositor_jax.data_pipelines.backgrounds import make_background
from gencompositor_jax.data_pipelines.lighting import Light, cast_shadow, draw_light, light_field, relight
from gencompositor_jax.data_pipelines.sprites import FAMILIES, make_sprite
from gencompositor_jax.errors import InputError

TRAINING_SEEDS = range(1_000_000)  # training draws from these seeds only
HELD_OUT_SEED = 1_000_000_000  # the evaluation's seeds start here


@dataclasses.dataclass(frozen=True)
class ProceduralClip:
    """One clip with everything known about it. Frames are uint8 RGB [T, H, W, 3].

    Convention of the placement: the centre of the element's own canvas, ((w - 1) / 2, (h - 1) / 2), lies on
    `xy`; in the foreground it lies on the centre of the frame.
    """

    target: np.ndarray  # the right answer: background, shadow and lit element
    background: np.ndarray  # the scene without the element and without its shadow
    foreground: np.ndarray  # the lit element as it is in the target, moved to the centre, on white
    alpha: np.ndarray  # float32 [T, H, W] in [0, 1]: coverage of the placed element
    shadow: np.ndarray  # float32 [T, H, W] in [0, 1): share of light the shadow takes
    element: np.ndarray  # uint8 [T, h, w, 4]: straight-alpha RGBA in its own colours, not lit
    xy: np.ndarray  # float32 [T, 2]: trajectory in pixels
    scale: np.ndarray  # float32 [T]: multiplies the element's own pixels
    rotation: np.ndarray  # float32 [T]: degrees, counter-clockwise
    light: Light
    family: str

    @property
    def silhouette(self) -> np.ndarray:
        """bool [T, H, W]: where the placed element covers at least half of a pixel."""
        return self.alpha >= 0.5


def make_clip(
    seed: int,
    frames: int = 9,
    height: int = 64,
    width: int = 96,
    family: str | None = None,
    size: float = 1.0,
    reach: float = 1.0,
) -> ProceduralClip:
    """Makes one clip, deterministic by its seed and arguments.

    Args:
        seed: TRAINING_SEEDS to train, HELD_OUT_SEED and above to evaluate.
        frames: at least 1.
        height: pixels, a multiple of 16.
        width: pixels, a multiple of 16.
        family: one of `data_pipelines.sprites.FAMILIES`; drawn when None.
        size: multiplies the element's extent.
        reach: draws the trajectory in towards the frame's centre, to this part of its distance.

    Raises:
        InputError: a size or the family is not as described.
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
    placed = warp(element, xy, scale, rotation, height, width)
    centred = warp(element, np.broadcast_to(centre, xy.shape), scale, rotation, height, width)

    field = light_field(light, height, width)
    background = relight(albedo, light, field)
    alpha = placed[..., 3]
    shadow = cast_shadow(alpha, light)
    lit = relight(placed[..., :3], light, field)
    target = background * (1.0 - shadow[..., None])
    target += alpha[..., None] * (lit - target)

    # The same pixels as in the target: the light is the one at the place they have there.
    moved_field = light_field(light, height, width, xy - centre)
    cover = centred[..., 3:]
    foreground = 1.0 + cover * (relight(centred[..., :3], light, moved_field) - 1.0)
    return ProceduralClip(
        target=to_uint8(target),
        background=to_uint8(background),
        foreground=to_uint8(foreground),
        alpha=alpha,
        shadow=shadow,
        element=element,
        xy=xy,
        scale=scale,
        rotation=rotation,
        light=light,
        family=family,
    )


def make_followed_clip(seed: int, frames: int = 9, height: int = 64, width: int = 96) -> ProceduralClip:
    """A clip as a window sees it that follows the element through a scene half as large again in both
    directions.

    The window moves in whole pixels, as `controls.window` does for real backgrounds.
    """
    room = height // 32 * 16, width // 32 * 16
    whole = height + room[0], width + room[1]
    size = min(height / whole[0], width / whole[1])  # so that the element has its usual extent in the window
    reach = min(room[0] / whole[0], room[1] / whole[1])  # so that the window never meets the scene's edge
    clip = make_clip(seed, frames, *whole, size=size, reach=reach)
    origins = np.rint(clip.xy - (np.array([width, height]) - 1) / 2).clip(0, room[::-1]).astype(int)
    window = [(slice(y, y + height), slice(x, x + width)) for x, y in origins]
    middle = (slice(room[0] // 2, room[0] // 2 + height), slice(room[1] // 2, room[1] // 2 + width))

    def cut(frames_: np.ndarray) -> np.ndarray:
        return np.stack([frame[part] for frame, part in zip(frames_, window, strict=True)])

    return dataclasses.replace(
        clip,
        target=cut(clip.target),
        background=cut(clip.background),
        foreground=np.ascontiguousarray(clip.foreground[(slice(None), *middle)]),
        alpha=cut(clip.alpha),
        shadow=cut(clip.shadow),
        xy=(clip.xy - origins).astype(np.float32),
    )


def warp(
    element: np.ndarray, xy: np.ndarray, scale: np.ndarray, rotation: np.ndarray, height: int, width: int
) -> np.ndarray:
    """Places an element with the centre of its canvas on `xy`.

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
    """[0, 1] to 0..255, rounded."""
    return np.clip(np.round(image * 255.0), 0, 255).astype(np.uint8)


def _extent(rng: np.random.Generator) -> float:
    """Side of an element in pixels of a frame 64 high.

    Mostly 5 tokens and more, where learning is easy; some as small as real elements are, and some large.
    """
    share = rng.random()
    low, high = (14, 34) if share < 0.15 else (34, 60) if share < 0.83 else (60, 68)
    return rng.uniform(low, high)


def draw_motion(
    rng: np.random.Generator, frames: int, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Trajectory [T, 2] in pixels, scale [T] and rotation [T] in degrees, all smooth in time.

    Half of the clips stay more than a quarter of the frame away from its centre on average (along x or y):
    there the model has to find the foreground's tokens at other positions than the video's.
    """
    s = np.linspace(0.0, 1.0, frames)
    size = np.array([width, height], np.float64)
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
    else:  # starts slowly, runs, slows down
        path = np.outer(s * s * (3 - 2 * s) - 0.5, heading)
    path = (path - path.mean(0)) * reach * (1.0, width / height * 0.6)

    offset = rng.uniform(-0.2, 0.2, 2)
    if rng.random() < 0.5:  # far from the centre
        axis = 0 if rng.random() < 0.7 else 1
        offset[axis] = rng.choice([-1, 1]) * rng.uniform(0.27, 0.4 if axis == 0 else 0.32)
    xy = (0.5 + offset + path) * size - 0.5
    # The element's centre stays in the frame, but for one clip in eight, which begins or ends at the border.
    border = 0.04 if rng.random() < 0.875 else -0.06
    xy = np.clip(xy, border * size, (1 - border) * size)
    if border < 0:
        edge = np.array([rng.choice([border, 1 - border]) * width, xy[0, 1]])
        reach_in = np.linspace(1, 0, frames)[:, None] * 0.6
        if rng.random() < 0.5:
            reach_in = reach_in[::-1]
        xy = xy + reach_in * (edge - xy)

    grow = rng.uniform(-0.18, 0.18) if rng.random() < 0.7 else 0.0
    scale = rng.uniform(0.85, 1.0) * np.exp(grow * (s - 0.5))
    spin = rng.uniform(-22, 22) if rng.random() < 0.7 else 0.0
    rotation = rng.uniform(-15, 15) + spin * (s - 0.5)
    return xy.astype(np.float32), scale.astype(np.float32), rotation.astype(np.float32)
