"""What fits on TPUs at full size, by XLA:TPU's own account: compiled without a TPU.

On a machine that libtpu isn't made for (anything but Linux on x86) these are skipped.
"""

import importlib.util
from pathlib import Path

import pytest

from gencompositor_jax.planning import plan, topology
from gencompositor_jax.training.config import load_config

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None, reason="pip install 'gencompositor-jax[tpu-aot]'"
    ),
]
CONFIG = Path(__file__).parents[2] / "configs/gencompositor_6b.py"
GIB = 2**30


def planned(mode, chips, overrides=(), **options):
    config = load_config(str(CONFIG), overrides)
    return plan.make(config, mode, topology.find(chips), **options)


@pytest.fixture(scope="module")
def eight():
    """The training step on 8 chips of v5p, a clip each."""
    return planned("train", "v5p:2x2x2", batch=8)


# Measured: 8.0 and 27.7 GiB, both of the decoder on whole frames.
@pytest.mark.parametrize("chips, most", [("v5e:2x2", 10), ("v6e:1x1", 30)])
def test_sampling_at_full_size_fits(chips, most):
    made = planned("sample", chips)
    assert made.clip == (49, 480, 720)
    assert made.fits and made.needed < most * GIB
    assert not any(program.unknown for program in made.programs)
    # The step does the network's own arithmetic and no more.
    assert made.step.flops == pytest.approx(made.step.useful_flops, rel=0.01)


def test_the_training_step_fits_eight_chips(eight):
    assert eight.fits and eight.needed < 68 * GIB  # measured: 61.7
    assert not eight.step.unknown


@pytest.mark.heavy
def test_offloading_takes_what_the_blocks_keep_to_the_host(eight):
    offloaded = planned("train", "v5p:2x2x2", ["remat=offload"], batch=8)
    moved = eight.needed - offloaded.needed
    # Per block and clip its input and attention's output, 35,328 tokens of 3,072 bfloat16 numbers each.
    kept = 2 * (42 + 2) * 35_328 * 3_072 * 2
    assert offloaded.step.memory.host > 0.9 * kept and eight.step.memory.host == 0
    assert moved > 0.9 * kept


def test_memory_per_chip_shrinks_as_the_mesh_says(eight):
    many = planned("train", "v5p:8x8x8", batch=64, mesh={"fsdp": 64, "context": 8})
    few, lots = (made.step.memory.kinds for made in (eight, many))
    # 64 instead of 8 along fsdp; what isn't cut is small.
    assert lots["optimiser"] < few["optimiser"] / 6
    assert lots["average"] < few["average"] / 6
    # One clip for each 8 chips instead of one per chip; what they gather of a layer's weights stays.
    assert lots["activations and temporaries"] < few["activations and temporaries"] / 6
    assert many.fits and many.needed < 11 * GIB  # measured: 9.3
