"""Models on disk: `load` and `save`, the `Model` in between, and what a folder says of itself."""

from gencompositor_jax.checkpoints.format import (
    Facts,
    all_facts,
    checked,
    load,
    packaged,
    read_facts,
    save,
    stored_arrays,
    write_facts,
)
from gencompositor_jax.checkpoints.model import (
    Model,
    array_shapes,
    at_size,
    check_prompt,
    cut_axis,
    facts_of,
    is_stacked,
    named_leaves,
)

__all__ = [
    "Facts",
    "Model",
    "all_facts",
    "array_shapes",
    "at_size",
    "check_prompt",
    "checked",
    "cut_axis",
    "facts_of",
    "is_stacked",
    "load",
    "named_leaves",
    "packaged",
    "read_facts",
    "save",
    "stored_arrays",
    "write_facts",
]
