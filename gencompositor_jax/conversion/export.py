"""A checkpoint -> the release's PyTorch folders: config.json and safetensors, bit by bit the weights
converted.

    transformer/  branch/  vae/  scheduler/

Arrays are read layer by layer, so memory holds a few tensors.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from gencompositor_jax import checkpoints
from gencompositor_jax.checkpoints import manifest
from gencompositor_jax.checkpoints.manifest import ArrayFacts
from gencompositor_jax.checkpoints.restore import open_array
from gencompositor_jax.conversion import plan, safetensors_io
from gencompositor_jax.conversion.configs import to_configs
from gencompositor_jax.conversion.network_names import Rule
from gencompositor_jax.conversion.safetensors_io import Tensor
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import atomic_folder, check_new_folder, check_space

SHARD_BYTES = 5 * 10**9
Progress = Callable[[int, int], None]  # (bytes written, bytes in all)


def export(
    folder: Path,
    out: Path,
    overwrite: bool = False,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress | None = None,
) -> int:
    """Writes the components of a checkpoint below `out`, which appears whole or not at all. Returns
    their bytes.

    Raises InputError for models that the release can't run, and damaged checkpoints.
    """
    facts, stored = checkpoints.all_facts(folder), checkpoints.stored_arrays(folder)
    configs = to_configs(facts.arch)
    written = manifest.read(folder)
    if written is not None:
        manifest.verify_cheaply(folder, written)
    announced: dict[str, dict[str, tuple[Rule, str, int | None, Tensor]]] = {}
    for component, (root, rules, layers) in plan.component_rules(facts.arch).items():
        announced[component] = {
            rule.key.format(i=i): (
                rule,
                f"{root}/{rule.path}",
                i,
                _announce(rule, stored[f"{root}/{rule.path}"], i),
            )
            for rule in rules
            for i in (range(layers) if rule.stacked else [None])
        }
    total = sum(_bytes(tensor) for each in announced.values() for *_, tensor in each.values())
    check_new_folder(out, overwrite)
    check_space(out, total)
    done = 0

    def wrote(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    with atomic_folder(out, overwrite) as part:
        for component, fields in configs.items():
            (part / component).mkdir()
            name = "scheduler_config.json" if component == "scheduler" else "config.json"
            (part / component / name).write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
        for component, tensors in announced.items():
            _write(folder / "arrays", part / component, tensors, shard_bytes, wrote)
    return total


def _announce(rule: Rule, facts: ArrayFacts, layer: int | None) -> Tensor:
    """Shape and type that an array, or one layer of it, has over there."""
    shape = facts.shape if layer is None else facts.shape[1:]
    there = rule.to_torch(np.broadcast_to(np.float32(0), shape)).shape
    dtype = np.dtype(jnp.dtype(facts.dtype))
    if dtype not in safetensors_io.NAMES:
        raise InputError(f"{rule.path}: {facts.dtype} has no name in safetensors")
    return Tensor(there, dtype)


def _bytes(tensor: Tensor) -> int:
    return int(np.prod(tensor.shape)) * tensor.dtype.itemsize


def _write(
    arrays: Path,
    out: Path,
    tensors: dict[str, tuple[Rule, str, int | None, Tensor]],
    shard_bytes: int,
    wrote: Callable[[int], None],
) -> None:
    """One component: a single file, or several of at most `shard_bytes` and their index."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, (*_, tensor) in tensors.items():
        if shards[-1] and size + _bytes(tensor) > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += _bytes(tensor)
    base = "diffusion_pytorch_model"
    where: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        of = f"-{number:05d}-of-{len(shards):05d}" if len(shards) > 1 else ""
        file = f"{base}{of}.safetensors"
        header = {name: tensors[name][3] for name in names}
        safetensors_io.write(
            out / file, header, _arrays(arrays, [tensors[name] for name in names]), wrote=wrote
        )
        where |= dict.fromkeys(names, file)
    if len(shards) > 1:
        total = sum(_bytes(tensor) for *_, tensor in tensors.values())
        index = {"metadata": {"total_size": total}, "weight_map": where}
        text = json.dumps(index, indent=2, sort_keys=True) + "\n"
        (out / f"{base}.safetensors.index.json").write_text(text, encoding="utf-8")


def _arrays(folder: Path, wanted: list[tuple[Rule, str, int | None, Tensor]]) -> Iterator[np.ndarray]:
    opened: dict[str, Any] = {}
    for rule, name, layer, _ in wanted:
        if name not in opened:
            opened[name] = open_array(folder, name)
        array = opened[name] if layer is None else opened[name][layer]
        yield rule.to_torch(array.read().result())
