"""Devices to compile for: TPU chips that need not exist, virtual CPU devices, or this machine's GPUs.

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

from gencompositor_jax.errors import InputError
from gencompositor_jax.perf import flops

GIB = 2**30
_TPU = re.compile(r"(v5e|v5p|v6e):(\d+x\d+(?:x\d+)?)")
_EXAMPLES = "v5e:2x2, v5p:4x4x4, v6e:1x1, cpu:8 or gpu"


@dataclasses.dataclass(frozen=True)
class Chip:
    """What one device can do at most."""

    name: str
    memory: int | None  # bytes that a program may use; None where the machine doesn't say
    flops: float | None  # per second, dense products of bfloat16; None where it isn't known
    bandwidth: float | None  # bytes per second of its main memory
    links: float | None  # bytes per second that a collective sends: both ways along one axis of a torus
    unit: int  # side of a matrix unit; products with a smaller side leave part of it idle
    float32_passes: float  # a product of float32 takes as long as so many of bfloat16
    source: str


# Memory: what XLA:TPU says programs may use ("exceeds available HBM (31.25G)"); the rest is the system's.
# Peaks, bandwidths and interconnect: the pages named, read in 2026. A collective is taken to use the links of
# one axis of the torus: the chip's one-way figure divided by its axes.
TPUS = {
    "v5e": Chip(
        "TPU v5e", int(15.75 * GIB), 197e12, 819e9, 200e9 / 2, 128, 6, "docs.cloud.google.com/tpu/docs/v5e"
    ),
    "v5p": Chip(
        "TPU v5p", int(95.74 * GIB), 459e12, 2765e9, 600e9 / 3, 128, 6, "docs.cloud.google.com/tpu/docs/v5p"
    ),
    "v6e": Chip(
        "TPU v6e", int(31.25 * GIB), 918e12, 1640e9, 400e9 / 2, 256, 6, "docs.cloud.google.com/tpu/docs/v6e"
    ),
}

# libtpu would ask the cloud's metadata server where it is, refuse to be loaded by two processes, and grumble.
_LIBTPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5e-4",  # any will do
}

# Main memory and NVLink, bytes per second, by a pattern of JAX's device kind: NVIDIA's data sheets of A100
# (2021), H100 (2023), H200 (2024), L4 (2023) and B200 (2024). NVLink's figure is both ways: half of it is
# sent. Without NVLink: PCIe 4 x16.
_GPUS: tuple[tuple[str, float, float], ...] = (
    (r"A100.*80GB", 2.04e12, 300e9),
    (r"A100", 1.56e12, 300e9),
    (r"(H200|GH200)", 4.8e12, 450e9),
    (r"H100 PCIe", 2.0e12, 32e9),
    (r"H100", 3.35e12, 450e9),
    (r"B200", 8.0e12, 900e9),
    (r"\bL4\b", 300e9, 32e9),
)


@dataclasses.dataclass(frozen=True)
class Target:
    """Devices of one kind that a program is compiled for."""

    name: str  # as it was asked for
    chip: Chip
    devices: tuple[Any, ...]


def find(name: str) -> Target:
    """The devices that a name stands for: v5e:2x2, v5p:4x4x4, v6e:2x4, cpu:8, gpu.

    Call it before JAX is used: it decides which backend the process has. Raises InputError for a name that is
    none, where libtpu isn't installed, and where the devices can't be had.
    """
    if found := _TPU.fullmatch(name):
        return Target(name, TPUS[found[1]], _tpus(found[1], found[2]))
    if found := re.fullmatch(r"cpu:([1-9]\d{0,3})", name):
        devices = _cpus(int(found[1]))
        return Target(name, _cpu(len(devices)), devices)
    if name == "gpu":
        devices = _gpus()
        return Target(name, _gpu(devices[0]), devices)
    raise InputError(f"--topology {name}: unknown; pass chips and their grid such as {_EXAMPLES}")


def _tpus(chip: str, grid: str) -> tuple[Any, ...]:
    from jax.experimental import topologies

    with contextlib.suppress(RuntimeError):  # a backend is there already, any will do
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
    with contextlib.suppress(RuntimeError):  # a backend is there already; it may have enough
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
    """One of `count` virtual devices that share this machine, as fast as it multiplies and copies now."""
    memory = None
    with contextlib.suppress(ValueError, OSError, AttributeError):  # not every system says
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // count
    x = jnp.ones((2048, 2048), jnp.float32)
    product, copy = jax.jit(jnp.dot), jax.jit(lambda x: x + 1)
    rate = 2 * len(x) ** 3 / _seconds(product, x, x) / count
    bandwidth = 2 * x.nbytes / _seconds(copy, x) / count
    return Chip("CPU", memory, rate, bandwidth, bandwidth, 1, 1, "measured here, in float32")


def _seconds(function: Any, *given: jax.Array) -> float:
    """The shortest of a few runs."""
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
    bandwidth, links = next(((b, n) for pattern, b, n in _GPUS if re.search(pattern, kind)), (None, None))
    memory = (device.memory_stats() or {}).get("bytes_limit")
    return Chip(kind, memory, flops.peak(kind), bandwidth, links, 16, 15, "the data sheet")
