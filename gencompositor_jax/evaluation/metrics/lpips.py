"""Learned perceptual distances: LPIPS (Zhang et al. 2018) and ST-LPIPS (Ghildyal and Liu 2022).

With features f_l of five layers of a network, normalised over channels at each position, and weights w_l,

    d(x, y) = sum_l mean_hw w_l . (f_l(x) - f_l(y))^2

ST-LPIPS has networks that tolerate small shifts: strides are replaced by blurs, and trained again. Weights
are PyTorch's: kernels [out, in, h, w].
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gencompositor_jax.errors import InputError

SHIFT = np.array([-0.030, -0.088, -0.188], np.float32)  # of images in [-1, 1]; ImageNet's statistics
SCALE = np.array([0.458, 0.448, 0.450], np.float32)
EPSILON = 1e-10  # of the normalisation
BATCH = 8  # frames at once
LEAST = 64  # pixels of a frame's sides: smaller ones leave some networks no pixel
_HEADS = [f"lin{i}.model.1.weight" for i in range(5)]
_LAYER = re.compile(r"(?!lin).*\.\d+\.weight")


class Conv(NamedTuple):
    """A convolution; its channels are those of the weights."""

    side: int
    stride: int = 1
    padding: int = 1


class Pool(NamedTuple):
    """A maximum over side x side pixels."""

    side: int
    stride: int


class Blur(NamedTuple):
    """The binomial filter [1 2 1] along both axes with stride 2, after 2 reflected pixels of padding."""


RELU = "relu"
Step = Conv | Pool | Blur | str
Network = tuple[tuple[Step, ...], ...]  # five stages; a feature is taken after each

_CONV = Conv(3)


def _vgg(down: tuple[Step, ...]) -> Network:
    return tuple(
        (down if stage else ()) + (_CONV, RELU) * count for stage, count in enumerate((2, 2, 3, 3, 3))
    )


ALEXNET: Network = (
    (Conv(11, 4, 2), RELU),
    (Pool(3, 2), Conv(5, 1, 2), RELU),
    (Pool(3, 2), _CONV, RELU),
    (_CONV, RELU),
    (_CONV, RELU),
)
ALEXNET_SHIFT_TOLERANT: Network = (
    (Conv(11, 1, 2), Blur(), RELU),
    (Pool(3, 1), Blur(), Conv(5, 1, 2), RELU),
    (Pool(3, 1), Blur(), _CONV, RELU),
    (_CONV, RELU),
    (_CONV, RELU),
)
VGG16 = _vgg((Pool(2, 2),))
VGG16_SHIFT_TOLERANT = _vgg((Pool(2, 1), Blur()))
NETWORKS = {
    "alexnet": (ALEXNET, ALEXNET_SHIFT_TOLERANT),
    "vgg16": (VGG16, VGG16_SHIFT_TOLERANT),
}


class Weights(NamedTuple):
    """Kernels [O, I, h, w] and biases [O] of the convolutions in order, and w_l [C_l] of the five layers."""

    kernels: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    heads: tuple[np.ndarray, ...]


def make_weights(trunk: Mapping[str, np.ndarray], heads: Mapping[str, np.ndarray], net: str) -> Weights:
    """From the state_dicts of the network (torchvision's `features.N`, or `net.sliceM.N`) and of the heads.

    Raises InputError for tensors that are missing or don't fit the network, such as VGG16's with batch
    normalisation.
    """
    if other := [name for name in trunk if not isinstance(trunk[name], np.ndarray) or "running_" in name]:
        raise InputError(f"weights of {net}: holds {other[0]}, which torchvision's {net} hasn't")
    found = {name: _LAYER.fullmatch(name) for name, value in trunk.items() if value.ndim == 4}
    names = [name for name, match in found.items() if match]
    names.sort(key=lambda name: int(name.split(".")[-2]))
    network = NETWORKS[net][0]
    convolutions = [[step for step in stage if isinstance(step, Conv)] for stage in network]
    shapes = [trunk[name].shape for name in names]
    inputs = [3, *(shape[0] for shape in shapes)]
    sides = [step.side for stage in convolutions for step in stage]
    if [shape[1:] for shape in shapes] != [(c, n, n) for c, n in zip(inputs, sides, strict=False)]:
        raise InputError(f"weights of {net}: convolutions of {shapes}, expected sides {sides}")
    if missing := [name for name in _HEADS if name not in heads]:
        raise InputError(f"weights of {net}: {missing[0]} is missing")
    for name in names:
        bias = trunk.get(_bias(name))
        if bias is None or bias.shape != trunk[name].shape[:1]:
            raise InputError(f"weights of {net}: {_bias(name)} is missing, or of another shape")
    lines = tuple(np.asarray(heads[name], np.float32).reshape(-1) for name in _HEADS)
    last = np.cumsum([len(stage) for stage in convolutions]) - 1
    if [shapes[i][0] for i in last] != [len(line) for line in lines]:
        raise InputError(f"weights of {net}: the heads don't have the network's numbers of channels")
    kernels = tuple(np.asarray(trunk[name], np.float32) for name in names)
    biases = tuple(np.asarray(trunk[_bias(name)], np.float32) for name in names)
    return Weights(kernels, biases, lines)


def _bias(name: str) -> str:
    return name.removesuffix("weight") + "bias"


def lpips(frames: np.ndarray, target: np.ndarray, weights: Weights, network: Network) -> np.ndarray:
    """The distance of each frame, float64 [T], of uint8 [T, H, W, 3]; 0 for equal frames.

    Raises ValueError for frames of less than LEAST pixels a side.
    """
    if min(frames.shape[1:3]) < LEAST:
        raise ValueError(f"frames of {frames.shape[1:3]}: LPIPS needs {LEAST} pixels or more on each side")
    parts = [slice(start, start + BATCH) for start in range(0, len(frames), BATCH)]
    return np.concatenate([_distance(frames[p], target[p], weights, network) for p in parts]).astype(float)


@partial(jax.jit, static_argnames="network")
def _distance(frames: jax.Array, target: jax.Array, weights: Weights, network: Network) -> jax.Array:
    total = jnp.zeros(len(frames))
    both = jnp.concatenate([frames, target]).astype(jnp.float32) / 127.5 - 1
    for feature, head in zip(_features((both - SHIFT) / SCALE, weights, network), weights.heads, strict=True):
        norm = jnp.sqrt((feature**2).sum(axis=1, keepdims=True))
        first, second = jnp.split(feature / (norm + EPSILON), 2)
        total += jnp.einsum("bchw,c->bhw", (first - second) ** 2, head, precision="highest").mean(axis=(1, 2))
    return total


def _features(images: jax.Array, weights: Weights, network: Network) -> list[jax.Array]:
    """The five features [B, C, h, w] of images [B, H, W, 3]."""
    x, out = images.transpose(0, 3, 1, 2), []
    layers = iter(zip(weights.kernels, weights.biases, strict=True))
    for stage in network:
        for step in stage:
            if isinstance(step, Conv):
                kernel, bias = next(layers)
                x = _convolved(x, kernel, step) + bias[:, None, None]
            elif isinstance(step, Pool):
                shape, strides = (1, 1, step.side, step.side), (1, 1, step.stride, step.stride)
                x = lax.reduce_window(x, -jnp.inf, lax.max, shape, strides, "VALID")
            elif isinstance(step, Blur):
                x = _blurred(x)
            else:
                x = jax.nn.relu(x)
        out.append(x)
    return out


def _convolved(x: jax.Array, kernel: Any, step: Conv) -> jax.Array:
    edges = 2 * ((step.padding, step.padding),)
    return lax.conv_general_dilated(x, kernel, 2 * (step.stride,), edges, precision="highest")


def _blurred(x: jax.Array) -> jax.Array:
    padded = jnp.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="reflect")
    rows = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    both = rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]
    return both[:, :, ::2, ::2] / 16
