"""Where arrays lie on a mesh of devices: its axes, rules for parameters, constraints for activations.

    data     rows of the batch; parameters are copies
    fsdp     rows of the batch as well; parameters are cut, and gathered layer by layer when they are needed
    context  tokens of the joint sequence, rows of pixels in the codec
    tensor   heads and hidden units; between the blocks, tokens of the joint sequence like `context`

A rule is a regular expression on a parameter's path and one mesh axis (or None) for each of its dimensions,
from the first; the first rule that matches decides. Activations are constrained in the network itself, under
`jax.set_mesh`; without a mesh nothing happens.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gencompositor_jax.errors import InputError

AXES = ("data", "fsdp", "context", "tensor")
ROWS = ("data", "fsdp")  # axes that the batch is cut over
TOKENS = ("context", "tensor")  # axes that the joint sequence is cut over

Axis = str | tuple[str, ...] | None
Rule = tuple[str, Sequence[Axis]]

# Every large kernel is cut over fsdp and tensor (never along the axis of its layers).
RULES: tuple[Rule, ...] = (
    (r"blocks/attention/(query|key|value)/kernel$", (None, "fsdp", "tensor")),
    (r"blocks/attention/out/kernel$", (None, "tensor", None, "fsdp")),
    (r"blocks/feed_forward/up/kernel$", (None, "fsdp", "tensor")),
    (r"blocks/feed_forward/down/kernel$", (None, "tensor", "fsdp")),
    (r"blocks/norm[12]/linear/kernel$", (None, None, ("fsdp", "tensor"))),
    (r"residual/kernel$", (None, "fsdp", "tensor")),
    (r"patch_embed/text/kernel$", (None, "fsdp")),
    (r".*", ()),
)


def make_mesh(sizes: Mapping[str, int], devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of AXES over all devices of all processes (or those given).

    sizes: devices along each axis, 1 where absent; one of them may be -1, for all that are left. Raises
    InputError where they don't multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    if unknown := sorted(set(sizes) - set(AXES)):
        raise InputError(f"mesh.{unknown[0]}: unknown axis; known are {', '.join(AXES)}")
    shape = {axis: int(sizes.get(axis, 1)) for axis in AXES}
    told = " x ".join(f"{axis} {size}" for axis, size in shape.items())
    free = [axis for axis, size in shape.items() if size == -1]
    if len(free) > 1 or any(size < 1 and size != -1 for size in shape.values()):
        raise InputError(f"mesh: {told}; pass sizes of 1 or more, and -1 (all that are left) at most once")
    known = math.prod(size for size in shape.values() if size != -1)
    if free:
        if len(devices) % known:
            raise InputError(f"mesh: {told} does not divide the {len(devices)} devices that are there")
        shape[free[0]] = len(devices) // known
    elif known != len(devices):
        raise InputError(
            f"mesh: {told} needs {known} devices, {len(devices)} are there; "
            "pass sizes that multiply to them, or -1 for one of them"
        )
    sides = tuple(shape.values())
    types = (AxisType.Auto,) * len(AXES)
    return jax.make_mesh(sides, AXES, axis_types=types, devices=devices)


def spec_of(name: str, shape: Sequence[int], mesh: Mesh, rules: Sequence[Rule] = RULES) -> PartitionSpec:
    """The first matching rule's axes for a parameter of that path.

    Raises InputError where none matches, where it names more dimensions than there are, an axis that is none,
    or one whose size does not divide the dimension.
    """
    for pattern, axes in rules:
        if re.search(pattern, name) is None:
            continue
        if len(axes) > len(shape):
            raise InputError(f"sharding.rules: {pattern!r} names {len(axes)} dimensions, {name} has {shape}")
        for axis, size in zip(axes, shape, strict=False):
            parts = axis_size(mesh, axis)
            if size % parts:
                raise InputError(
                    f"sharding.rules: {pattern!r} cuts {name} {tuple(shape)} along {axis!r}, and {parts} "
                    f"does not divide {size}; change the mesh, or give this parameter a rule of its own"
                )
        return PartitionSpec(*axes)
    raise InputError(f"sharding.rules: none matches {name}; end the list with ('.*', ())")


def axis_size(mesh: Any, axis: Axis) -> int:
    """Devices along an axis, or along several together; 1 for None. Raises InputError for an unknown one."""
    names = () if axis is None else (axis,) if isinstance(axis, str) else tuple(axis)
    if unknown := [n for n in names if n not in mesh.shape]:
        raise InputError(
            f"sharding.rules: {unknown[0]!r} is no axis of the mesh; known are {', '.join(AXES)}"
        )
    return math.prod(mesh.shape[n] for n in names)


def shardings(tree: Any, mesh: Mesh, rules: Sequence[Rule] = RULES) -> Any:
    """A NamedSharding for each leaf (array or ShapeDtypeStruct) of a tree, by its path a/b/c."""

    def one(path: Any, leaf: Any) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return NamedSharding(mesh, spec_of(name, leaf.shape, mesh, rules))

    return jax.tree_util.tree_map_with_path(one, tree)


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def by_rows(mesh: Mesh) -> NamedSharding:
    """Cut along the first axis, the batch's."""
    return NamedSharding(mesh, PartitionSpec(ROWS))


