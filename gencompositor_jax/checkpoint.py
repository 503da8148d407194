"""A model on disk: a folder with `model.json` (format, architecture, provenance) and `arrays/` (Orbax).

    arrays = {"backbone": {...}, "branch": {...}, "codec": {...}, "null_text": [L, D]}

Loading is strict: every array that the architecture asks for must be there with its shape, and nothing else.
"""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from gencompositor_jax import arch as arch_lib
from gencompositor_jax import codec, erope
from gencompositor_jax.arch import ModelArch
from gencompositor_jax.denoiser import Denoiser
from gencompositor_jax.errors import InputError

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Model:
    """A loaded model: its facts and its arrays."""

    arch: ModelArch
    arrays: dict[str, Any]  # backbone, branch (each with params and buffers), codec, null_text
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)


def packaged() -> Path:
    """Folder of the embedded tiny model."""
    return Path(__file__).parent / "weights" / "tiny"


def array_shapes(arch: ModelArch) -> dict[str, Any]:
    """The arrays of an architecture as a tree of `jax.ShapeDtypeStruct`; takes no memory."""
    key = jax.random.key(0)
    shapes = dict(jax.eval_shape(Denoiser(arch).init, key))
    shapes["codec"] = jax.eval_shape(lambda k: codec.init_codec(k, arch.codec), key)
    shapes["null_text"] = jax.ShapeDtypeStruct((arch.backbone.text_tokens, arch.backbone.text_dim), jnp.float32)
    return shapes


def save(folder: str | Path, model: Model, dtype: Any = None, overwrite: bool = False) -> None:
    """Writes a model, its floating-point arrays as `dtype` if given. The folder appears whole or not at all.

    Raises InputError if it exists and `overwrite` is False.
    """
    folder = Path(folder)
    if folder.exists() and not overwrite:
        raise InputError(f"{folder}: exists; pass --overwrite or another folder")
    _check_tree(folder, model.arrays, array_shapes(model.arch))
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    arrays = jax.tree.map(np.asarray, model.arrays)
    if dtype is not None:
        arrays = jax.tree.map(lambda x: x.astype(dtype) if np.issubdtype(x.dtype, np.floating) else x, arrays)
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save((part / "arrays").resolve(), arrays)
    facts = {"format": FORMAT, "arch": arch_lib.to_json(model.arch), "provenance": model.provenance}
    (part / "model.json").write_text(json.dumps(facts, indent=2) + "\n")
    if folder.exists():
        shutil.rmtree(folder)
    part.rename(folder)


def read_facts(folder: str | Path) -> tuple[ModelArch, dict[str, Any]]:
    """Architecture and provenance of a checkpoint, without its arrays. Raises InputError for anything that is not one."""
    folder = Path(folder)
    file = folder / "model.json"
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; pass the folder of a checkpoint (it holds model.json and arrays/)")
    if not file.is_file() or not (folder / "arrays").is_dir():
        raise InputError(f"{folder}: not a checkpoint of gencompositor-jax (model.json or arrays/ is missing)")
    try:
        facts = json.loads(file.read_text())
        version, arch = facts["format"], facts["arch"]
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not readable as a checkpoint's facts ({error}); make the checkpoint again") from error
    if version != FORMAT:
        raise InputError(f"{file}: format {version}, this version reads {FORMAT}; convert the checkpoint again")
    return arch_lib.from_json(arch), facts.get("provenance", {})


def load(folder: str | Path, dtype: Any = jnp.float32) -> Model:
    """Reads a model, its floating-point arrays as `dtype`. Raises InputError with the list of what is missing or does not fit."""
    folder = Path(folder)
    arch, provenance = read_facts(folder)
    with ocp.PyTreeCheckpointer() as checkpointer:
        path = (folder / "arrays").resolve()
        stored = checkpointer.metadata(path).item_metadata.tree
        expected = array_shapes(arch)
        _check_tree(folder, stored, expected)
        restore = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), expected)
        arrays = checkpointer.restore(path, ocp.args.PyTreeRestore(item=expected, restore_args=restore))
    arrays = jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, arrays)
    return Model(arch, arrays, provenance)


def at_size(model: Model, frames: int | None = None, height: int | None = None, width: int | None = None) -> Model:
    """The same weights for another clip size: the added position tables are made anew, rotary positions follow by themselves.

    The reference does this silently for another number of frames and refuses another height or width. Raises InputError where the size
    does not fit the architecture.
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
        table = erope.added_positions(indices[name], stack.width, arch.position_scale)
        text = model.arrays[name]["buffers"]["patch_embed"]["positions"][: stack.text_tokens]
        table = jnp.concatenate([jnp.asarray(text), jnp.asarray(table, text.dtype)])
        arrays[name] = {**model.arrays[name], "buffers": {"patch_embed": {"positions": table}}}
    return dataclasses.replace(model, arch=arch, arrays=arrays)


def _check_tree(folder: Path, found: Any, expected: Any) -> None:
    def leaves(tree: Any) -> dict[str, tuple[int, ...]]:
        flat, _ = jax.tree_util.tree_flatten_with_path(tree)
        return {jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape) for path, leaf in flat}

    have, want = leaves(found), leaves(expected)
    problems = [f"missing {name} {want[name]}" for name in sorted(want.keys() - have.keys())]
    problems += [f"unknown {name} {have[name]}" for name in sorted(have.keys() - want.keys())]
    problems += [
        f"{name} is {have[name]}, not {want[name]}" for name in sorted(have.keys() & want.keys()) if have[name] != want[name]
    ]
    if problems:
        raise InputError(f"{folder}: arrays do not fit the architecture: " + "; ".join(problems))
