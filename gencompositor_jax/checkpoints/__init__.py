"""Models on disk: `load`, `save`, the `Model` in memory and the metadata of a checkpoint."""

from gencompositor_jax.checkpoints.format import (
    Metadata,
    check_sizes,
    load,
    packaged,
    read_metadata,
    save,
    stored_specs,
    validate,
    write_metadata,
)
from gencompositor_jax.checkpoints.manifest import weights_hash
from gencompositor_jax.checkpoints.model import (
    Model,
    array_shapes,
    array_specs,
    at_size,
    check_prompt,
    is_stacked,
    named_leaves,
    shard_axis,
)

__all__ = [
    "Metadata",
    "Model",
    "array_shapes",
    "array_specs",
    "at_size",
    "check_prompt",
    "check_sizes",
    "is_stacked",
    "load",
    "named_leaves",
    "packaged",
    "read_metadata",
    "save",
    "shard_axis",
    "stored_specs",
    "validate",
    "weights_hash",
    "write_metadata",
]
