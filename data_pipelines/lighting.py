"""The light of a procedural scene: drawn once per clip, applied to the background and to the element alike.

    lit = clip(albedo ^ gamma * tint * drift[t] * (1 + slope * <direction, position>), 0, 1)

The background is rendered under the same light, so the element's ground truth can be inferred from the scene.
"""

import dataclasses

import cv2
import numpy as np


@dataclasses.dataclass(frozen=True)
class Light:
    """Light of one clip."""

    gamma: float
    tint: np.ndarray  # float32 [3]: gain times colour
    drift: np.ndarray  # float32 [T]: gain over time
    direction: np.ndarray  # float32 [2], unit vector (x, y) towards the light
    slope: float  # relative change of brightness from the centre of the frame to its edge
    shadow_strength: float  # fraction of light taken where the shadow is deepest
    shadow_length: float  # pixels from the element to its shadow
    shadow_blur: float  # sigma of the shadow's soft edge in pixels


def draw_light(rng: np.random.Generator, frames: int, unit: float) -> Light:
    """Draw a light; `unit` is the frame's height over 64 and scales the shadow."""
    gamma = float(np.exp(rng.uniform(np.log(0.65), np.log(1.4))))
    gain = float(np.exp(rng.uniform(np.log(0.68), np.log(1.2))))
    warm, green = rng.uniform(-0.22, 0.22), rng.uniform(-0.06, 0.06)
    tint = gain * np.array([1.0 + warm, 1.0 + green, 1.0 - warm], np.float32)
    phase, turns = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.9)
    wave = np.sin(phase + 2 * np.pi * turns * np.arange(frames) / max(frames - 1, 1))
    drift = (1.0 + rng.uniform(0.0, 0.16) * wave).astype(np.float32)
    # The light comes from above, left or right, so shadows fall downwards.
    angle = rng.uniform(np.pi * 0.08, np.pi * 0.92)
    direction = np.array([np.cos(angle), -np.sin(angle)], np.float32)
    length = rng.uniform(2.5, 8.0) * unit
    return Light(
        gamma=gamma,
        tint=tint,
        drift=drift,
        direction=direction,
        slope=float(rng.uniform(0.05, 0.25)),
        shadow_strength=float(rng.uniform(0.4, 0.7)),
        shadow_length=float(length),
        shadow_blur=float((0.9 + 0.25 * length / unit + rng.uniform(0, 0.8)) * unit),
    )


def no_light(like: Light) -> Light:
    """The light that leaves an albedo as it is, for as many frames, with the same shadow."""
    ones = np.ones_like(like.drift)
    return dataclasses.replace(like, gamma=1.0, tint=np.ones_like(like.tint), drift=ones, slope=0.0)


def light_field(light: Light, height: int, width: int, shift: np.ndarray | None = None) -> np.ndarray:
    """Gain [T, height, width] of gradient and drift; `shift` [T, 2] moves the grid by (x, y) pixels."""
    frames = len(light.drift)
    moved = np.zeros((frames, 2), np.float32) if shift is None else np.asarray(shift, np.float32)
    x = (np.arange(width, dtype=np.float32) + moved[:, :1]) * (2.0 / (width - 1)) - 1.0
    y = (np.arange(height, dtype=np.float32) + moved[:, 1:]) * (2.0 / (height - 1)) - 1.0
    ramp = light.direction[0] * x[:, None, :] + light.direction[1] * y[:, :, None]
    return light.drift[:, None, None] * (1.0 + light.slope * np.clip(ramp, -1.5, 1.5))


def relight(albedo: np.ndarray, light: Light, field: np.ndarray) -> np.ndarray:
    """float32 [T, H, W, 3] in [0, 1]: `albedo` in [0, 1] under the light; `field` from `light_field`."""
    lit = np.power(albedo, np.float32(light.gamma))
    lit *= field[..., None]
    lit *= light.tint
    return np.minimum(lit, 1.0, out=lit)


def cast_shadow(alpha: np.ndarray, light: Light) -> np.ndarray:
    """Fraction of light taken, [T, H, W] in [0, 1): the silhouette moved away from the light and blurred.

    The part under the element stays; compositing covers it.
    """
    dx, dy = -light.direction * light.shadow_length
    move = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
    height, width = alpha.shape[1:]
    out = np.empty_like(alpha)
    for frame, silhouette in zip(out, alpha, strict=True):
        moved = cv2.warpAffine(silhouette, move, (width, height), flags=cv2.INTER_LINEAR)
        frame[:] = cv2.GaussianBlur(moved, (0, 0), light.shadow_blur, borderType=cv2.BORDER_CONSTANT)
    return np.clip(out * np.float32(light.shadow_strength), 0.0, 0.95)
