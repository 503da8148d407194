"""Clocks, memory, and what a figure was measured on."""

import os
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax

from gencompositor_jax.inference import programs


class Stopwatch:
    """Runs jitted functions (an `programs.Run`), each compiled ahead, and notes how long both take."""

    def __init__(self) -> None:
        self.compiling: dict[str, dict[str, float]] = {}  # seconds by function: lower, compile
        self.running: dict[str, list[float]] = {}  # seconds of each call
        self._compiled: dict[str, jax.stages.Compiled] = {}

    def __call__(self, program: Any, *args: Any, **static: Any) -> Any:
        """The program's answer, once it is there."""
        key = programs.signature(program, args, static).key
        if key not in self._compiled:
            self._compiled[key] = self.compile(program, *args, **static)
        began = time.perf_counter()
        answer = jax.block_until_ready(self._compiled[key](*args))
        self.running.setdefault(program.__name__, []).append(time.perf_counter() - began)
        return answer

    def compile(self, program: Any, *args: Any, **static: Any) -> jax.stages.Compiled:
        """Compiles without running; arguments may be jax.ShapeDtypeStruct."""
        began = time.perf_counter()
        lowered = program.lower(*args, **static)
        between = time.perf_counter()
        compiled = lowered.compile()
        spent = self.compiling.setdefault(program.__name__, {"lower": 0.0, "compile": 0.0})
        spent["lower"] += between - began
        spent["compile"] += time.perf_counter() - between
        return compiled

    def forget(self) -> None:
        """Drops what was measured of running, such as a first round."""
        self.running.clear()


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median and least of several measurements."""
    return {"median": statistics.median(seconds), "min": min(seconds)}


def peak_memory(device: jax.Device) -> tuple[int, str]:
    """The most bytes that were in use at once so far, and of what: the device's, or this process's."""
    stats = device.memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"]), "device memory, as JAX's allocator counts it"
    return _peak_resident(), "the process's resident memory: this device doesn't count its own"


def memory_limit(device: jax.Device) -> int | None:
    """Bytes that JAX may use of a device; None where it doesn't say."""
    limit = (device.memory_stats() or {}).get("bytes_limit")
    return None if limit is None else int(limit)


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
    import resource  # not on Windows, which has no JAX for GPUs either

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
