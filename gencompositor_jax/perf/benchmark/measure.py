"""Clocks, memory, utilisation, and a description of the machine."""

import os
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
from jax.typing import DTypeLike

from gencompositor_jax.inference import programs
from gencompositor_jax.perf import hardware


class Stopwatch:
    """Compiles jitted functions ahead, runs them (as a `programs.Run`), and records the time of both."""

    def __init__(self) -> None:
        self.compiling: dict[str, dict[str, float]] = {}  # seconds by function: lower, compile
        self.running: dict[str, list[float]] = {}  # seconds of each call
        self._compiled: dict[str, jax.stages.Compiled] = {}

    def __call__(self, program: Any, *args: Any, **static: Any) -> Any:
        """The program's result, when it is ready."""
        key = programs.signature(program, args, static).key
        if key not in self._compiled:
            self._compiled[key] = self.compile(program, *args, **static)
        began = time.perf_counter()
        result = jax.block_until_ready(self._compiled[key](*args))
        self.running.setdefault(program.__name__, []).append(time.perf_counter() - began)
        return result

    def compile(self, program: Any, *args: Any, **static: Any) -> jax.stages.Compiled:
        """Compile without running; arguments may be jax.ShapeDtypeStruct."""
        began = time.perf_counter()
        lowered = program.lower(*args, **static)
        between = time.perf_counter()
        compiled = lowered.compile()
        spent = self.compiling.setdefault(program.__name__, {"lower": 0.0, "compile": 0.0})
        spent["lower"] += between - began
        spent["compile"] += time.perf_counter() - between
        return compiled

    def forget(self) -> None:
        """Drop the times of runs, such as a warm-up's."""
        self.running.clear()


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median and minimum of several measurements."""
    return {"median": statistics.median(seconds), "min": min(seconds)}


def peak_memory(device: jax.Device) -> tuple[int, str]:
    """Peak bytes in use so far, and of which memory: the device's, or this process's."""
    stats = device.memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"]), "device memory, by JAX's allocator"
    return _peak_resident(), "the process's resident memory: this device reports none"


def memory_limit(device: jax.Device) -> int | None:
    """Bytes that JAX may use of a device; None if it doesn't report them."""
    limit = (device.memory_stats() or {}).get("bytes_limit")
    return None if limit is None else int(limit)


def utilisation(flops: float, step_seconds: float, device: jax.Device, dtype: DTypeLike) -> dict[str, Any]:
    """Rate and MFU of a step of so many FLOPs, and the peak memory so far, as entries of a report."""
    peak = hardware.peak_flops(device.device_kind, dtype)
    peak_bytes, of = peak_memory(device)
    return {
        "flops_per_step": flops,
        "flops_per_second": flops / step_seconds,
        "peak_flops_per_second": peak,
        "mfu": None if peak is None else flops / step_seconds / peak,
        "peak_bytes": peak_bytes,
        "peak_bytes_of": of,
    }


def machine(device: jax.Device) -> dict[str, Any]:
    """The devices and the host."""
    limit = memory_limit(device)
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "platform_version": " ".join(device.client.platform_version.split()),
        "devices_there": jax.device_count(),
        "device_memory_bytes": limit,
        "host_cores": os.cpu_count(),
    }


def _peak_resident() -> int:
    import resource  # POSIX only, like JAX for GPUs

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
