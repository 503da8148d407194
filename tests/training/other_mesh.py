"""Saves a state on a mesh of 8 devices and restores it on others; prints "same" for each that is exact."""

import sys

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from gencompositor_jax.training.checkpointer import open_checkpointer

VALUES = {"a": np.random.default_rng(0).normal(size=(16, 24)).astype(np.float32), "step": np.int32(7)}


def shardings(shape, spec):
    """Shardings on a mesh of that shape: the matrix by `spec`, the scalar replicated."""
    mesh = Mesh(np.array(jax.devices()[: np.prod(shape)]).reshape(shape), ("fsdp", "tensor"))
    return {"a": NamedSharding(mesh, PartitionSpec(*spec)), "step": NamedSharding(mesh, PartitionSpec())}


one = SingleDeviceSharding(jax.devices()[3])
before = shardings((4, 2), ("fsdp", "tensor"))
with open_checkpointer(sys.argv[1], keep_last=1) as checkpointer:
    checkpointer.save(7, jax.tree.map(jax.device_put, VALUES, before), {"next_batch": 7, "unreported": []})
    for targets in (
        shardings((2, 4), ("tensor", "fsdp")),
        shardings((1, 8), (None, "tensor")),  # shards of three columns, saved as shards of twelve
        shardings((3, 1), (None, "fsdp")),
        {"a": one, "step": one},
    ):
        like = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), VALUES, targets)
        got = checkpointer.restore(like).state
        for name, want in VALUES.items():
            np.testing.assert_array_equal(got[name], want)
            assert got[name].sharding == targets[name]
        print("same")
