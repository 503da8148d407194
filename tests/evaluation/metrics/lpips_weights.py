"""AlexNet with random weights for LPIPS, the same everywhere, and two clips to compare."""

import numpy as np

SHAPES = [(64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3)]  # out, in, side
LAYERS = [0, 3, 6, 8, 10]  # of torchvision's `features`


def trunk() -> dict[str, np.ndarray]:
    """A state_dict with torchvision's names."""
    rng, state = np.random.default_rng(0), {}
    for layer, (out, into, side) in zip(LAYERS, SHAPES, strict=True):
        spread = np.sqrt(2 / (into * side * side))
        state[f"features.{layer}.weight"] = (spread * rng.standard_normal((out, into, side, side))).astype(
            "f4"
        )
        state[f"features.{layer}.bias"] = (0.1 * rng.standard_normal(out)).astype("f4")
    return state


def heads() -> dict[str, np.ndarray]:
    """A state_dict with the names of the package lpips."""
    rng = np.random.default_rng(1)
    return {
        f"lin{i}.model.1.weight": rng.random((1, shape[0], 1, 1)).astype("f4")
        for i, shape in enumerate(SHAPES)
    }


def clips() -> tuple[np.ndarray, np.ndarray]:
    """uint8 [2, 64, 80, 3]: noise, and it with more noise."""
    rng = np.random.default_rng(2)
    first = rng.integers(0, 256, (2, 64, 80, 3)).astype(np.uint8)
    second = np.clip(first + rng.normal(0, 30, first.shape), 0, 255).astype(np.uint8)
    return first, second
