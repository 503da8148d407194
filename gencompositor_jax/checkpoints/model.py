"""A model in memory: its architecture, and its arrays as nested dicts whose shapes follow from it.

arrays = {"backbone": {...}, "branch": {...}, "codec": {...}, "null_text": [L, D],
          "prompts": {name: [L, D]}}    # only where prompts are stored
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
from gencompositor_jax.checkpoints.manifest import ArrayFacts
from gencompositor_jax.errors import InputError
from gencompositor_jax.model import erope
from gencompositor_jax.model.denoiser import Denoiser

SMALL = 2**20  # numbers: an array with fewer is not worth cutting for a mesh


@dataclasses.dataclass(frozen=True)
class Model:
    """A loaded model: its facts and its arrays."""

    arch: ModelArch
    arrays: dict[str, Any]  # backbone, branch (each with params and buffers), codec, null_text
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)
    prompts: dict[str, Any] = dataclasses.field(default_factory=dict)  # text embeddings [L, D] by name


def array_shapes(arch: ModelArch, prompts: Iterable[str] = ()) -> dict[str, Any]:
    """The arrays of an architecture as a tree of `jax.ShapeDtypeStruct`; takes no memory.

    prompts: names of stored prompts, if any.
    """
    stack = arch.backbone
    text = jax.ShapeDtypeStruct((stack.text_tokens, stack.text_dim), jnp.float32)
    shapes = {**_weight_shapes(arch), "null_text": text}
    if stored := dict.fromkeys(prompts, text):
        shapes["prompts"] = stored
    return shapes


@functools.lru_cache(maxsize=8)
def _weight_shapes(arch: ModelArch) -> dict[str, Any]:
    """Networks and codec; tracing them takes a second, and several steps of loading ask for it."""
    key = jax.random.key(0)
    shapes = dict(jax.eval_shape(Denoiser(arch).init, key))
    return {**shapes, "codec": jax.eval_shape(lambda k: codec.init_codec(k, arch.codec), key)}


def at_size(
    model: Model, frames: int | None = None, height: int | None = None, width: int | None = None
) -> Model:
    """The same weights for another clip size: the added position tables are made anew, rotary positions
    follow by themselves.

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
    video, foreground, _ = erope.stream_indices(arch.layout, arch.token_grid)
    indices = {"backbone": np.concatenate([video, foreground]), "branch": erope.grid_indices(arch.token_grid)}
    arrays = dict(model.arrays)
    for name, stack in (("backbone", arch.backbone), ("branch", arch.branch)):
        fresh = erope.added_positions(indices[name], stack.width, arch.position_scale)
        text = model.arrays[name]["buffers"]["patch_embed"]["positions"][: stack.text_tokens]
        table = jnp.concatenate([jnp.asarray(text), jnp.asarray(fresh, text.dtype)])
        arrays[name] = {**model.arrays[name], "buffers": {"patch_embed": {"positions": table}}}
    return dataclasses.replace(model, arch=arch, arrays=arrays)


def check_prompt(name: str | None, stored: Iterable[str]) -> None:
    """Raises InputError unless a prompt of that name is stored; None is the empty prompt."""
    known = sorted(stored)
    if name is not None and name not in known:
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise InputError(
            f"prompt {name!r}: not stored in the checkpoint ({has}); convert it with --prompt {name}=..."
        )


def is_stacked(name: str) -> bool:
    """True of arrays whose first axis is the layers of a stack."""
    return "/blocks/" in name or name.startswith("branch/params/residual/")


def cut_axis(name: str, shape: tuple[int, ...], parts: int) -> int | None:
    """The axis along which an array is best cut in `parts` equal shares: the largest but the layers'.

    None for arrays that are small or can't be cut: each device then has its own copy.
    """
    axes = [i for i in range(int(is_stacked(name)), len(shape)) if shape[i] % parts == 0]
    if not axes or np.prod(shape) < SMALL:
        return None
    return max(axes, key=lambda i: (shape[i], i))


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a nested dict by their paths, a/b/c."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in flat}


def facts_of(tree: Any) -> dict[str, ArrayFacts]:
    """Type and shape of every leaf by its path."""
    leaves = named_leaves(tree)
    return {name: ArrayFacts(jnp.dtype(leaf.dtype).name, tuple(leaf.shape)) for name, leaf in leaves.items()}
