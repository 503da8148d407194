"""Weights in 8 bits: for a kernel W, one scale per output channel o and layer,

    (1)  s_o = max_i |W_io| / 127,   Q_io = round(W_io / s_o),   W_io ~ s_o Q_io

with i running over everything that is summed over. Q is kept; W is made again, one block's at a time, where
the block runs. Activations and everything small (norms, biases, embeddings, the codec) stay as they are.
"""

import functools
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

# The kernels of the blocks, stacked by layer along axis 0, and the axes that their products sum over: all but
# a five-hundredth of the released network's parameters.
KERNELS: tuple[tuple[str, tuple[int, ...]], ...] = (
    (r"blocks/attention/(query|key|value)/kernel$", (1,)),
    (r"blocks/attention/out/kernel$", (1, 2)),
    (r"blocks/feed_forward/(up|down)/kernel$", (1,)),
    (r"blocks/norm[12]/linear/kernel$", (1,)),
)


class Int8(NamedTuple):
    """A kernel in the form of equation (1), in the place of its array in a tree of parameters."""

    values: jax.Array  # int8, of the kernel's shape
    scale: jax.Array  # float32, 1 along the axes that are summed over


def quantised(arrays: Any) -> Any:
    """A model's arrays with the kernels of its blocks as `Int8`.

    Kernels are brought to the device and turned one after the other, so that besides the result one of them
    is there as it was. Arrays that are cut over a mesh stay cut; shapes (jax.eval_shape) do as well.
    """

    def one(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        axes = next((axes for pattern, axes in KERNELS if re.search(pattern, name)), None)
        return leaf if axes is None else _quantised(leaf, axes)

    return jax.tree_util.tree_map_with_path(one, arrays)


def restored(params: Any, dtype: Any) -> Any:
    """Parameters with arrays of `dtype` in the place of each `Int8`; the others as they are."""

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, Int8):
            return leaf
        return (leaf.values.astype(jnp.float32) * leaf.scale).astype(dtype)

    return jax.tree.map(one, params, is_leaf=_is_int8)


def is_quantised(params: Any) -> bool:
    """Whether there is an `Int8` among them."""
    return any(map(_is_int8, jax.tree.leaves(params, is_leaf=_is_int8)))


def _is_int8(leaf: Any) -> bool:
    return isinstance(leaf, Int8)


@functools.partial(jax.jit, static_argnums=1)
def _quantised(kernel: jax.Array, axes: tuple[int, ...]) -> Int8:
    wide = kernel.astype(jnp.float32)
    largest = jnp.abs(wide).max(axis=axes, keepdims=True)
    scale = jnp.where(largest > 0, largest / 127, 1.0)
    return Int8(jnp.rint(wide / scale).astype(jnp.int8), scale)
