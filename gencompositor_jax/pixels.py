"""Pixel scaling of NumPy and JAX arrays: uint8 0..255 in files, float32 in [-1, 1] in the network."""

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    import jax  # preparing inputs needs none

Array = TypeVar("Array", np.ndarray, "jax.Array")


def to_signed(frames: Array) -> Array:
    """uint8 0..255 -> float32 in [-1, 1]. XLA may multiply by 1/127.5: 1 ulp away from NumPy's result."""
    return frames.astype(np.float32) / np.float32(127.5) - np.float32(1)


def to_pixels(video: Array) -> Array:
    """Exact inverse of `to_signed`: clips to [-1, 1] and rounds to uint8."""
    signed = video.astype(np.float32).clip(-1, 1)
    return ((signed + np.float32(1)) * np.float32(127.5)).round().astype(np.uint8)
