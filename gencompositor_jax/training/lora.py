"""Low-rank adapters (LoRA, arXiv 2106.09685): a kernel W is trained as W + alpha / rank * a b.

With W as a map from `in` numbers to `out` numbers, a is [in, rank] and b is [rank, out]; a starts normal
with standard deviation 1 / sqrt(in), b at zero, so fresh adapters change nothing.

Kernels keep the shapes that the network declares, and adapters take theirs from them, layer by layer where
kernels are stacked:

    kernel                          W                   a                   b
    attention query, key, value     [L, in, H, d]       [L, in, rank]       [L, rank, H, d]
    attention out                   [L, H, d, out]      [L, H, d, rank]     [L, rank, out]
    other stacked kernels           [L, in, out]        [L, in, rank]       [L, rank, out]
    kernels outside the stacks      [in, out]           [in, rank]          [rank, out]

The merged weights go through the ordinary network, in training and on export alike: a checkpoint of an
adapted model is an ordinary one. The price is a gradient of the merged kernels' size during the step; the
optimiser's moments and the average are of the adapters alone.
"""

import math
import re
import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gencompositor_jax.errors import InputError
from gencompositor_jax.training import partition

TARGETS = r"^backbone/blocks/attention/(query|key|value|out)/kernel$"
_STACKED = re.compile(r"(^|/)blocks/|^branch/residual/")


class Axes(NamedTuple):
    """How the axes of a kernel are divided, from the first to the last: layers, inputs, outputs."""

    layers: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def axes(name: str, shape: tuple[int, ...]) -> Axes:
    """Layers, input sizes and output sizes of the kernel at a path of the parameters."""
    layers = int(_STACKED.search(name) is not None)
    heads_are_inputs = name.endswith("attention/out/kernel")
    cut = layers + (2 if heads_are_inputs else 1)
    if not layers <= len(shape) - 2 <= layers + 1 or cut >= len(shape):
        raise ValueError(f"{name}: no kernel of a known kind has shape {shape}")
    return Axes(shape[:layers], shape[layers:cut], shape[cut:])


def init(key: jax.Array, params: Any, rank: int, targets: str = TARGETS) -> Any:
    """Fresh adapters in float32 for the kernels whose path matches `targets`.

    params: {"backbone": ..., "branch": ...}, of arrays or of shapes; works under jit and eval_shape. What a
    kernel's adapter starts from depends on the key and its path alone. Returns a nested dict with
    {"a": ..., "b": ...} under each kernel's path. Raises InputError where no kernel matches, or the rank
    is below 1 or above what a kernel can have.
    """
    kernels = {k: leaf for k, leaf in partition.flatten(params).items() if k.split("/")[-1] == "kernel"}
    chosen = partition.matching(kernels, targets, "lora.targets")
    shapes = {name: axes(name, tuple(kernels[name].shape)) for name in sorted(chosen)}
    for name, (_, inputs, outputs) in shapes.items():
        full = min(math.prod(inputs), math.prod(outputs))
        if not 1 <= rank <= full:
            raise InputError(f"lora.rank={rank}: pass 1 to {full}, the full rank of {name}")
    adapters = {}
    for name, (layers, inputs, outputs) in shapes.items():
        own = jax.random.fold_in(key, zlib.crc32(name.encode()))
        a = jax.random.normal(own, (*layers, *inputs, rank)) / math.sqrt(math.prod(inputs))
        adapters[name] = {"a": a, "b": jnp.zeros((*layers, rank, *outputs))}
    return partition.unflatten(adapters)


def apply(params: Any, adapters: Any, alpha: float) -> Any:
    """The parameters with adapted kernels W + alpha / rank * a b, computed in float32, in W's dtype.

    What has no adapter is passed on as it is.
    """
    parts = partition.flatten(adapters)
    merged = partition.flatten(params)
    for name in {part.rpartition("/")[0] for part in parts}:
        merged[name] = _adapted(name, merged[name], parts[f"{name}/a"], parts[f"{name}/b"], alpha)
    return partition.unflatten(merged)


def _adapted(name: str, kernel: jax.Array, a: jax.Array, b: jax.Array, alpha: float) -> jax.Array:
    layers = tuple(range(len(axes(name, kernel.shape).layers)))
    contracted = ((a.ndim - 1,), (len(layers),))
    # Highest: TPUs would multiply float32 in bfloat16, GPUs in TF32, and the export would differ from the
    # machine that merges.
    product = jax.lax.dot_general(
        a.astype(jnp.float32),
        b.astype(jnp.float32),
        (contracted, (layers, layers)),
        precision=jax.lax.Precision.HIGHEST,
    )
    rank = a.shape[-1]
    return (kernel.astype(jnp.float32) + alpha / rank * product).astype(kernel.dtype)
