"""A model on the mesh that it is sampled on."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from gencompositor_jax import checkpoints, fields, sharding
from gencompositor_jax.arch import Changes, Weights, changed
from gencompositor_jax.checkpoints import Model
from gencompositor_jax.checkpoints.restore import load_sharded
from gencompositor_jax.inference import meshes
from gencompositor_jax.model import int8


def load_on_mesh(
    folder: Path,
    mesh: Mapping[str, int] | Mesh | None,
    dtype: Any = None,
    weights: Weights | None = None,
    changes: Changes | None = None,
) -> tuple[Model, Mesh]:
    """Loads a checkpoint, each device its shards; see `Compositor.load`.

    mesh: sizes of its axes; None is `meshes.default_sizes` of one clip. Raises InputError for anything that
    is no checkpoint, and for a mesh that doesn't fit it.
    """
    if weights is not None:
        fields.read(Weights, weights, "weights")
    metadata = checkpoints.read_metadata(folder)
    arch = changed(metadata.arch, changes or {})
    on = mesh if isinstance(mesh, Mesh) else meshes.sampling_mesh(arch, mesh)
    meshes.check_heads(arch, on)
    if dtype is None:
        dtype = jnp.float32 if on.devices.flat[0].platform == "cpu" else jnp.bfloat16
    checkpoints.check_sizes(folder, metadata.arch)
    shapes = checkpoints.array_shapes(metadata.arch, metadata.prompts)
    where = checkpoints.named_leaves(sharding.shardings(shapes, on))
    model = load_sharded(folder, where, dtype, change=None if weights is None else int8.quantised_array)
    return dataclasses.replace(model, arch=arch), on


def placed(model: Model, mesh: Mesh) -> Model:
    """The model on a mesh: jit would send NumPy arrays to the devices with every call."""
    arrays, prompts = sharding.place((model.arrays, model.prompts), mesh)
    return dataclasses.replace(model, arrays=arrays, prompts=prompts)


def mesh_of(model: Model) -> Mesh | None:
    """The mesh that a model's arrays are on."""
    where = getattr(model.arrays["null_text"], "sharding", None)
    return where.mesh if isinstance(where, NamedSharding) and isinstance(where.mesh, Mesh) else None
