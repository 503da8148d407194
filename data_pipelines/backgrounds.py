"""Procedural backgrounds: textured, panning, with natural image statistics and small moving objects."""

import cv2
import numpy as np

from gencompositor_jax.data_pipelines.sprites import FAMILIES, make_sprite
from gencompositor_jax.data_pipelines.textures import (
    LUMINANCE,
    colour_ramp,
    dead_leaves,
    hsv,
    natural_noise,
    scene_palette,
    value_noise,
)

KINDS = ("clouds", "leaves", "landscape", "room")


def make_background(rng: np.random.Generator, frames: int, height: int, width: int) -> np.ndarray:
    """Albedo float32 [frames, height, width, 3] in [0, 1] of a moving scene.

    Mean luminance is always near one half and contrast similar, so that the light, which differs between
    clips, can be inferred from the lit scene.
    """
    unit = height / 64
    kind = KINDS[rng.integers(len(KINDS))]
    margin = round(14 * unit) + 2
    size = height + 2 * margin, width + 2 * margin
    far, near, cover = _PAINTERS[kind](rng, *size, unit)
    pan = _pan(rng, frames, margin - 2)
    zoom = 1.0 + rng.uniform(-0.06, 0.06) * np.linspace(0, 1, frames)
    depth = rng.uniform(0.35, 0.75) if cover is not None else 1.0
    out = np.empty((frames, height, width, 3), np.float32)
    for t in range(frames):
        out[t] = _view(far, pan[t] * depth, zoom[t], height, width, margin)
        if cover is not None:
            front = _view(cover, pan[t], zoom[t], height, width, margin)[..., None]
            out[t] += front * (_view(near, pan[t], zoom[t], height, width, margin) - out[t])
    _add_distractors(rng, out, unit)
    return _normalise(rng, out)


def _pan(rng: np.random.Generator, frames: int, limit: float) -> np.ndarray:
    """[T, 2] smooth camera path within ± limit pixels."""
    s = np.linspace(-0.5, 0.5, frames)[:, None]
    velocity = rng.uniform(-1, 1, 2) * (1.0, 0.5) * limit
    sway = rng.uniform(0, 0.15) * limit * np.sin(2 * np.pi * (s * rng.uniform(0.5, 1.2, 2) + rng.random(2)))
    return np.clip(velocity * s * min(1.0, frames / 9) + sway, -limit, limit)


def _view(
    image: np.ndarray, pan: np.ndarray, zoom: float, height: int, width: int, margin: int
) -> np.ndarray:
    centre = np.array([width, height]) / 2 + margin + pan
    shift = centre - zoom * np.array([width, height]) / 2
    matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT)


def _normalise(rng: np.random.Generator, video: np.ndarray) -> np.ndarray:
    luminance = (video @ LUMINANCE)[..., None]
    mean = luminance.mean()
    gain = min(rng.uniform(0.14, 0.2) / max(float(luminance.std()), 0.06), 2.0)
    # Amplifies contrast, but not saturation.
    video = (video - luminance) * min(gain, 1.0) + (luminance - mean) * gain + rng.uniform(0.46, 0.54)
    return np.clip(video, 0.02, 0.98, dtype=np.float32)


def _clouds(rng: np.random.Generator, h: int, w: int, unit: float) -> tuple:
    image = colour_ramp(natural_noise(rng, h, w, rng.uniform(1.1, 1.6)), scene_palette(rng, 4))
    return image + 0.12 * (natural_noise(rng, h, w, 0.8)[..., None] - 0.5), None, None


def _leaves(rng: np.random.Generator, h: int, w: int, unit: float) -> tuple:
    colours = scene_palette(rng, 6)
    image = dead_leaves(rng, h, w, colours, unit)
    shade = 0.8 + 0.4 * value_noise(rng, h, w, 30 * unit)[..., None]
    if rng.random() < 0.5:
        return image * shade, None, None
    near = dead_leaves(rng, h, w, colours[::-1] * 0.8, unit)
    cover = np.clip((value_noise(rng, h, w, 40 * unit, 4) - 0.55) * 12, 0, 1)
    return image * shade, near, cover


