"""Loading a checkpoint onto a mesh: each process reads the shards of its own devices, layer by layer.

A large shard is filled in place on its device, so the host holds one layer of one array. (Orbax reads whole
shards, as many as fit its limit.) Arrays converted with `--shard` are stored as one file per shard and layer,
so nothing is read twice.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorstore
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from gencompositor_jax import checkpoints
from gencompositor_jax.arch import ModelArch
from gencompositor_jax.checkpoints.format import Model
from gencompositor_jax.errors import InputError

# Smaller shards are read in one piece: filling one in place compiles two programs per shape and device.
WHOLE_BYTES = 16 * 2**20


def fully_sharded(arch: ModelArch, mesh: Mesh, prompts: Iterable[str] = ()) -> dict[str, Sharding]:
    """A sharding for every array by its path: over the whole mesh along `shard_axis`, or replicated."""

    def sharding(name: str, shape: tuple[int, ...]) -> Sharding:
        axis = checkpoints.shard_axis(name, shape, mesh.size)
        spec = () if axis is None else (None,) * axis + (mesh.axis_names,)
        return NamedSharding(mesh, PartitionSpec(*spec))

    leaves = checkpoints.named_leaves(checkpoints.array_shapes(arch, prompts))
    return {name: sharding(name, tuple(leaf.shape)) for name, leaf in leaves.items()}


def load_sharded(
    folder: str | Path,
    shardings: Mapping[str, Sharding],
    dtype: Any = None,
    verify: bool | None = None,
    change: Callable[[str, jax.Array], Any] | None = None,
) -> Model:
    """Read a model onto devices.

    shardings: by the arrays' paths, see `fully_sharded`. dtype: of floating-point arrays; None keeps the
    stored type. verify: see `checkpoints.load`. change: applied to each array, with its path, before the next
    one is read. Raises InputError with the list of what does not fit.
    """
    folder = Path(folder)
    metadata, stored = checkpoints.validate(folder, verify)
    if missing := sorted(stored.keys() - shardings.keys()):
        raise InputError(f"shardings: missing {', '.join(missing)}")
    arrays: dict[str, Any] = {"codec": {}}
    for name in stored:
        *parents, last = name.split("/")
        node = arrays
        for parent in parents:
            node = node.setdefault(parent, {})
        array = read_sharded(open_array(folder / "arrays", name), shardings[name], dtype)
        node[last] = array if change is None else change(name, array)
    prompts = arrays.pop("prompts", {})
    return Model(metadata.arch, arrays, metadata.provenance, prompts)


def open_array(folder: Path, name: str) -> Any:
    """An array of a checkpoint's `arrays` folder as a TensorStore, of which slices can be read."""
    flat = name.replace("/", ".")
    if (folder / flat / ".zarray").is_file():
        kvstore: dict[str, Any] = {"driver": "file", "path": f"{(folder / flat).resolve()}/"}
    else:
        kvstore = {"driver": "ocdbt", "base": f"file://{folder.resolve()}/", "path": f"{flat}/"}
    return tensorstore.open({"driver": "zarr", "kvstore": kvstore}, read=True, open=True).result()


def read_sharded(array: Any, sharding: Sharding, dtype: Any = None) -> jax.Array:
    """Read an opened array as a global jax.Array; each process reads the shards of its devices."""
    stored = jnp.dtype(array.dtype.numpy_dtype)
    kind = stored if dtype is None or not jnp.issubdtype(stored, jnp.floating) else jnp.dtype(dtype)
    shape = tuple(array.shape)
    where = sharding.addressable_devices_indices_map(shape)
    shards: dict[str, jax.Array] = {}  # by index: replicated ones are read once
    parts = []
    for device, index in where.items():
        index = index or ()
        known = shards.get(str(index))
        if known is None:
            known = shards[str(index)] = _read_shard(array, index, kind, device)
        parts.append(known if device in known.devices() else jax.device_put(known, device))
    return jax.make_array_from_single_device_arrays(shape, sharding, parts)


def _read_shard(array: Any, index: tuple[slice, ...], dtype: Any, device: Any) -> jax.Array:
    """The shard of one device; a large one is filled one chunk of layers at a time."""
    bounds = [s.indices(n)[:2] for s, n in zip(index, array.shape, strict=False)]
    bounds += [(0, n) for n in array.shape[len(bounds) :]]
    shape = tuple(high - low for low, high in bounds)
    rows = array.chunk_layout.read_chunk.shape[0] if shape else 0
    stored_bytes = math.prod(shape) * array.dtype.numpy_dtype.itemsize
    if not shape or stored_bytes <= WHOLE_BYTES or rows >= shape[0]:
        part = array[tuple(slice(*b) for b in bounds)].read().result()
        return jax.device_put(part.astype(dtype), device)
    shard = jax.jit(
        lambda: jnp.zeros(shape, dtype), out_shardings=jax.sharding.SingleDeviceSharding(device)
    )()
    for start, piece in _pieces(array, bounds, rows):
        shard = _put(shard, jax.device_put(piece, device), start)
    return shard


def _pieces(array: Any, bounds: list[tuple[int, int]], rows: int) -> Iterator[tuple[int, np.ndarray]]:
    """Layers with their index in the shard; the next are read while one is used."""
    (first, last), *rest = bounds
    starts = list(range(first, last, rows))
    slices = [(slice(i, min(i + rows, last)), *(slice(*b) for b in rest)) for i in starts]
    future = array[slices[0]].read()
    for i, start in enumerate(starts):
        piece = future.result()
        if i + 1 < len(slices):
            future = array[slices[i + 1]].read()
        yield start - first, piece


@functools.partial(jax.jit, donate_argnums=0)
def _put(shard: jax.Array, piece: jax.Array, start: int) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(shard, piece.astype(shard.dtype), start, axis=0)
