"""Benchmark of sampling: what is compiled, timed and counted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencompositor_jax import arch as arch_lib
from gencompositor_jax import checkpoints
from gencompositor_jax.errors import InputError
from gencompositor_jax.model import int8
from gencompositor_jax.perf import flops, hardware
from gencompositor_jax.perf.benchmark import measure, sampling


@pytest.fixture(scope="module")
def report(small_model):
    return sampling.run(small_model, steps=20, rounds=2)


def test_every_part_is_compiled_once_and_every_call_is_timed(report):
    assert report["compile_seconds"].keys() == {"start", "encode", "advance", "decode"}
    for spent in report["compile_seconds"].values():
        assert spent["lower"] > 0 and spent["compile"] > 0
    for name in ("encode_seconds", "step_seconds", "decode_seconds", "total_seconds"):
        assert 0 < report[name]["min"] <= report[name]["median"]
    # A round is its parts, ten calls of two steps among them, and a little more.
    parts = (
        report["encode_seconds"]["min"] + 20 * report["step_seconds"]["min"] + report["decode_seconds"]["min"]
    )
    assert report["total_seconds"]["median"] > parts


def test_work_and_shapes_are_the_architectures(report, small_model):
    assert report["flops_per_step"] == flops.forward(small_model.arch)
    assert report["joint_tokens"] == 1 + 2 * report["video_tokens"]
    assert report["latents"] == list(small_model.arch.latent_shape)
    assert report["mfu"] is None  # a CPU's peak isn't known
    assert report["dtype"] == "float32"


def test_guidance_is_twice_the_work(small_model, report, monkeypatch):
    """And MFU is reported on a device of known peak."""
    monkeypatch.setattr(hardware, "peak_flops", lambda kind, dtype: 1e9)
    guided = sampling.run(small_model, steps=1, guided=True)
    assert guided["flops_per_step"] == 2 * report["flops_per_step"]
    assert guided["guided"] and not report["guided"]
    assert guided["mfu"] == pytest.approx(guided["flops_per_second"] / 1e9)


def test_random_models_have_all_arrays_none_of_them_zero(small_model):
    arch = small_model.arch
    model = sampling.random_model(arch)
    expected = checkpoints.array_shapes(arch)
    jax.tree.map(
        lambda x, y: np.testing.assert_equal((x.shape, x.dtype), (y.shape, jnp.bfloat16)),
        model.arrays,
        expected,
    )
    for name, leaf in checkpoints.named_leaves(model.arrays).items():
        value = np.asarray(leaf, np.float32)
        assert np.isfinite(value).all() and (value != 0).mean() > 0.9, name
        assert abs(value.mean() - name.endswith("/scale")) < 0.02, name
        assert value.size < 1000 or value.std() == pytest.approx(0.02, rel=0.05), name
    up, down = (
        model.arrays["backbone"]["params"]["blocks"]["feed_forward"][x]["bias"] for x in ("up", "down")
    )
    assert (np.asarray(up).ravel()[:8] != np.asarray(down).ravel()[:8]).any()


@pytest.mark.slow
def test_random_8_bit_weights_have_the_same_distribution(small_model):
    small = sampling.random_model(small_model.arch, weights="int8")
    assert int8.is_quantised(small.arrays)
    expected = checkpoints.named_leaves(small_model.arrays)
    for name, leaf in checkpoints.named_leaves(int8.restored(small.arrays, jnp.bfloat16)).items():
        assert leaf.shape == expected[name].shape, name
        std = np.asarray(leaf, np.float32).std()
        assert leaf.size < 1000 or std == pytest.approx(0.02, rel=0.05), name
    assert sampling.parameters(small) == sampling.parameters(small_model)


@pytest.mark.slow
def test_a_random_released_model_has_the_parameter_counts_of_the_release():
    shapes = jax.eval_shape(lambda: sampling.random_model(arch_lib.released()).arrays)
    counts = {
        name: sum(x.size for x in jax.tree.leaves(shapes[name]["params"])) for name in ("backbone", "branch")
    }
    assert counts == {"backbone": 5_570_679_360, "branch": 301_568_576}


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="frames=6"):
        sampling.arch_of("tiny", (6, 32, 48))
    with pytest.raises(InputError, match="multiples"):
        sampling.arch_of("released", (49, 480, 721))


def test_peak_memory_names_its_source():
    class Device:
        def __init__(self, stats):
            self.memory_stats = lambda: stats

    assert measure.peak_memory(Device({"peak_bytes_in_use": 7, "bytes_limit": 9})) == (
        7,
        "device memory, by JAX's allocator",
    )
    assert measure.memory_limit(Device({"bytes_limit": 9})) == 9
    resident, what = measure.peak_memory(Device(None))
    assert 2**26 < resident < 2**38 and "resident" in what
    assert measure.memory_limit(Device(None)) is None