def _landscape(rng: np.random.Generator, h: int, w: int, unit: float) -> tuple:
    sky = np.stack([hsv(0.55 + 0.08 * rng.standard_normal(), s, v) for s, v in ((0.5, 0.75), (0.15, 0.9))])
    rise = np.linspace(0, 1, h, dtype=np.float32)[:, None, None]
    far = sky[0] + rise * (sky[1] - sky[0])
    clouds = np.clip(natural_noise(rng, h, w, 1.5) * 2 - rng.uniform(0.8, 1.3), 0, 1)[..., None]
    far = far + clouds * (0.95 - far)
    horizon = rng.uniform(0.35, 0.6) * h
    x = np.linspace(0, 2 * np.pi, w)
    y = np.arange(h, dtype=np.float32)[:, None]

    def ridge(level: float, rough: float) -> np.ndarray:
        line = sum(
            rng.uniform(-1, 1) / k * np.sin(k * rng.uniform(0.7, 1.3) * x + rng.uniform(0, 6.3))
            for k in (1, 2, 4, 7)
        )
        return np.clip(y - (level + rough * h * line) + 0.5, 0, 1).astype(np.float32)

    tone = hsv(rng.uniform(0.2, 0.65), rng.uniform(0.15, 0.35), rng.uniform(0.4, 0.6))
    hills = ridge(horizon, rng.uniform(0.03, 0.1))[..., None]
    far = far + hills * (tone * (0.8 + 0.4 * natural_noise(rng, h, w, 1.2)[..., None]) - far)
    ground = hsv(rng.uniform(0.07, 0.38), rng.uniform(0.3, 0.6), rng.uniform(0.4, 0.6))
    grain = natural_noise(rng, h, w, 0.9)[..., None]
    stripes = value_noise(rng, h, 8, 10 * unit, 2).mean(1)[:, None, None]
    near = ground * (0.55 + 0.6 * grain + 0.3 * stripes)
    return far, near, ridge(horizon + rng.uniform(0.08, 0.2) * h, 0.03)


def _room(rng: np.random.Generator, h: int, w: int, unit: float) -> tuple:
    """A tiled or striped wall above a floor of planks."""
    colours = scene_palette(rng, 4)
    y, x = np.mgrid[:h, :w].astype(np.float32)
    tile, kind = rng.uniform(9, 22) * unit, rng.integers(0, 3)
    row = np.floor(y / tile)
    column = np.floor((x + (tile / 2 * (row % 2) if kind else 0)) / (tile * (1 + (kind == 1))))
    shade = rng.uniform(0.75, 1.2, 4096).astype(np.float32)
    wall = colours[2] * shade[(row * 61 + column * 17).astype(int) % 4096][..., None]
    gap = np.minimum(y % tile, (x + (tile / 2 * (row % 2) if kind else 0)) % (tile * (1 + (kind == 1))))
    wall = wall * np.where(gap < 1.4 * unit, 0.6, 1.0)[..., None]
    floor = rng.uniform(0.55, 0.8) * h
    plank = np.floor((x - w / 2) / (np.maximum(y - floor, 0) + 0.25 * h) * 6)
    ground = colours[1] * shade[(plank * 31).astype(int) % 4096][..., None]
    below = np.clip(y - floor + 0.5, 0, 1)[..., None]
    image = wall + below * (ground - wall)
    return (image * (0.75 + 0.5 * natural_noise(rng, h, w, 1.1)[..., None])).astype(np.float32), None, None


_PAINTERS = {"clouds": _clouds, "leaves": _leaves, "landscape": _landscape, "room": _room}


def _add_distractors(rng: np.random.Generator, video: np.ndarray, unit: float) -> None:
    """Up to two small objects that cross the scene, so that not everything that moves is the element."""
    frames, height, width = video.shape[:3]
    for _ in range(rng.integers(0, 3)):
        family = list(FAMILIES)[rng.integers(len(FAMILIES))]
        sprite = make_sprite(rng, family, 1, rng.uniform(9, 18) * unit)[0].astype(np.float32) / 255
        sprite[..., :3] = 0.5 * sprite[..., :3] + 0.5 * (sprite[..., :3] @ LUMINANCE)[..., None]
        sprite[..., :3] *= sprite[..., 3:]
        start = rng.uniform(0.05, 0.95, 2) * (width, height)
        step = rng.uniform(-2.5, 2.5, 2) * unit
        for t in range(frames):
            x, y = start + step * t
            move = np.array([[1, 0, x - sprite.shape[1] / 2], [0, 1, y - sprite.shape[0] / 2]])
            layer = cv2.warpAffine(sprite, move, (width, height))
            video[t] += layer[..., :3] - layer[..., 3:] * video[t]
