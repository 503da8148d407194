"""What fits on TPUs at full size, by `gencompositor plan` without a TPU.

Skipped where libtpu isn't available: on anything but Linux on x86.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.multiprocess,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None, reason="pip install 'gencompositor-jax[tpu-aot]'"
    ),
]
CONFIG = Path(__file__).parents[3] / "configs" / "gencompositor_6b.py"
GIB = 2**30


def planned(mode, chips, *options):
    """The command's last line; in a process of its own, because the compiler takes gigabytes."""
    command = ["plan", "--config", str(CONFIG), "--mode", mode, "--topology", chips, "--json", *options]
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-m", "gencompositor_jax", *command],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert " of 49 x 480 x 720 on " in done.stdout
    assert "not counted" not in done.stdout
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def eight():
    """The training step on 8 chips of v5p, a clip each."""
    return planned("train", "v5p:2x2x2", "--batch", "8")


# Measured: 8.0 and 27.7 GiB, both of the decoder on whole frames.
@pytest.mark.parametrize("chips, most", [("v5e:2x2", 10), ("v6e:1x1", 30)])
def test_sampling_at_full_size_fits(chips, most):
    report = planned("sample", chips)
    assert report["fits"] and report["bytes_per_device"] < most * GIB
    # The step does the network's own arithmetic and no more.
    assert report["flops_per_device"] == pytest.approx(report["useful_flops_per_device"], rel=0.01)


def test_the_training_step_fits_eight_chips(eight):
    assert eight["fits"] and eight["bytes_per_device"] < 68 * GIB  # measured: 61.7


@pytest.mark.heavy
def test_offloading_moves_saved_activations_to_the_host(eight):
    offloaded = planned("train", "v5p:2x2x2", "--batch", "8", "--config.remat=offload")
    # Per block and clip its input and attention's output, 35,328 tokens of 3,072 bfloat16 numbers each.
    kept = 2 * (42 + 2) * 35_328 * 3_072 * 2
    assert offloaded["host_bytes_per_device"] > 0.9 * kept and eight["host_bytes_per_device"] == 0
    assert eight["bytes_per_device"] - offloaded["bytes_per_device"] > 0.9 * kept


@pytest.mark.heavy
def test_memory_per_chip_shrinks_with_the_mesh(eight):
    many = planned("train", "v5p:8x8x8", "--batch", "64", "--mesh", "fsdp=64,context=8")
    few, lots = (report["programs"]["train step"]["memory"] for report in (eight, many))
    # 64 instead of 8 along fsdp; what isn't sharded is small.
    assert lots["optimiser"] < few["optimiser"] / 6
    assert lots["EMA weights"] < few["EMA weights"] / 6
    # One clip for each 8 chips instead of one per chip; what they gather of a layer's weights stays.
    assert lots["activations and temporaries"] < few["activations and temporaries"] / 6
    assert many["fits"] and many["bytes_per_device"] < 11 * GIB  # measured: 9.3
