"""Peak rates and memory of accelerators: the one table that MFU and plans read.

FLOP/s are dense bfloat16 products; where a data sheet gives the rate with sparsity, half of it.
"""

import dataclasses
import re

import jax.numpy as jnp
from jax.typing import DTypeLike

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """Peak rates of one device. None where a figure isn't known."""

    name: str
    kind: str  # pattern of JAX's `device_kind`
    flops: float | None = None  # per second, dense bfloat16 products
    bandwidth: float | None = None  # bytes per second of main memory, read or written
    links: float | None = None  # bytes per second that a collective sends
    memory: int | None = None  # bytes that a program may use; GPUs report it at run time
    unit: int = 16  # side of a matrix unit; products with a smaller side leave part of it idle
    float32_passes: float = 15  # time of a float32 product over that of a bfloat16 one
    source: str = "the data sheet"


def _tpu(
    name: str, kind: str, flops: float, gib: float, bandwidth: float, ici: float, axes: int, unit: int
) -> Chip:
    """ici: bytes per second that a chip sends over all links; a collective uses one of the torus's axes."""
    source = f"docs.cloud.google.com/tpu/docs/{name}"
    return Chip(f"TPU {name}", kind, flops, bandwidth, ici / axes, int(gib * GIB), unit, 6, source)


# docs.cloud.google.com/tpu/docs, read in 2026. Memory is what XLA:TPU lets a program use ("exceeds available
# HBM (31.25G)"); the rest is the system's.
TPUS = {
    "v4": Chip("TPU v4", r"^TPU v4$", 275e12, source="docs.cloud.google.com/tpu/docs/v4"),
    "v5e": _tpu("v5e", r"^TPU v5( lite|e)$", 197e12, 15.75, 819e9, 200e9, axes=2, unit=128),
    "v5p": _tpu("v5p", r"^TPU v5p?$", 459e12, 95.74, 2765e9, 600e9, axes=3, unit=128),
    "v6e": _tpu("v6e", r"^TPU v6( lite|e)$", 918e12, 31.25, 1640e9, 400e9, axes=2, unit=256),
}

# NVIDIA's data sheets of A100 (2021), H100 and L4 (2023), H200 and GH200 (2024), and the Blackwell
# architecture brief (2024). NVLink's figure is for both directions: half of it is sent. Without NVLink: 16
# lanes of PCIe 4. The first pattern that matches counts.
GPUS = (
    Chip("part of a GPU", r"\bMIG\b"),  # its fraction of the GPU isn't in its name
    Chip("A100 80GB", r"\bA100\b.*80GB", 312e12, 2.04e12, 300e9),
    Chip("A100 40GB", r"\bA100\b", 312e12, 1.56e12, 300e9),
    Chip("H200 NVL", r"\bH200 NVL\b", 835.5e12, 4.8e12, 450e9),
    Chip("H100 NVL", r"\bH100 NVL\b", 835.5e12, 3.9e12, 300e9),
    Chip("H100 PCIe", r"\bH100 PCIe\b", 756e12, 2.0e12, 32e9),
    Chip("H200", r"\bH200\b", 989.4e12, 4.8e12, 450e9),
    Chip("GH200", r"\bGH200\b", 989.4e12, 4.0e12, 450e9),
    Chip("H100", r"\bH100\b", 989.4e12, 3.35e12, 450e9),
    Chip("GB200", r"\bGB200\b", 2500e12, 8.0e12, 900e9),
    Chip("B200", r"\bB200\b", 2250e12, 8.0e12, 900e9),
    Chip("L4", r"\bL4\b", 121e12, 300e9, 32e9),
)


def find(device_kind: str) -> Chip | None:
    """The chip of `jax.devices()[0].device_kind`; None for CPUs and chips that aren't in the table."""
    chips = (*TPUS.values(), *GPUS)
    return next((chip for chip in chips if re.search(chip.kind, device_kind)), None)


def peak_flops(device_kind: str, dtype: DTypeLike = jnp.bfloat16) -> float | None:
    """Peak FLOP/s of a device in dense bfloat16 or float16 products; None for other types and chips."""
    chip = find(device_kind)
    return chip.flops if chip and jnp.dtype(dtype) in (jnp.bfloat16, jnp.float16) else None
