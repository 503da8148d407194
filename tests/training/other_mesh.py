"""Saves a state on a mesh of 8 devices and reads it onto others; prints "same" for each that it fits."""

import sys

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from gencompositor_jax.training.checkpoints import open_checkpoints

VALUES = {"a": np.random.default_rng(0).normal(size=(16, 24)).astype(np.float32), "step": np.int32(7)}


def shardings(shape, spec):
    """Places on a mesh of that shape: the matrix cut by `spec`, the number on every device."""
    mesh = Mesh(np.array(jax.devices()[: np.prod(shape)]).reshape(shape), ("fsdp", "tensor"))
    return {"a": NamedSharding(mesh, PartitionSpec(*spec)), "step": NamedSharding(mesh, PartitionSpec())}


one = SingleDeviceSharding(jax.devices()[3])
before = shardings((4, 2), ("fsdp", "tensor"))
with open_checkpoints(sys.argv[1], keep_last=1) as checkpoints:
    checkpoints.save(7, jax.tree.map(jax.device_put, VALUES, before), {})
    for places in (
        shardings((2, 4), ("tensor", "fsdp")),
        shardings((1, 8), (None, "tensor")),  # shares of three columns where shares of twelve were written
        shardings((3, 1), (None, "fsdp")),
        {"a": one, "step": one},
    ):
        like = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), VALUES, places)
        got = checkpoints.restore(like).state
        for name, want in VALUES.items():
            np.testing.assert_array_equal(got[name], want)
            assert got[name].sharding == places[name]
        print("same")
