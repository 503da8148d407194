import dataclasses
import json
import re

import jax
import pytest

from gencompositor_jax import sharding
from gencompositor_jax.errors import InputError
from gencompositor_jax.perf.plan import compiling, memory, report, topology, workloads
from gencompositor_jax.training.config import load_config

REPORTED = {
    "bytes_per_device",
    "hbm_bytes",
    "fits",
    "flops_per_device",
    "collective_bytes_per_device",
    "compile_seconds",
    "step_seconds_estimate",
}


@pytest.fixture(scope="module")
def config():
    return load_config("configs/gencompositor_6b.py:runlocal")


@pytest.fixture(scope="module")
def target():
    return topology.find("cpu:4")


@pytest.fixture(scope="module")
def sampling(config, target):
    return compiling.make_plan(config, "sample", target, batch=2)


@pytest.fixture(scope="module")
def training(config, target):
    return compiling.make_plan(config, "train", target, batch=4)


def test_sampling_is_three_programs_with_all_weights_in_each(sampling):
    assert [p.name for p in sampling.programs] == ["encode", "denoising step", "decode"]
    assert sampling.mesh["data"] == 2
    weights = {p.memory.kinds["weights"] for p in sampling.programs}
    assert len(weights) == 1 and min(weights) > 0
    assert sampling.step.name == "denoising step"
    assert sampling.needed == max(p.needed for p in sampling.programs)
    assert [p.runs for p in sampling.programs] == [1, sampling.steps, 1]


@pytest.mark.slow
def test_training_is_the_step_with_its_state_sharded_over_fsdp(config, training):
    (step,) = training.programs
    kinds = step.memory.kinds
    # Two moments per weight in the weights' type; what isn't sharded is small.
    assert kinds["optimiser"] == pytest.approx(2 * kinds["EMA weights"], rel=0.01)
    one_device = sharding.make_mesh({"fsdp": 1}, topology.find("cpu:1").devices)
    alone = workloads.of_training(config, one_device)[0].arguments["optimiser"]
    # The blocks' kernels, most of which fsdp shards.
    kernels = [x for x in jax.tree.leaves(alone) if x.ndim > 2]
    assert memory.bytes_per_device(alone) - kinds["optimiser"] > 0.25 * memory.bytes_per_device(kernels)
    assert sum(t.bytes for t in step.traffic.values()) > 0
    assert step.flops > step.useful_flops / 2


@pytest.mark.parametrize("mode", ["sampling", pytest.param("training", marks=pytest.mark.slow)])
def test_the_last_line_holds_all_that_a_script_needs(mode, request):
    made = request.getfixturevalue(mode)
    line = report.as_json(made)
    reported = json.loads(line)
    assert "\n" not in line and reported.keys() >= REPORTED
    assert reported["fits"] is True and reported["bytes_per_device"] == made.needed < reported["hbm_bytes"]
    assert reported["step_seconds_estimate"] > 0 and reported["flops_per_device"] > 0


def shrunk(made, memory):
    target = dataclasses.replace(made.target, chip=dataclasses.replace(made.target.chip, memory=memory))
    return dataclasses.replace(made, target=target)


@pytest.mark.parametrize(
    "mode, remedy",
    [("sampling", "--batch 1"), pytest.param("training", "context=2", marks=pytest.mark.slow)],
)
def test_what_does_not_fit_comes_with_advice(mode, remedy, request):
    made = request.getfixturevalue(mode)
    assert report.verdict(made)[0].startswith("fits")
    small = shrunk(made, made.needed - 1)
    assert small.fits is False and json.loads(report.as_json(small))["advice"]
    text = report.text(small)
    assert "does not fit" in text and remedy in text


def test_a_program_that_xla_gave_up_on_does_not_fit(sampling):
    given_up = dataclasses.replace(sampling.programs[2], memory=None, needed=2**60, traffic={}, estimate=None)
    made = dataclasses.replace(sampling, programs=[*sampling.programs[:2], given_up])
    assert made.fits is False and "does not fit" in report.text(made)
    assert json.loads(report.as_json(made))["programs"]["decode"]["collective_bytes_per_device"] is None


@pytest.mark.parametrize("mesh", [{"fsdp": 3}, {"rows": 4}])
def test_a_mesh_that_does_not_fit_is_refused(config, target, mesh):
    with pytest.raises(InputError, match="mesh"):
        compiling.make_plan(config, "train", target, batch=4, mesh=mesh)


def test_a_batch_that_does_not_divide_is_refused(config, target):
    with pytest.raises(InputError, match="batch_size=3"):
        compiling.make_plan(config, "train", target, batch=3)


@pytest.mark.slow
def test_offloaded_arrays_are_reported_and_not_advised_again(training):
    (step,) = training.programs
    small = shrunk(training, 1)
    offloading = dataclasses.replace(step, memory=dataclasses.replace(step.memory, host=3 * 2**30))
    offloaded = dataclasses.replace(small, programs=[offloading])
    assert "remat=offload" in report.text(small) and "in host memory  " not in report.text(small)
    assert "remat=offload" not in report.text(offloaded)
    assert re.search(r"in host memory +3\.000", report.text(offloaded))
    assert json.loads(report.as_json(offloaded))["host_bytes_per_device"] == 3 * 2**30
