"""Architectures' variants are stored, resized, sampled, sharded and refused like any other."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from gencompositor_jax import arch as arch_lib
from gencompositor_jax import checkpoints, sharding
from gencompositor_jax.conversion.configs import to_configs
from gencompositor_jax.diffusion import approximations
from gencompositor_jax.errors import InputError
from gencompositor_jax.model import int8
from tests.inference.test_long_clips import LONG, clip, sampled
from tests.inference.test_pipeline import clips, generate

VARIANTS = {
    "cross_attention": {"fusion": "cross_attention"},
    "channels without a branch": {"fusion": "channels", "injection": "none"},
}
names = pytest.mark.parametrize("name", VARIANTS)
first_names = pytest.mark.parametrize(
    "name", ["cross_attention", pytest.param("channels without a branch", marks=pytest.mark.slow)]
)


@pytest.fixture(scope="module")
def models(small_model):
    rng, made = np.random.default_rng(0), {}
    for name, changes in VARIANTS.items():
        arch = dataclasses.replace(small_model.arch, **changes)
        arrays = jax.tree.map(
            lambda x: (0.3 * rng.standard_normal(x.shape)).astype(x.dtype), checkpoints.array_shapes(arch)
        )
        made[name] = checkpoints.Model(arch, arrays)
    return made


@names
def test_a_checkpoint_keeps_the_variant(models, name, tmp_path):
    checkpoints.save(tmp_path / "model", models[name])
    loaded = checkpoints.load(tmp_path / "model")
    assert loaded.arch == models[name].arch
    jax.tree.map(np.testing.assert_array_equal, loaded.arrays, models[name].arrays)


def test_a_checkpoint_without_these_fields_is_the_papers():
    stored = json.loads(json.dumps(arch_lib.to_json(arch_lib.released())))
    del stored["fusion"], stored["injection"]
    assert arch_lib.from_json(stored) == arch_lib.released()


@first_names
def test_sampled_in_windows_at_another_size_and_on_a_mesh(models, name):
    model = models[name]
    whole = generate(model, clips(2), [5, 6])
    longer = checkpoints.at_size(model, 9)
    expected = jax.tree.map(np.shape, checkpoints.array_shapes(longer.arch))
    assert jax.tree.map(np.shape, longer.arrays) == expected
    assert sampled(model, clip(LONG)).shape == (LONG, 32, 48, 3)
    with jax.set_mesh(sharding.make_mesh({"data": 2, "fsdp": 2, "context": 2})):
        shardings = sharding.shardings(model.arrays, jax.sharding.get_mesh())
        placed = dataclasses.replace(model, arrays=jax.device_put(model.arrays, shardings))
        assert np.abs(generate(placed, clips(2), [5, 6]) - whole).max() <= 1


def test_all_kernels_of_the_blocks_are_quantised(models):
    arrays = models["cross_attention"].arrays["backbone"]
    whole, small = (checkpoints.named_leaves(tree) for tree in (arrays, int8.quantised(arrays)))
    of_blocks = {name for name in whole if "/blocks/" in name and name.endswith("/kernel")}
    assert any("cross_attention" in name for name in of_blocks)
    assert {name.removesuffix("/values") for name in small if name.endswith("/values")} == of_blocks


def test_the_release_has_no_such_network():
    for changes in ({"fusion": "cross_attention"}, {"injection": "everywhere"}, {"injection": "none"}):
        arch = dataclasses.replace(arch_lib.released(), **changes)
        with pytest.raises(InputError, match=next(iter(changes))):
            to_configs(arch)


def test_dropping_foreground_tokens_where_there_are_none_is_refused(models):
    model = models["channels without a branch"]
    with pytest.raises(InputError, match="no foreground tokens"):
        approximations.kept_tokens(clips(1).foreground, model.arch)
