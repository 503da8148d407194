"""A model in memory: its architecture, and its arrays as nested dicts whose shapes follow from it.

{"backbone": {"params", "buffers"}, "branch": {"params", "buffers"}, "codec": {...}, "null_text": [L, D]}

An architecture without injection has no "branch".
"""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gencompositor_jax import codec
from gencompositor_jax.arch import ModelArch
from gencompositor_jax.checkpoints.manifest import ArraySpec
from gencompositor_jax.errors import InputError
from gencompositor_jax.model import erope
from gencompositor_jax.model.denoiser import Denoiser
from gencompositor_jax.model.fusion_dit import position_indices

MIN_SHARDED = 2**20  # numbers below which an array is replicated on a mesh


@dataclasses.dataclass(frozen=True)
class Model:
    """A loaded model."""

    arch: ModelArch
    arrays: dict[str, Any]
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)
    prompts: dict[str, Any] = dataclasses.field(default_factory=dict)  # text embeddings [L, D] by name


def array_shapes(arch: ModelArch, prompts: Iterable[str] = ()) -> dict[str, Any]:
    """The arrays of an architecture as a tree of `jax.ShapeDtypeStruct`, with named prompts if any."""
    stack = arch.backbone
    text = jax.ShapeDtypeStruct((stack.text_tokens, stack.text_dim), jnp.float32)
    shapes = {**_weight_shapes(arch), "null_text": text}
    if stored := dict.fromkeys(prompts, text):
        shapes["prompts"] = stored
    return shapes


@functools.lru_cache(maxsize=8)
def _weight_shapes(arch: ModelArch) -> dict[str, Any]:
    """Shapes of networks and codec, cached because tracing them takes a second."""
    key = jax.random.key(0)
    shapes = dict(jax.eval_shape(Denoiser(arch).init, key))
    return {**shapes, "codec": jax.eval_shape(lambda k: codec.init_codec(k, arch.codec), key)}


def at_size(
    model: Model, frames: int | None = None, height: int | None = None, width: int | None = None
) -> Model:
    """The same weights for another clip size, with new tables of added positions.

    The reference does this silently for another number of frames and refuses another height or width. Raises
    InputError where the size does not fit the architecture.
    """
    old = model.arch
    arch = dataclasses.replace(
        old, frames=frames or old.frames, height=height or old.height, width=width or old.width
    )
    arch.check()
    if arch == old:
        return model
    grid = arch.token_grid
    indices = {"backbone": position_indices(arch, grid), "branch": erope.grid_indices(grid)}
    arrays = dict(model.arrays)
    for name, stack in arch.stacks.items():
        added = erope.added_positions(indices[name], stack.width, arch.position_scale)
        text = model.arrays[name]["buffers"]["patch_embed"]["positions"][: stack.text_tokens]
        table = jnp.concatenate([jnp.asarray(text), jnp.asarray(added, text.dtype)])
        arrays[name] = {**model.arrays[name], "buffers": {"patch_embed": {"positions": table}}}
    return dataclasses.replace(model, arch=arch, arrays=arrays)


def check_prompt(name: str | None, stored: Iterable[str]) -> None:
    """Raise InputError unless a prompt of that name is stored; None is the empty prompt."""
    known = sorted(stored)
    if name is not None and name not in known:
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise InputError(
            f"prompt {name!r}: not stored in the checkpoint ({has}); convert it with --prompt {name}=..."
        )


def is_stacked(name: str) -> bool:
    """Whether the first axis of an array is the layers of a network."""
    return "/blocks/" in name or name.startswith("branch/params/residual/")


def shard_axis(name: str, shape: tuple[int, ...], parts: int) -> int | None:
    """The axis along which an array is split into `parts` equal shards: the largest except the layers.

    None for arrays that are small or can't be split: they are replicated.
    """
    axes = [i for i in range(int(is_stacked(name)), len(shape)) if shape[i] % parts == 0]
    if not axes or np.prod(shape) < MIN_SHARDED:
        return None
    return max(axes, key=lambda i: (shape[i], i))


def named_leaves(tree: Any) -> dict[str, Any]:
    """Leaves of a nested dict by their paths, a/b/c."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in flat}


def array_specs(tree: Any) -> dict[str, ArraySpec]:
    """Type and shape of every leaf by its path."""
    leaves = named_leaves(tree)
    return {name: ArraySpec(jnp.dtype(leaf.dtype).name, tuple(leaf.shape)) for name, leaf in leaves.items()}
