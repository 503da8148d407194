"""Loading a checkpoint onto a mesh: each process reads the shares of its own devices, layer by layer.

A share is filled in place on its device, so that the host holds one layer of one array besides what is
already loaded. (Orbax reads whole shares at once, as many as fit its limit.) Arrays converted with
`--shard` lie in files of one share of one layer each: nothing is read twice.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping
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


def spread(arch: ModelArch, mesh: Mesh, prompts: Iterable[str] = ()) -> dict[str, Sharding]:
    """A sharding for every array by its path: cut over the whole mesh along `cut_axis`, or replicated."""

    def sharding(name: str, shape: tuple[int, ...]) -> Sharding:
        axis = checkpoints.cut_axis(name, shape, mesh.size)
        cut = () if axis is None else (None,) * axis + (mesh.axis_names,)
        return NamedSharding(mesh, PartitionSpec(*cut))

    leaves = checkpoints.named_leaves(checkpoints.array_shapes(arch, prompts))
    return {name: sharding(name, tuple(leaf.shape)) for name, leaf in leaves.items()}


def load_sharded(
    folder: str | Path, shardings: Mapping[str, Sharding], dtype: Any = None, verify: bool | None = None
) -> Model:
    """Reads a model onto devices.

    shardings: by the arrays' paths; `spread` makes one for a mesh. dtype: of floating-point arrays, None
    keeps what is stored. verify: as in `checkpoints.load`. Raises InputError with the list of what does
    not fit.
    """
    folder = Path(folder)
    facts, stored = checkpoints.checked(folder, verify)
    if missing := sorted(stored.keys() - shardings.keys()):
        raise InputError(f"shardings: missing {', '.join(missing)}")
    arrays: dict[str, Any] = {"codec": {}}
    for name in stored:
        *above, last = name.split("/")
        node = arrays
        for part in above:
            node = node.setdefault(part, {})
        node[last] = read_sharded(open_array(folder / "arrays", name), shardings[name], dtype)
    prompts = arrays.pop("prompts", {})
    return Model(facts.arch, arrays, facts.provenance, prompts)


def open_array(folder: Path, name: str) -> Any:
    """An array of a checkpoint's `arrays` folder as a TensorStore, whose parts can be read one by one."""
    flat = name.replace("/", ".")
    if (folder / flat / ".zarray").is_file():
        kvstore: dict[str, Any] = {"driver": "file", "path": f"{(folder / flat).resolve()}/"}
    else:
        kvstore = {"driver": "ocdbt", "base": f"file://{folder.resolve()}/", "path": f"{flat}/"}
    return tensorstore.open({"driver": "zarr", "kvstore": kvstore}, read=True, open=True).result()


def read_sharded(array: Any, sharding: Sharding, dtype: Any = None) -> jax.Array:
    """An opened array as a global jax.Array; this process reads what its devices hold."""
    stored = jnp.dtype(array.dtype.numpy_dtype)
    kind = stored if dtype is None or not jnp.issubdtype(stored, jnp.floating) else jnp.dtype(dtype)
    shape = tuple(array.shape)
    where = sharding.addressable_devices_indices_map(shape)
    shares: dict[str, jax.Array] = {}  # by what they hold: equal ones are read once
    parts = []
    for device, index in where.items():
        index = index or ()
        known = shares.get(str(index))
        if known is None:
            known = shares[str(index)] = _read_share(array, index, kind, device)
        parts.append(known if device in known.devices() else jax.device_put(known, device))
    return jax.make_array_from_single_device_arrays(shape, sharding, parts)


def _read_share(array: Any, index: tuple[slice, ...], dtype: Any, device: Any) -> jax.Array:
    """One device's share, filled layer by layer as they lie in files."""
    bounds = [s.indices(n)[:2] for s, n in zip(index, array.shape, strict=False)]
    bounds += [(0, n) for n in array.shape[len(bounds) :]]
    shape = tuple(high - low for low, high in bounds)
    rows = array.chunk_layout.read_chunk.shape[0] if shape else 0
    if not shape or rows >= shape[0]:
        part = array[tuple(slice(*b) for b in bounds)].read().result()
        return jax.device_put(part.astype(dtype), device)
    share = jax.jit(
        lambda: jnp.zeros(shape, dtype), out_shardings=jax.sharding.SingleDeviceSharding(device)
    )()
    for start, piece in _pieces(array, bounds, rows):
        share = _put(share, jax.device_put(piece, device), start)
    return share


def _pieces(array: Any, bounds: list[tuple[int, int]], rows: int) -> Iterator[tuple[int, np.ndarray]]:
    """Layers with their place in the share; the next is read while one is used."""
    (first, last), *rest = bounds
    starts = list(range(first, last, rows))
    cuts = [(slice(i, min(i + rows, last)), *(slice(*b) for b in rest)) for i in starts]
    future = array[cuts[0]].read()
    for i, start in enumerate(starts):
        piece = future.result()
        if i + 1 < len(cuts):
            future = array[cuts[i + 1]].read()
        yield start - first, piece


@functools.partial(jax.jit, donate_argnums=0)
def _put(share: jax.Array, piece: jax.Array, start: int) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(share, piece.astype(share.dtype), start, axis=0)
