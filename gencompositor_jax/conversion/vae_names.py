"""Names of the VAE's tensors in the released PyTorch checkpoint (diffusers' layout), and layout changes.

A path translates name by name: encoder/down_0/res_1/conv1/kernel is
encoder.down_blocks.0.resnets.1.conv1.conv.weight. The rules are made from the shapes of our own parameters,
so none can be forgotten; they are used in both directions.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from gencompositor_jax.arch import VAEArch
from gencompositor_jax.codec import vae
from gencompositor_jax.conversion.network_names import Rule

_PARTS = {
    "encoder": "encoder",
    "decoder": "decoder",
    "mid": "mid_block",
    "conv_in": "conv_in.conv",
    "conv_out": "conv_out.conv",
    "conv1": "conv1.conv",
    "conv2": "conv2.conv",
    "shortcut": "conv_shortcut",
    "downsample": "downsamplers.0.conv",
    "upsample": "upsamplers.0.conv",
    "norm1": "norm1",
    "norm2": "norm2",
    "norm_out": "norm_out",
    "norm": "norm_layer",
    "gain": "conv_y.conv",
    "shift": "conv_b.conv",
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
}
_NUMBERED = {"down": "down_blocks", "up": "up_blocks", "res": "resnets"}


def vae_rules(arch: VAEArch) -> list[Rule]:
    """Rules of every parameter of `vae.init(key, arch)`, paths as in that tree; allocates nothing."""
    shapes = jax.eval_shape(functools.partial(vae.init, arch=arch), jax.random.key(0))
    return [_rule(path) for path in _paths(shapes)]


def _rule(path: tuple[str, ...]) -> Rule:
    key = ".".join(_part(name) for name in path)
    if path[-1] == "kernel":  # [out, in, window...] there, [window..., in, out] here
        return Rule(key, "/".join(path), _channels_last, _channels_first)
    return Rule(key, "/".join(path), lambda x: x, lambda x: x)


def _part(name: str) -> str:
    numbered = re.fullmatch(r"([a-z]+)_(\d+)", name)
    return f"{_NUMBERED[numbered[1]]}.{numbered[2]}" if numbered else _PARTS[name]


def _channels_last(kernel: np.ndarray) -> np.ndarray:
    return np.moveaxis(kernel, (0, 1), (-1, -2))


def _channels_first(kernel: np.ndarray) -> np.ndarray:
    return np.moveaxis(kernel, (-1, -2), (0, 1))


def _paths(tree: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, node in tree.items():
        if isinstance(node, Mapping):
            yield from _paths(node, (*above, name))
        else:
            yield (*above, name)