def check_batch(batch_size: int, accumulate: int, mesh: Mesh) -> None:
    """Raises InputError unless each accumulated part of a batch can be cut over the mesh."""
    parts = axis_size(mesh, ROWS) * accumulate
    if batch_size < 1 or batch_size % parts:
        raise InputError(
            f"batch_size={batch_size}: must be a multiple of {parts} (mesh.data {mesh.shape['data']} x "
            f"mesh.fsdp {mesh.shape['fsdp']} x optimizer.accumulate {accumulate})"
        )


def rows_here(mesh: Mesh, batch_size: int) -> list[int]:
    """The rows of a batch that this process's devices hold, in order.

    Where the mesh cuts tokens or heads over several processes, these hold the same rows.
    """
    where = by_rows(mesh).addressable_devices_indices_map((batch_size,))
    return sorted(
        {row for index in where.values() for row in range(batch_size)[(index or (slice(None),))[0]]}
    )


def to_devices(batch: Mapping[str, np.ndarray], rows: Sequence[int], batch_size: int, mesh: Mesh) -> Any:
    """This process's rows of a batch (arrays [len(rows), ...]) as global arrays [batch_size, ...]."""
    first = {row: i for i, row in enumerate(rows)}

    def one(local: np.ndarray) -> jax.Array:
        def share(index: tuple[slice, ...] | None) -> np.ndarray:
            wanted = range(batch_size)[(index or (slice(None),))[0]]
            return local[first[wanted[0]] : first[wanted[-1]] + 1]

        return jax.make_array_from_callback((batch_size, *local.shape[1:]), by_rows(mesh), share)

    return {name: one(local) for name, local in batch.items()}


def platform() -> str:
    """What the mesh in force is made of, "cpu", "gpu" or "tpu", be its devices here or only described.

    Without a mesh, JAX's default.
    """
    mesh = jax.sharding.get_abstract_mesh()
    device = None if mesh.empty else mesh.abstract_device
    if device is None:
        return jax.default_backend()
    kind = device.device_kind
    return "tpu" if kind.startswith("TPU") else "cpu" if kind == "cpu" else "gpu"


def padded_length(length: int) -> int:
    """The next length from `length` up that the mesh in force can cut into equal parts along TOKENS."""
    parts = _current_size(TOKENS)
    return -(-length // parts) * parts


def constrain(x: jax.Array, *axes: Axis) -> jax.Array:
    """Asks XLA to lay `x` out along mesh axes, one entry per dimension from the first.

    Without a mesh in force `x` comes back as it is; a dimension that an axis doesn't divide stays whole.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return x
    fitting = [a if size % _current_size(a) == 0 else None for a, size in zip(axes, x.shape, strict=False)]
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*fitting))


def _current_size(axis: Axis) -> int:
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else axis_size(mesh, axis)
