"""Noise, dead leaves and palettes: still textures of procedural backgrounds and sprites.

Colours are float32 RGB in [0, 1]; every function draws only from its generator.
"""

import cv2
import numpy as np

LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)


def hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """float32 [3] RGB of a hue (in turns, wraps), a saturation and a value in [0, 1]."""
    ramp = np.clip(np.abs((hue * 6.0 + np.array([0.0, 4.0, 2.0])) % 6.0 - 3.0) - 1.0, 0.0, 1.0)
    return (value * (1.0 - saturation + saturation * ramp)).astype(np.float32)


def value_noise(
    rng: np.random.Generator, height: int, width: int, cell: float, octaves: int = 3
) -> np.ndarray:
    """Smooth noise [height, width] in [0, 1]: random grids of `cell`, `cell` / 2, ... pixels, summed."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        size = max(2.0, cell / 2**octave)
        grid = rng.random((int(height / size) + 2, int(width / size) + 2), np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * 0.5**octave
    return stretch(total)


def natural_noise(rng: np.random.Generator, height: int, width: int, slope: float = 1.0) -> np.ndarray:
    """Noise [height, width] in [0, 1] of amplitude 1 / frequency^slope; photographs have about 1."""
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    radius = np.sqrt(fy**2 + fx**2)
    radius[0, 0] = 1.0
    white = rng.standard_normal((2, height, width // 2 + 1))
    spectrum = (white[0] + 1j * white[1]) * radius**-slope
    spectrum[0, 0] = 0.0
    return stretch(np.fft.irfft2(spectrum, s=(height, width)).astype(np.float32))


def stretch(image: np.ndarray) -> np.ndarray:
    """Map mean ± 2.5 standard deviations to [0, 1] and clip."""
    return np.clip((image - image.mean()) / (5.0 * image.std() + 1e-6) + 0.5, 0.0, 1.0).astype(np.float32)


def colour_ramp(noise: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """[h, w, 3]: noise in [0, 1] looked up in `colours` [n, 3], linear in between."""
    table = np.stack(
        [np.interp(np.linspace(0, 1, 256), np.linspace(0, 1, len(colours)), c) for c in colours.T], -1
    )
    return table.astype(np.float32)[(noise * 255).astype(np.uint8)]


def scene_palette(rng: np.random.Generator, count: int) -> np.ndarray:
    """[count, 3] muted colours around one or two hues, from dark to bright."""
    hue, spread = rng.random(), rng.uniform(0.03, 0.25)
    values = np.linspace(0.25, 0.8, count)
    return np.stack([hsv(hue + spread * rng.standard_normal(), rng.uniform(0.1, 0.5), v) for v in values])


def dead_leaves(
    rng: np.random.Generator, height: int, width: int, colours: np.ndarray, unit: float
) -> np.ndarray:
    """[h, w, 3]: a pile of opaque discs, boxes and triangles, with edges and occlusions as in natural images.

    Radii have a density of 1 / r^3 from 3.5 to 30 `unit` pixels, which makes the pile scale-invariant.
    """
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = np.clip(colours[0] * 255, 0, 255)
    count = int(240 * height * width / (96 * 144) / unit**2)
    low, high = (3.5 * unit) ** -2, (30.0 * unit) ** -2
    radii = (high + rng.random(count) * (low - high)) ** -0.5
    # Loosely sorted, the largest first, or they would cover everything.
    radii = radii[np.argsort(-radii * np.exp(0.5 * rng.standard_normal(count)))]
    centres = rng.random((count, 2)) * (width, height)
    shapes = rng.integers(0, 4, count)
    turns = rng.random(count) * 2 * np.pi
    picks = colours[rng.integers(0, len(colours), count)] * rng.uniform(0.75, 1.25, (count, 1)) * 255
    for centre, radius, shape, turn, colour in zip(centres, radii, shapes, turns, picks, strict=True):
        fill = tuple(float(min(c, 255.0)) for c in colour)
        if shape < 2:
            cv2.circle(canvas, (int(centre[0]), int(centre[1])), max(1, int(radius)), fill, -1, cv2.LINE_AA)
        else:
            corners = np.arange(shape + 1) * (2 * np.pi / (shape + 1)) + turn
            points = centre + radius * np.stack([np.cos(corners), np.sin(corners)], -1)
            cv2.fillPoly(canvas, [points.astype(np.int32)], fill, cv2.LINE_AA)
    return canvas.astype(np.float32) / 255.0
