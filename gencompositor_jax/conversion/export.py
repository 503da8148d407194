"""A checkpoint -> the release's PyTorch folders, config.json and safetensors, with the converted bits.

    transformer/  branch/  vae/  scheduler/

Arrays are read layer by layer, so memory holds a few tensors.
"""

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from gencompositor_jax import checkpoints
from gencompositor_jax.checkpoints import manifest
from gencompositor_jax.checkpoints.manifest import ArraySpec
from gencompositor_jax.checkpoints.restore import open_array
from gencompositor_jax.conversion import safetensors_io, tensor_map
from gencompositor_jax.conversion.configs import to_configs
from gencompositor_jax.conversion.safetensors_io import Tensor
from gencompositor_jax.conversion.tensor_map import ComponentRules, Rule
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import atomic_folder, check_new_folder, check_space

SHARD_BYTES = 5 * 10**9
FILE = "diffusion_pytorch_model"

Progress = Callable[[int, int], None]  # (bytes written, total bytes)


class _Export(NamedTuple):
    """One tensor to be written, and the array or layer that it comes from."""

    rule: Rule
    array: str
    layer: int | None
    tensor: Tensor


def export(
    folder: Path,
    out: Path,
    overwrite: bool = False,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress | None = None,
) -> int:
    """Write the components of a checkpoint below `out`, which appears once it is complete.

    Returns the bytes of all tensors. Raises InputError for models that the release doesn't support, and
    damaged checkpoints.
    """
    metadata, stored = checkpoints.read_metadata(folder), checkpoints.stored_specs(folder)
    configs = to_configs(metadata.arch)
    written = manifest.read(folder)
    if written is not None:
        manifest.quick_verify(folder, written)
    rules = tensor_map.component_rules(metadata.arch)
    exports = {name: _exports(component, stored) for name, component in rules.items()}
    total, done = sum(each.tensor.bytes for found in exports.values() for each in found.values()), 0
    check_new_folder(out, overwrite, "transformer/config.json")
    check_space(out, total)

    def on_written(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    with atomic_folder(out, overwrite) as part:
        for component, fields in configs.items():
            (part / component).mkdir()
            name = "scheduler_config.json" if component == "scheduler" else "config.json"
            (part / component / name).write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
        for component, found in exports.items():
            write_shards(
                part / component,
                {name: each.tensor for name, each in found.items()},
                functools.partial(_read, folder / "arrays", found),
                shard_bytes,
                on_written,
            )
    return total


def write_shards(
    folder: Path,
    tensors: Mapping[str, Tensor],
    read: Callable[[list[str]], Iterable[np.ndarray]],
    shard_bytes: int,
    on_written: Callable[[int], None] | None = None,
) -> None:
    """Write a component as one file, or as several of at most `shard_bytes` and their index.

    read: the arrays of some tensors in the given order.
    """
    shards: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.bytes > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += tensor.bytes
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        suffix = f"-{number:05d}-of-{len(shards):05d}" if len(shards) > 1 else ""
        file = f"{FILE}{suffix}.safetensors"
        header = {name: tensors[name] for name in names}
        safetensors_io.write(folder / file, header, read(names), on_written=on_written)
        weight_map |= dict.fromkeys(names, file)
    if len(shards) > 1:
        index = {
            "metadata": {"total_size": sum(tensor.bytes for tensor in tensors.values())},
            "weight_map": weight_map,
        }
        text = json.dumps(index, indent=2, sort_keys=True) + "\n"
        (folder / f"{FILE}.safetensors.index.json").write_text(text, encoding="utf-8")


def _exports(component: ComponentRules, stored: Mapping[str, ArraySpec]) -> dict[str, _Export]:
    found = {}
    for name, layer, rule in component.tensors():
        array = f"{component.root}/{rule.path}"
        found[name] = _Export(rule, array, layer, _exported(rule, stored[array], layer))
    return found


def _exported(rule: Rule, spec: ArraySpec, layer: int | None) -> Tensor:
    """Shape and type of an array, or of one layer of it, as a PyTorch tensor."""
    shape = spec.shape if layer is None else spec.shape[1:]
    dtype = np.dtype(jnp.dtype(spec.dtype))
    if dtype not in safetensors_io.NAMES:
        raise InputError(f"{rule.path}: {spec.dtype} has no name in safetensors")
    return Tensor(rule.to_torch(np.broadcast_to(np.float32(0), shape)).shape, dtype)


def _read(folder: Path, exports: Mapping[str, _Export], names: list[str]) -> Iterator[np.ndarray]:
    opened: dict[str, Any] = {}
    for each in (exports[name] for name in names):
        if each.array not in opened:
            opened[each.array] = open_array(folder, each.array)
        array = opened[each.array] if each.layer is None else opened[each.array][each.layer]
        yield each.rule.to_torch(array.read().result())
