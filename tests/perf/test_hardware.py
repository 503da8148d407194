"""The table of accelerators: which row a device kind finds."""

import jax.numpy as jnp
import pytest

from gencompositor_jax.perf import hardware


@pytest.mark.parametrize(
    ("kind", "tera"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835.5),
        ("NVIDIA H200", 989.4),
        ("NVIDIA H200 NVL", 835.5),
        ("NVIDIA GH200 480GB", 989.4),
        ("NVIDIA B200", 2250),
        ("NVIDIA GB200", 2500),
        ("NVIDIA L4", 121),
        ("TPU v4", 275),
        ("TPU v5 lite", 197),
        ("TPU v5e", 197),
        ("TPU v5", 459),
        ("TPU v5p", 459),
        ("TPU v6 lite", 918),
        ("TPU v6e", 918),
    ],
)
def test_peaks_by_device(kind, tera):
    assert hardware.peak_flops(kind) == tera * 1e12
    assert hardware.peak_flops(kind, jnp.float16) == tera * 1e12
    assert hardware.peak_flops(kind, jnp.float32) is None


@pytest.mark.parametrize(
    "kind", ["cpu", "NVIDIA L40S", "NVIDIA H200 MIG 1g.18gb", "NVIDIA GeForce RTX 4090", "TPU v4 lite", ""]
)
def test_unknown_devices_have_no_peak(kind):
    assert hardware.peak_flops(kind) is None


@pytest.mark.parametrize(
    ("kind", "bandwidth", "links"),
    [
        ("NVIDIA A100-SXM4-80GB", 2.04e12, 300e9),
        ("NVIDIA A100-SXM4-40GB", 1.56e12, 300e9),
        ("NVIDIA H100 80GB HBM3", 3.35e12, 450e9),
        ("NVIDIA H100 NVL", 3.9e12, 300e9),
        ("NVIDIA H100 PCIe", 2.0e12, 32e9),
        ("NVIDIA H200 NVL", 4.8e12, 450e9),
        ("NVIDIA GB200", 8.0e12, 900e9),
        ("NVIDIA L4", 300e9, 32e9),
        ("TPU v5 lite", 819e9, 100e9),
        ("TPU v5", 2765e9, 200e9),
        ("TPU v6 lite", 1640e9, 200e9),
    ],
)
def test_bandwidths_by_device(kind, bandwidth, links):
    chip = hardware.find(kind)
    assert (chip.bandwidth, chip.links) == (bandwidth, links)


def test_every_chip_that_plans_are_made_for_has_all_figures():
    for name in ("v5e", "v5p", "v6e"):
        chip = hardware.TPUS[name]
        assert None not in (chip.flops, chip.bandwidth, chip.links, chip.memory)
