"""Rules, rows and meshes on eight virtual devices; tests/training runs the network on meshes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import PartitionSpec

from gencompositor_jax import arch, checkpoints, sharding
from gencompositor_jax.errors import InputError

MESHES = [
    {"data": 8},
    {"fsdp": 8},
    {"context": 8},
    {"tensor": 8},
    {"data": 2, "fsdp": 2, "context": 2},
    {"data": 2, "context": 2, "tensor": 2},
]


@pytest.fixture(params=MESHES, ids=str)
def mesh(request):
    return sharding.make_mesh(request.param)


def test_one_axis_takes_the_remaining_devices():
    assert sharding.make_mesh({"data": 2, "fsdp": -1}).shape["fsdp"] == 4


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"data": 16}, "needs 16 devices, there are 8"),
        ({"data": 3, "fsdp": -1}, "does not divide the 8 devices"),
        ({"data": -1, "fsdp": -1}, "at most once"),
        ({"data": 0}, "sizes of 1 or more"),
        ({"rows": 8}, "mesh.rows: unknown axis"),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused(sizes, message):
    with pytest.raises(InputError, match=message):
        sharding.make_mesh(sizes)


def test_the_first_matching_rule_applies(mesh):
    rules = [("kernel", (None, "fsdp")), (".*", ())]
    assert sharding.spec_of("a/kernel", (3, 8), mesh, rules) == PartitionSpec(None, "fsdp")
    assert sharding.spec_of("a/bias", (8,), mesh, rules) == PartitionSpec()


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([("kernel", (None, "fsdp"))], "no rule matches a/bias"),
        ([(".*", ("fsdp", None))], "has 2 axes"),
        ([(".*", ("rows",))], "no axis 'rows'"),
        ([(".*", ("fsdp",))], "8 does not divide 12"),
    ],
)
def test_a_rule_that_does_not_fit_is_refused(rules, message):
    with pytest.raises(InputError, match=message):
        sharding.spec_of("a/bias", (12,), sharding.make_mesh({"fsdp": 8}), rules)


@pytest.mark.parametrize("sizes", [*MESHES, {"fsdp": 4, "tensor": 2}], ids=str)
def test_the_rules_fit_the_released_architecture_and_shard_its_weights(sizes):
    mesh = sharding.make_mesh(sizes)
    shapes = checkpoints.array_shapes(arch.released())
    params = {name: shapes[name]["params"] for name in ("backbone", "branch")}
    cuts = sharding.shardings(params, mesh)
    share = sum(
        np.prod(c.shard_shape(p.shape)) for p, c in zip(*map(jax.tree.leaves, (params, cuts)), strict=True)
    )
    whole = sum(p.size for p in jax.tree.leaves(params))
    parts = mesh.shape["fsdp"] * mesh.shape["tensor"]
    assert share / whole < 1.05 / parts


@given(st.integers(1, 40), st.sampled_from(MESHES))
def test_every_row_is_stored_on_its_devices(batch, sizes):
    mesh = sharding.make_mesh(sizes)
    size = batch * sharding.axis_size(mesh, sharding.ROWS)
    rows = sharding.rows_here(mesh, size)
    assert rows == list(range(size))  # one process has all of them
    x = np.random.default_rng(0).integers(0, 256, (size, 3), np.uint8)
    there = sharding.to_devices({"x": x}, rows, size, mesh)["x"]
    np.testing.assert_array_equal(there, x)


def test_a_batch_that_the_mesh_does_not_divide_is_refused():
    mesh = sharding.make_mesh({"data": 4, "context": 2})
    sharding.check_batch(8, 2, mesh)
    with pytest.raises(InputError, match="batch_size=12: must be a multiple of 8"):
        sharding.check_batch(12, 2, mesh)


def test_without_a_mesh_nothing_is_constrained_or_padded():
    x = jnp.ones((3, 5))
    assert sharding.constrain(x, sharding.ROWS, sharding.TOKENS) is x
    assert sharding.padded_length(35_326) == 35_326


def test_the_released_sequence_is_padded_by_two():
    for parts in ({"context": 8}, {"context": 2, "tensor": 4}):
        with jax.set_mesh(sharding.make_mesh(parts)):
            assert sharding.padded_length(35_326) == 35_328
