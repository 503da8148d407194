"""Low-rank adapters (LoRA, arXiv 2106.09685): a kernel W is used as W + alpha / rank * a b; a and b are
trained.

For W [in, out], a is [in, rank] and b is [rank, out]. a is initialised normally with standard deviation
1 / sqrt(in), b with zeros, so new adapters change nothing.

Kernels have the shapes that the network declares; in stacks each layer has its own adapter:

    kernel                          W                   a                   b
    attention query, key, value     [L, in, H, d]       [L, in, rank]       [L, rank, H, d]
    attention out                   [L, H, d, out]      [L, H, d, rank]     [L, rank, out]
    other stacked kernels           [L, in, out]        [L, in, rank]       [L, rank, out]
    kernels outside the stacks      [in, out]           [in, rank]          [rank, out]

The network takes the merged weights, in training and on export: a checkpoint of an adapted model is an
ordinary one. The price is a gradient of the merged kernels' size during the step; the optimiser's moments and
the EMA are of the adapters alone.
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
    """The sizes of a kernel's axes, in their order: layers, inputs, outputs."""

    layers: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def axes(name: str, shape: tuple[int, ...]) -> Axes:
    """The axes of the kernel at a path of the parameters. Raises ValueError for an unknown kind of kernel."""
    layers = int(_STACKED.search(name) is not None)
    heads_are_inputs = name.endswith("attention/out/kernel")
    outputs = layers + (2 if heads_are_inputs else 1)
    if not layers <= len(shape) - 2 <= layers + 1 or outputs >= len(shape):
        raise ValueError(f"{name}: no kernel of a known kind has shape {shape}")
    return Axes(shape[:layers], shape[layers:outputs], shape[outputs:])


def init(key: jax.Array, params: Any, rank: int, targets: str = TARGETS) -> Any:
    """New adapters in float32 for the kernels whose path matches `targets`; works under jit and eval_shape.

    Args:
        key: with a kernel's path it decides the kernel's initial adapter, whatever else is adapted.
        params: {"backbone": ..., "branch": ...}, of arrays or of shapes.
        rank: 1 to the full rank of the kernels.
        targets: a regular expression.

    Returns:
        A nested dict with {"a": ..., "b": ...} under each kernel's path.

    Raises:
        InputError: no kernel matches, or the rank is out of range.
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
        kernel_key = jax.random.fold_in(key, zlib.crc32(name.encode()))
        a = jax.random.normal(kernel_key, (*layers, *inputs, rank)) / math.sqrt(math.prod(inputs))
        adapters[name] = {"a": a, "b": jnp.zeros((*layers, rank, *outputs))}
    return partition.unflatten(adapters)


def apply(params: Any, adapters: Any, alpha: float) -> Any:
    """The parameters with kernels W + alpha / rank * a b, computed in float32 and cast to W's dtype.

    Parameters without an adapter are unchanged.
    """
    parts = partition.flatten(adapters)
    merged = partition.flatten(params)
    for name in {part.rpartition("/")[0] for part in parts}:
        merged[name] = _adapted(name, merged[name], parts[f"{name}/a"], parts[f"{name}/b"], alpha)
    return partition.unflatten(merged)


def _adapted(name: str, kernel: jax.Array, a: jax.Array, b: jax.Array, alpha: float) -> jax.Array:
    layers = tuple(range(len(axes(name, kernel.shape).layers)))
    contracted = ((a.ndim - 1,), (len(layers),))
    # By default TPUs multiply float32 in bfloat16 and GPUs in TF32: the merged weights would depend on the
    # machine.
    product = jax.lax.dot_general(
        a.astype(jnp.float32),
        b.astype(jnp.float32),
        (contracted, (layers, layers)),
        precision=jax.lax.Precision.HIGHEST,
    )
    rank = a.shape[-1]
    return (kernel.astype(jnp.float32) + alpha / rank * product).astype(kernel.dtype)
