"""The mesh that sampling runs on: clips over `data`, heads over `tensor`, tokens over `context`."""

import math
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from gencompositor_jax import sharding
from gencompositor_jax.arch import ModelArch
from gencompositor_jax.errors import InputError


def default_sizes(arch: ModelArch, clips: int, devices: int) -> dict[str, int]:
    """Devices along each axis for so many clips at once, all devices together.

    Clips over `data`, heads and hidden units over `tensor` as far as the number of heads allows, tokens over
    `context` for the remaining devices.
    """
    data = math.gcd(clips, devices)
    tensor = math.gcd(_heads(arch), devices // data)
    return {"data": data, "tensor": tensor, "context": devices // data // tensor}


def sampling_mesh(arch: ModelArch, sizes: Mapping[str, int] | None = None, clips: int = 1) -> Mesh:
    """A mesh over this process's devices, or over the one of `jax.default_device` if it is set.

    sizes: by axis, as in `sharding.make_mesh`; None is `default_sizes`. Fewer than all devices are the first
    ones. Raises InputError where they don't divide the devices or the network's heads.
    """
    devices = local_devices()
    if sizes is None:
        return sharding.make_mesh(default_sizes(arch, clips, len(devices)), devices)
    if not isinstance(sizes, Mapping):
        raise InputError(f"mesh: {type(sizes).__name__} where sizes by axis are expected, such as data=2")
    sharding.check_sizes(sizes)
    known = math.prod(int(size) for size in sizes.values())
    fewer = 0 < known < len(devices) and len(devices) % known == 0
    mesh = sharding.make_mesh(sizes, devices[:known] if fewer else devices)
    check_heads(arch, mesh)
    return mesh


def equal_meshes(sizes: Mapping[str, int]) -> list[Mesh]:
    """Meshes of one shape that together take all devices of this process, for as many clips at once.

    Raises InputError where the devices can't be divided into such meshes.
    """
    devices, each = local_devices(), math.prod(int(size) for size in sizes.values())
    if each < 1 or len(devices) % each:
        raise InputError(f"mesh: {each} devices each can't share {len(devices)} devices; pass a divisor")
    groups = [devices[first : first + each] for first in range(0, len(devices), each)]
    return [sharding.make_mesh(sizes, group) for group in groups]


def check_heads(arch: ModelArch, mesh: Mesh) -> None:
    """Raises InputError unless `tensor` divides the network's heads. Tokens are padded, so any `context` will
    do.
    """
    heads, size = _heads(arch), mesh.shape["tensor"]
    if heads % size:
        fitting = ", ".join(str(n) for n in range(1, heads + 1) if heads % n == 0)
        raise InputError(
            f"mesh: tensor {size} does not divide the network's {heads} heads; pass one of {fitting}, and "
            "context for more devices"
        )


def local_devices() -> list[Any]:
    """The devices that sampling may use."""
    chosen = getattr(jax.config, "jax_default_device", None)
    return jax.local_devices() if chosen is None or isinstance(chosen, str) else [chosen]


def _heads(arch: ModelArch) -> int:
    return math.gcd(*(stack.num_heads for stack in arch.stacks.values()))
