"""Shardings over a mesh of devices: mesh axes, rules for parameters, constraints for activations.

    data     shards the batch; parameters are replicated
    fsdp     shards the batch, too; parameters are sharded and gathered layer by layer
    context  shards tokens of the joint sequence, and rows of pixels in the codec
    tensor   shards heads and hidden units; between blocks, tokens of the joint sequence like `context`

A rule is a regular expression on a parameter's path and one mesh axis (or None) per dimension, from the
first. The first rule that matches applies. The network constrains its activations under `jax.set_mesh`;
without a mesh, constraints do nothing.
"""

import math
import operator
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gencompositor_jax.errors import InputError

AXES = ("data", "fsdp", "context", "tensor")
ROWS = ("data", "fsdp")  # axes that shard the batch
TOKENS = ("context", "tensor")  # axes that shard the joint sequence

Axis = str | tuple[str, ...] | None
Rule = tuple[str, Sequence[Axis]]

# Large kernels are sharded over fsdp and tensor, never along the axis of layers. `values`: kernels in 8 bits.
RULES: tuple[Rule, ...] = (
    (r"blocks/(cross_)?attention/(query|key|value)/kernel(/values)?$", (None, "fsdp", "tensor")),
    (r"blocks/(cross_)?attention/out/kernel(/values)?$", (None, "tensor", None, "fsdp")),
    (r"blocks/feed_forward/up/kernel(/values)?$", (None, "fsdp", "tensor")),
    (r"blocks/feed_forward/down/kernel(/values)?$", (None, "tensor", "fsdp")),
    (r"blocks/norm[12]/linear/kernel(/values)?$", (None, None, ("fsdp", "tensor"))),
    (r"residual/kernel$", (None, "fsdp", "tensor")),
    (r"patch_embed/text/kernel$", (None, "fsdp")),
    (r".*", ()),
)


def check_sizes(sizes: Mapping[str, int], where: str = "mesh.") -> None:
    """Raises InputError for an axis that meshes don't have, and for impossible sizes; see `make_mesh`."""
    if unknown := sorted(set(sizes) - set(AXES)):
        raise InputError(f"{where}{unknown[0]}: unknown axis; pass one of {', '.join(AXES)}")
    for axis, size in sizes.items():
        try:
            operator.index(size)
        except TypeError:
            kind = type(size).__name__
            raise InputError(f"{where}{axis}: {kind} where a number of devices is expected") from None
    if list(sizes.values()).count(-1) > 1 or any(size < 1 and size != -1 for size in sizes.values()):
        given = " x ".join(f"{axis} {size}" for axis, size in sizes.items())
        raise InputError(f"mesh: {given}; pass sizes of 1 or more, and -1 (all remaining) at most once")


