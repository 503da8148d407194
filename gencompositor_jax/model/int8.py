"""Weights quantised to 8 bits. A kernel W has one scale per output channel o and layer:

    (1)  s_o = max_i |W_io| / 127,   Q_io = round(W_io / s_o),   W_io ~ s_o Q_io

i runs over the contracted dimensions. Q is stored; kernels are dequantised inside the block, one layer at a
time. Activations and all small parameters (norms, biases, embeddings, the codec) are not quantised.
"""

import functools
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

# The blocks' kernels, stacked by layer along axis 0, and their contracted axes. They are 99.8 % of the
# released network's parameters.
KERNELS: tuple[tuple[str, tuple[int, ...]], ...] = (
    (r"blocks/(cross_)?attention/(query|key|value)/kernel$", (1,)),
    (r"blocks/(cross_)?attention/out/kernel$", (1, 2)),
    (r"blocks/feed_forward/(up|down)/kernel$", (1,)),
    (r"blocks/norm[12]/linear/kernel$", (1,)),
)


class Int8(NamedTuple):
    """A quantised kernel, equation (1), as a node in a tree of parameters."""

    values: jax.Array  # Q: int8, of the kernel's shape
    scale: jax.Array  # s: float32, with size 1 along contracted axes


def quantised(arrays: Any) -> Any:
    """A model's arrays with the blocks' kernels as `Int8`.

    Kernels are moved to the device and quantised one after the other, so that memory holds the result and one
    kernel. Shardings are kept. Also works on shapes, under `jax.eval_shape`.
    """

    def one(path: Any, leaf: Any) -> Any:
        return quantised_array(jax.tree_util.keystr(path, simple=True, separator="/"), leaf)

    return jax.tree_util.tree_map_with_path(one, arrays)


def quantised_array(name: str, array: jax.Array) -> Any:
    """The array of a path as `Int8` if it is one of the blocks' kernels, else as it is."""
    axes = next((axes for pattern, axes in KERNELS if re.search(pattern, name)), None)
    return array if axes is None else _quantised(array, axes)


def restored(params: Any, dtype: Any) -> Any:
    """Parameters with each `Int8` dequantised to `dtype`."""

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, Int8):
            return leaf
        return (leaf.values.astype(jnp.float32) * leaf.scale).astype(dtype)

    return jax.tree.map(one, params, is_leaf=_is_int8)


def is_quantised(params: Any) -> bool:
    """True if any of the parameters is an `Int8`."""
    return any(map(_is_int8, jax.tree.leaves(params, is_leaf=_is_int8)))


def _is_int8(leaf: Any) -> bool:
    return isinstance(leaf, Int8)


@functools.partial(jax.jit, static_argnums=1)
def _quantised(kernel: jax.Array, axes: tuple[int, ...]) -> Int8:
    wide = kernel.astype(jnp.float32)
    largest = jnp.abs(wide).max(axis=axes, keepdims=True)
    scale = jnp.where(largest > 0, largest / 127, 1.0)
    return Int8(jnp.rint(wide / scale).astype(jnp.int8), scale)
