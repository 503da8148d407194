"""A clip in which a disc moves over a textured ground, and a network that finds it."""

import numpy as np
import pytest

FRAMES, HEIGHT, WIDTH, RADIUS, STEP = 5, 72, 96, 14, 4


def disc(t: float) -> np.ndarray:
    """Where the disc is in frame t: bool [HEIGHT, WIDTH]."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return (x - 30 - STEP * t) ** 2 + (y - 36) ** 2 < RADIUS**2


@pytest.fixture(scope="session")
def clip() -> np.ndarray:
    """uint8 [FRAMES, HEIGHT, WIDTH, 3]: an orange disc with a pattern that moves with it."""
    ground = (
        np.random.default_rng(0).integers(40, 110, (HEIGHT // 4, WIDTH // 4, 3)).repeat(4, 0).repeat(4, 1)
    )
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    frames = []
    for t in range(FRAMES):
        pattern = 20 * np.sin((x - STEP * t) / 3)[..., None] * np.sin(y / 3)[..., None]
        frames.append(np.where(disc(t)[..., None], np.array([230, 120, 30]) + pattern, ground))
    return np.clip(frames, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def truth() -> np.ndarray:
    """bool [FRAMES, HEIGHT, WIDTH]."""
    return np.stack([disc(t) for t in range(FRAMES)])


@pytest.fixture
def orange(monkeypatch):
    """In place of the network: what is orange is salient."""
    from gencompositor_jax.controls.element.segmenters import salient

    def saliency(pictures: np.ndarray) -> np.ndarray:
        colours = pictures.astype(np.float32)
        return (1 / (1 + np.exp(-(colours[..., 0] - colours[..., 2] - 80) / 10))).astype(np.float32)

    monkeypatch.setattr(salient, "saliency", saliency)