def make_mesh(sizes: Mapping[str, int], devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of AXES over `devices`, by default all devices of all processes.

    sizes: devices along each axis, 1 if absent. One of them may be -1, for all remaining devices. Raises
    InputError if their product isn't the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    check_sizes(sizes)
    shape = {axis: int(sizes.get(axis, 1)) for axis in AXES}
    given = " x ".join(f"{axis} {size}" for axis, size in shape.items())
    free = [axis for axis, size in shape.items() if size == -1]
    known = math.prod(size for size in shape.values() if size != -1)
    if free:
        if len(devices) % known:
            raise InputError(f"mesh: {given} does not divide the {len(devices)} devices")
        shape[free[0]] = len(devices) // known
    elif known != len(devices):
        raise InputError(
            f"mesh: {given} needs {known} devices, there are {len(devices)}; "
            f"pass sizes whose product is {len(devices)}, or -1 for one of them"
        )
    sides = tuple(shape.values())
    types = (AxisType.Auto,) * len(AXES)
    return jax.make_mesh(sides, AXES, axis_types=types, devices=devices)


def spec_of(name: str, shape: Sequence[int], mesh: Mesh, rules: Sequence[Rule] = RULES) -> PartitionSpec:
    """Mesh axes of the first rule that matches a parameter's path.

    Raises InputError if no rule matches, or if the rule has too many dimensions, an unknown axis, or an axis
    whose size doesn't divide the dimension.
    """
    for pattern, axes in rules:
        if re.search(pattern, name) is None:
            continue
        if len(axes) > len(shape):
            raise InputError(f"sharding.rules: {pattern!r} has {len(axes)} axes, {name} has shape {shape}")
        for axis, size in zip(axes, shape, strict=False):
            parts = axis_size(mesh, axis)
            if size % parts:
                raise InputError(
                    f"sharding.rules: {pattern!r} shards {name} {tuple(shape)} over {axis!r}, and {parts} "
                    f"does not divide {size}; change the mesh, or add a rule for this parameter"
                )
        return PartitionSpec(*axes)
    raise InputError(f"sharding.rules: no rule matches {name}; end the list with ('.*', ())")


def axis_size(mesh: Any, axis: Axis) -> int:
    """Number of devices along one or several axes; 1 for None. Raises InputError for an unknown axis."""
    names = () if axis is None else (axis,) if isinstance(axis, str) else tuple(axis)
    if unknown := [n for n in names if n not in mesh.shape]:
        raise InputError(
            f"sharding.rules: the mesh has no axis {unknown[0]!r}; pass one of {', '.join(AXES)}"
        )
    return math.prod(mesh.shape[n] for n in names)


def shardings(tree: Any, mesh: Mesh, rules: Sequence[Rule] = RULES) -> Any:
    """A NamedSharding for each leaf (array or ShapeDtypeStruct) of a tree, by its path, such as a/b/c."""

    def one(path: Any, leaf: Any) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return NamedSharding(mesh, spec_of(name, leaf.shape, mesh, rules))

    return jax.tree_util.tree_map_with_path(one, tree)


def place(tree: Any, mesh: Mesh, rules: Sequence[Rule] = RULES) -> Any:
    """A tree of arrays on the devices of a mesh; what is there already isn't copied."""
    return jax.tree.map(jax.device_put, tree, shardings(tree, mesh, rules))


def replicated(mesh: Mesh) -> NamedSharding:
    """A full copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def by_rows(mesh: Mesh) -> NamedSharding:
    """Sharded along the first dimension, the batch."""
    return NamedSharding(mesh, PartitionSpec(ROWS))


def check_batch(batch_size: int, accumulate: int, mesh: Mesh) -> None:
    """Raises InputError unless the mesh divides each accumulated part of a batch."""
    parts = axis_size(mesh, ROWS) * accumulate
    if batch_size < 1 or batch_size % parts:
        raise InputError(
            f"batch_size={batch_size}: must be a multiple of {parts} (mesh.data {mesh.shape['data']} x "
            f"mesh.fsdp {mesh.shape['fsdp']} x optimizer.accumulate {accumulate})"
        )


def rows_here(mesh: Mesh, batch_size: int) -> list[int]:
    """Rows of a batch that this process's devices store, ascending.

    Processes that share the tokens or heads of a row store the same rows.
    """
    where = by_rows(mesh).addressable_devices_indices_map((batch_size,))
    return sorted(
        {row for index in where.values() for row in range(batch_size)[(index or (slice(None),))[0]]}
    )


def to_devices(batch: Mapping[str, np.ndarray], rows: Sequence[int], batch_size: int, mesh: Mesh) -> Any:
    """Global arrays [batch_size, ...] from this process's rows, arrays [len(rows), ...]."""
    first = {row: i for i, row in enumerate(rows)}

    def one(local: np.ndarray) -> jax.Array:
        def shard(index: tuple[slice, ...] | None) -> np.ndarray:
            wanted = range(batch_size)[(index or (slice(None),))[0]]
            return local[first[wanted[0]] : first[wanted[-1]] + 1]

        return jax.make_array_from_callback((batch_size, *local.shape[1:]), by_rows(mesh), shard)

    return {name: one(local) for name, local in batch.items()}


def platform() -> str:
    """Platform of the mesh in force, "cpu", "gpu" or "tpu", also of an abstract mesh.

    Without a mesh, JAX's default backend.
    """
    mesh = jax.sharding.get_abstract_mesh()
    device = None if mesh.empty else mesh.abstract_device
    if device is None:
        return jax.default_backend()
    kind = device.device_kind
    return "tpu" if kind.startswith("TPU") else "cpu" if kind == "cpu" else "gpu"


def padded_length(length: int) -> int:
    """`length` rounded up to a multiple that the mesh in force divides evenly over TOKENS."""
    parts = _current_size(TOKENS)
    return -(-length // parts) * parts


def constrain(x: jax.Array, *axes: Axis) -> jax.Array:
    """Constrains the sharding of `x`: one mesh axis (or None) per dimension, from the first.

    Without a mesh in force it returns `x`. A dimension that its axis doesn't divide is not sharded.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return x
    return jax.lax.with_sharding_constraint(x, fitting_spec(x.shape, *axes))


def fitting_spec(shape: Sequence[int], *axes: Axis) -> PartitionSpec:
    """The axes of the mesh in force that divide the dimensions which they are given for."""
    return PartitionSpec(
        *(a if size % _current_size(a) == 0 else None for a, size in zip(axes, shape, strict=False))
    )


def _current_size(axis: Axis) -> int:
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else axis_size(mesh, axis)
