import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gencompositor_jax import arch as arch_lib
from gencompositor_jax.errors import InputError
from gencompositor_jax.model.denoiser import Denoiser
from gencompositor_jax.training import partition

NAMES = st.sampled_from(["a", "b", "kernel", "bias", "blocks"])
TREES = st.recursive(
    st.integers(), lambda below: st.dictionaries(NAMES, below, min_size=1, max_size=4), max_leaves=12
).filter(lambda tree: isinstance(tree, dict))
PARAMS = {
    "backbone": {"blocks": {"kernel": 1, "bias": 2}, "out": {"kernel": 3}},
    "branch": {"blocks": {"kernel": 4}},
}


def branches(tree):
    for below in tree.values():
        if isinstance(below, dict):
            yield below
            yield from branches(below)


@given(TREES, st.sampled_from(["kernel", "^a", "a/b", "bias$", ".*"]))
def test_split_is_disjoint_and_complete_and_has_no_empty_branches(tree, regex):
    leaves = partition.flatten(tree)
    wanted = {name for name in leaves if re.search(regex, name)}
    if not wanted:
        with pytest.raises(InputError, match="matches none"):
            partition.split(tree, regex)
        return
    trained, frozen = partition.split(tree, regex)
    assert partition.flatten(trained) == {name: leaves[name] for name in wanted}
    assert partition.flatten(frozen).keys() == leaves.keys() - wanted
    assert all(branches(trained)) and all(branches(frozen))
    assert partition.merge(trained, frozen) == partition.merge(frozen, trained) == tree


def test_arguments_are_not_changed():
    trained, frozen = partition.split(PARAMS, "^branch/")
    assert trained == {"branch": {"blocks": {"kernel": 4}}}
    partition.merge(frozen, trained)
    assert "branch" not in frozen
    assert partition.split(PARAMS, "bias")[0] == {"backbone": {"blocks": {"bias": 2}}}


@pytest.mark.parametrize("other", [{"branch": {"blocks": {"kernel": 0}}}, {"branch": 0}])
def test_a_path_in_both_trees_is_refused(other):
    with pytest.raises(ValueError, match="branch.*: in both trees"):
        partition.merge(PARAMS, other)


def test_an_expression_that_matches_nothing_is_refused_with_some_names():
    with pytest.raises(InputError, match="trainable='brnch': matches none of 4 names, .*branch/blocks"):
        partition.split(PARAMS, "brnch")
    with pytest.raises(InputError, match="not a regular expression"):
        partition.split(PARAMS, "(")


def test_trees_of_shapes_and_of_shardings_are_split_like_those_of_arrays():
    shapes = {name: parts["params"] for name, parts in network_shapes().items()}
    mesh = Mesh(np.array(jax.devices()[:1]), ("data",))
    shardings = jax.tree.map(lambda _: NamedSharding(mesh, PartitionSpec()), shapes)
    for tree in (shapes, shardings):
        trained, frozen = partition.split(tree, "^branch/")
        assert trained == {"branch": tree["branch"]}
        assert frozen == {"backbone": tree["backbone"]}


def test_frozen_parameters_have_no_moments():
    """Of the released architecture with only the branch trained, the optimiser holds two moments of that."""
    variables = jax.eval_shape(Denoiser(arch_lib.released()).init, jax.random.key(0))
    params = {name: parts["params"] for name, parts in variables.items()}
    trained, _ = partition.split(params, "^branch/")
    moments = jax.eval_shape(optax.scale_by_adam().init, trained)
    size = sum(leaf.size for leaf in jax.tree.leaves(moments))
    assert size == 2 * 301_568_576 + 1  # and the count of steps


def test_only_trained_parameters_have_gradients():
    params = {"a": {"kernel": jnp.array(3.0)}, "b": {"kernel": jnp.array(2.0)}}
    trained, frozen = partition.split(params, "^b/")

    def loss(trained):
        params = partition.merge(trained, frozen)
        return params["a"]["kernel"] * params["b"]["kernel"] ** 2

    gradients = jax.grad(loss)(trained)
    assert gradients == {"b": {"kernel": 12.0}}


def network_shapes():
    return jax.eval_shape(Denoiser(arch_lib.tiny()).init, jax.random.key(0))
