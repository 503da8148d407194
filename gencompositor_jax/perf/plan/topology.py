"""Devices to compile for: TPU chips that need not be present, virtual CPU devices, or this machine's GPUs.

XLA:TPU comes with libtpu, which compiles on any x86 machine: `pip install 'gencompositor-jax[tpu-aot]'`.
"""

import contextlib
import dataclasses
import importlib.util
import math
import os
import re
import time
from typing import Any

import jax
import jax.numpy as jnp

from gencompositor_jax import libtpu
from gencompositor_jax.errors import InputError
from gencompositor_jax.perf import hardware
from gencompositor_jax.perf.hardware import Chip

_TPU = re.compile(r"(v5e|v5p|v6e):(\d+x\d+(?:x\d+)?)")
_EXAMPLES = "v5e:2x2, v5p:4x4x4, v6e:1x1, cpu:8 or gpu"

# Or libtpu queries the cloud's metadata server, can't be loaded by two processes at once, and logs warnings.
_LIBTPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
    **libtpu.HOST,
}


@dataclasses.dataclass(frozen=True)
class Target:
    """Devices of one kind that a program is compiled for."""

    name: str  # as given to `find`
    chip: Chip
    devices: tuple[Any, ...]


def find(name: str) -> Target:
    """The devices of a name: v5e:2x2, v5p:4x4x4, v6e:2x4, cpu:8, gpu.

    Call it before JAX is used: it selects the process's backend. Raises InputError for an unknown name, if
    libtpu isn't installed, and if the devices aren't available.
    """
    if found := _TPU.fullmatch(name):
        return Target(name, hardware.TPUS[found[1]], _tpus(found[1], found[2]))
    if found := re.fullmatch(r"cpu:([1-9]\d{0,3})", name):
        devices = _cpus(int(found[1]))
        return Target(name, _cpu(len(devices)), devices)
    if name == "gpu":
        devices = _gpus()
        return Target(name, _gpu(devices[0]), devices)
    raise InputError(f"--topology {name}: unknown; pass chips and their grid such as {_EXAMPLES}")


def _tpus(chip: str, grid: str) -> tuple[Any, ...]:
    from jax.experimental import topologies

    with contextlib.suppress(RuntimeError):  # a backend is initialised already; any will do
        jax.config.update("jax_platforms", "cpu")
    if importlib.util.find_spec("libtpu") is None:
        raise InputError(
            f"--topology {chip}:{grid}: compiling for TPUs needs libtpu; "
            "pip install 'gencompositor-jax[tpu-aot]'"
        )
    sides = [int(side) for side in grid.split("x")]
    single: dict[str, Any] = {"chips_per_host_bounds": (1, 1, 1)} if math.prod(sides) == 1 else {}
    for key, value in _LIBTPU.items():
        os.environ.setdefault(key, value)
    try:
        topology = topologies.get_topology_desc(platform="tpu", topology_name=f"{chip}:{grid}", **single)
    except Exception as error:  # of several types, by version
        raise InputError(
            f"--topology {chip}:{grid}: libtpu doesn't know it ({str(error).splitlines()[0]})"
        ) from error
    return tuple(topology.devices)


def _cpus(count: int) -> tuple[Any, ...]:
    with contextlib.suppress(RuntimeError):  # a backend is initialised already; it may have enough devices
        jax.config.update("jax_platforms", "cpu")
        if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
            jax.config.update("jax_num_cpu_devices", count)
    devices = jax.devices("cpu")
    if len(devices) < count:
        raise InputError(
            f"--topology cpu:{count}: JAX has started with {len(devices)} CPU devices in this process; "
            "plan in a process of its own"
        )
    return tuple(devices[:count])


def _cpu(count: int) -> Chip:
    """One of `count` virtual devices that share this machine, at the speed measured now."""
    memory = None
    with contextlib.suppress(ValueError, OSError, AttributeError):  # not on every system
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // count
    x = jnp.ones((2048, 2048), jnp.float32)
    product, copy = jax.jit(jnp.dot), jax.jit(lambda x: x + 1)
    rate = 2 * len(x) ** 3 / _seconds(product, x, x) / count
    bandwidth = 2 * x.nbytes / _seconds(copy, x) / count
    source = "measured here, in float32"
    return Chip("CPU", "cpu", rate, bandwidth, bandwidth, memory, unit=1, float32_passes=1, source=source)


def _seconds(function: Any, *given: jax.Array) -> float:
    """The shortest of three runs, after one that compiles."""
    jax.block_until_ready(function(*given))
    times = []
    for _ in range(3):
        began = time.perf_counter()
        jax.block_until_ready(function(*given))
        times.append(time.perf_counter() - began)
    return max(min(times), 1e-9)


def _gpus() -> tuple[Any, ...]:
    try:
        return tuple(jax.devices("gpu"))
    except RuntimeError as error:
        raise InputError(
            f"--topology gpu: JAX finds no GPU here; on a machine with one, install "
            f"'gencompositor-jax[cuda]', or plan for {_EXAMPLES.removesuffix(' or gpu')}"
        ) from error


def _gpu(device: Any) -> Chip:
    kind = device.device_kind
    memory = (device.memory_stats() or {}).get("bytes_limit")
    return dataclasses.replace(hardware.find(kind) or Chip(kind, kind), name=kind, memory=memory)
