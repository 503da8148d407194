"""Benchmark of the training step."""

from pathlib import Path

import pytest

from gencompositor_jax.errors import InputError
from gencompositor_jax.perf import flops
from gencompositor_jax.perf.benchmark import training
from gencompositor_jax.training.config import load_config

TINY = str(Path(__file__).parents[3] / "configs" / "tiny.py")
SMALL = [
    "arch_changes.frames=1",
    "arch_changes.height=32",
    "arch_changes.width=32",
    *(
        f"arch_changes.{stack}.num_{what}=1"
        for stack in ("backbone", "branch")
        for what in ("layers", "heads")
    ),
    "arch_changes.backbone.head_dim=16",
    "arch_changes.branch.head_dim=16",
    "batch_size=2",
    "optimizer.ema=0",
]


def config(*overrides):
    return load_config(TINY, [*SMALL, *overrides])


@pytest.fixture(scope="module")
def report():
    return training.run(config(), steps=2)


@pytest.mark.slow
def test_the_step_trains_all_parameters(report):
    assert report["trained_parameters"] == report["parameters"] > 1000
    assert report["loss"] > 0 and report["skipped_steps"] == 0
    assert report["compile_seconds"].keys() == {"step"}
    assert 0 < report["step_seconds"]["min"] <= report["step_seconds"]["median"]
    assert report["batch_size"] == 2 and not report["ema"]


@pytest.mark.slow
def test_planned_memory_holds_the_state(report):
    # float32 weights and two moments; the counts of steps are a few bytes.
    assert 0 <= report["state_bytes"] - 12 * report["parameters"] < 100
    assert report["planned_bytes"] > report["state_bytes"]


@pytest.mark.slow
def test_work_is_three_forward_passes(report):
    from gencompositor_jax import arch as arch_lib

    made = config()
    arch = arch_lib.preset(made.arch, made.arch_changes.to_dict())
    assert report["flops_per_step"] == pytest.approx(2 * 3 * flops.forward(arch))


def test_a_step_that_does_not_fit_is_refused_with_remedies():
    training.check_fits(1000, 1000)
    training.check_fits(1000, None)
    with pytest.raises(InputError, match=r"needs 80\.0 GiB, JAX may use 79\.0 GiB.*optimizer\.ema=0"):
        training.check_fits(80 * 2**30, 79 * 2**30)


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(InputError, match="batch_size=2: must be a multiple of 3"):
        training.run(config("optimizer.accumulate=3"), steps=1)
