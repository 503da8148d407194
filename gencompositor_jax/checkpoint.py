"""A model on disk: a folder with `model.json` (format, architecture, names of prompts, provenance), `arrays/`
(Orbax) and `manifest.json` (hashes of all that).

    arrays = {"backbone": {...}, "branch": {...}, "codec": {...}, "null_text": [L, D],
              "prompts": {name: [L, D]}}    # only where prompts are stored

Loading is strict: every array that the architecture asks for must be there with its shape and the type it was
written with, and nothing else. Checkpoints without a manifest load, too, unverified.
"""

import contextlib
import dataclasses
import functools
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from gencompositor_jax import arch as arch_lib
from gencompositor_jax import codec, erope, manifest
from gencompositor_jax.arch import ModelArch
from gencompositor_jax.denoiser import Denoiser
from gencompositor_jax.errors import InputError
from gencompositor_jax.manifest import ArrayFacts

FORMAT = 1
SMALL = 2**20  # numbers: an array with fewer is not worth cutting for a mesh


@dataclasses.dataclass(frozen=True)
class Model:
    """A loaded model: its facts and its arrays."""

    arch: ModelArch
    arrays: dict[str, Any]  # backbone, branch (each with params and buffers), codec, null_text
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)
    prompts: dict[str, Any] = dataclasses.field(default_factory=dict)  # text embeddings [L, D] by name


@dataclasses.dataclass(frozen=True)
class Facts:
    """What `model.json` says."""

    arch: ModelArch
    provenance: dict[str, Any]
    prompts: tuple[str, ...] = ()  # names of the stored prompts; their texts are in the provenance


def packaged() -> Path:
    """Folder of the embedded tiny model."""
    return Path(__file__).parent / "weights" / "tiny"


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


@contextlib.contextmanager
def new_folder(folder: Path, overwrite: bool = False) -> Iterator[Path]:
    """A folder under a temporary name beside `folder`, which takes its name when the block ends well.

    What an earlier, killed writer left under that name is thrown away. Raises InputError if `folder` exists
    and `overwrite` is False, or where nothing can be written; then, as after any error, nothing is left.
    """
    if folder.exists() and not overwrite:
        raise InputError(f"{folder}: exists; pass --overwrite or another folder")
    part, old = (folder.with_name(folder.name + ending) for ending in (".part", ".old"))
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        part.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except Exception as error:
        if (reason := disk_says(error)) is None:
            raise
        raise InputError(f"{folder}: can't be written ({reason})") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def disk_says(error: Exception) -> str | None:
    """The operating system's reason for an error; None if it is of another kind."""
    if isinstance(error, OSError) and not isinstance(error, TimeoutError):
        return error.strerror or str(error)
    found = re.search(r"([^:]*) \[os_error_code=", str(error))  # TensorStore's errors have nothing but a text
    return found[1].strip() if found else None


def save(folder: str | Path, model: Model, dtype: Any = None, overwrite: bool = False) -> None:
    """Writes a model, its floating-point arrays as `dtype` if given. The folder appears whole or not at all.

    With several processes all of them call this, with one folder that they share, and each writes its shares
    of the arrays. Raises InputError if the folder exists and `overwrite` is False, if the arrays do not fit
    the architecture, or if the disk is full.
    """
    folder = Path(folder)
    tree = model.arrays | ({"prompts": model.prompts} if model.prompts else {})
    _check_tree(folder, named_leaves(tree), named_leaves(array_shapes(model.arch, model.prompts)))
    # What other processes hold shares of stays on the devices: Orbax fetches this process's.
    arrays = jax.tree.map(lambda x: np.asarray(x) if _is_here(x) else x, tree)
    if dtype is not None:
        arrays = jax.tree.map(lambda x: x.astype(dtype) if _is_float(x) else x, arrays)
    with _new_shared_folder(folder, overwrite) as part:
        with ocp.PyTreeCheckpointer() as checkpointer:
            checkpointer.save((part / "arrays").resolve(), arrays)
        if jax.process_index() == 0:
            # A note for object stores, where folders can't be renamed; it names a folder that is gone then.
            (part / "arrays" / "commit_success.txt").unlink(missing_ok=True)
            write_facts(part, Facts(model.arch, model.provenance, tuple(model.prompts)))
            manifest.write(part, facts_of(arrays))


@contextlib.contextmanager
def _new_shared_folder(folder: Path, overwrite: bool) -> Iterator[Path]:
    """`new_folder` for all processes together: the first makes it and renames it, the others wait for it."""
    part, problem = folder.with_name(folder.name + ".part"), None
    try:
        with contextlib.ExitStack() as stack:
            try:
                if jax.process_index() == 0:
                    part = stack.enter_context(new_folder(folder, overwrite))
            except InputError as error:
                problem = error
            agree(problem)
            yield part
    except InputError as error:
        problem = error
    agree(problem)  # the folder has its name when any process goes on


def processes_where(condition: bool) -> list[int]:
    """The numbers of the processes on which a condition holds; each calls this and waits for the others."""
    held = multihost_utils.process_allgather(np.asarray(condition))
    return [int(process) for process in np.flatnonzero(held)]


def agree(problem: InputError | None = None) -> None:
    """Goes on when all processes have come here. Raises `problem`, and InputError where another has one."""
    failing = processes_where(problem is not None)
    if problem is not None:
        raise problem
    if failing:
        raise InputError(f"process {failing[0]} of {jax.process_count()} has failed: see what it says")


def write_facts(folder: Path, facts: Facts) -> None:
    """Writes `model.json`."""
    fields = {
        "format": FORMAT,
        "arch": arch_lib.to_json(facts.arch),
        "prompts": facts.prompts,
        "provenance": facts.provenance,
    }
    (folder / "model.json").write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")


def read_facts(folder: str | Path) -> tuple[ModelArch, dict[str, Any]]:
    """Architecture and provenance of a checkpoint, without its arrays; `all_facts` has the prompts, too."""
    facts = all_facts(folder)
    return facts.arch, facts.provenance


def all_facts(folder: str | Path) -> Facts:
    """What a checkpoint says of itself, without its arrays. Raises InputError for what is none."""
    folder = Path(folder)
    file = folder / "model.json"
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; pass the folder of a checkpoint (it holds model.json and arrays/)"
        )
    if not file.is_file() or not (folder / "arrays").is_dir():
        raise InputError(
            f"{folder}: not a checkpoint of gencompositor-jax (model.json or arrays/ is missing)"
        )
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
        version, arch = fields["format"], fields["arch"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file}: not readable as a checkpoint's facts ({error}); make the checkpoint again"
        ) from error
    if version != FORMAT:
        raise InputError(
            f"{file}: format {version}, this version reads {FORMAT}; convert the checkpoint again"
        )
    return Facts(arch_lib.from_json(arch), fields.get("provenance", {}), tuple(fields.get("prompts", ())))


def stored_arrays(folder: str | Path) -> dict[str, ArrayFacts]:
    """Type and shape of every array of a checkpoint by its path, checked against architecture and manifest.

    Reads no array. Raises InputError with the list of arrays that are missing, unknown, or of another shape
    or type.
    """
    folder = Path(folder)
    facts, written = all_facts(folder), manifest.read(folder)
    try:
        with ocp.PyTreeCheckpointer() as checkpointer:
            tree = checkpointer.metadata((folder / "arrays").resolve()).item_metadata.tree
        found = facts_of(tree)
    except Exception as error:  # Orbax has no error of its own for a damaged folder
        raise InputError(
            f"{folder}/arrays: damaged ({error}); copy or convert the checkpoint again"
        ) from error
    expected = named_leaves(array_shapes(facts.arch, facts.prompts))
    _check_tree(folder, found, expected, None if written is None else written.arrays)
    return found


def load(folder: str | Path, dtype: Any = jnp.float32, verify: bool | None = None) -> Model:
    """Reads a model as NumPy arrays, those of floating-point numbers as `dtype` (None keeps what is stored).

    verify: compare the files with their manifest; None does what costs little: all of a small checkpoint, the
    small files and all sizes of a large one. Raises InputError with the list of what is missing or does not
    fit. See `restore.load_sharded` for a mesh.
    """
    folder = Path(folder)
    facts, stored = checked(folder, verify)
    expected = array_shapes(facts.arch, facts.prompts)

    def restore_args(path: Any, _: Any) -> ocp.RestoreArgs:
        leaf = stored[jax.tree_util.keystr(path, simple=True, separator="/")]
        target = dtype if dtype is not None and jnp.issubdtype(leaf.dtype, jnp.floating) else leaf.dtype
        return ocp.RestoreArgs(restore_type=np.ndarray, dtype=jnp.dtype(target))

    wanted = ocp.args.PyTreeRestore(
        item=expected, restore_args=jax.tree_util.tree_map_with_path(restore_args, expected)
    )
    try:
        with ocp.PyTreeCheckpointer() as checkpointer:
            arrays = checkpointer.restore((folder / "arrays").resolve(), wanted)
    except Exception as error:  # Orbax has no error of its own for a damaged folder
        raise InputError(
            f"{folder}/arrays: can't be read ({error}); see `gencompositor inspect --verify`"
        ) from error
    prompts = arrays.pop("prompts", {})
    return Model(facts.arch, arrays, facts.provenance, prompts)


def checked(folder: Path, verify: bool | None = None) -> tuple[Facts, dict[str, ArrayFacts]]:
    """What is known of a checkpoint before its arrays are read; raises all errors of `load` but a
    failing disk.
    """
    facts, written = all_facts(folder), manifest.read(folder)
    if verify and written is None:
        raise InputError(f"{folder}: has no {manifest.NAME} to verify it with; convert or save it again")
    if written is not None and verify is not False:
        manifest.verify(folder, written) if verify else manifest.verify_cheaply(folder, written)
    return facts, stored_arrays(folder)


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


@functools.lru_cache(maxsize=8)
def _weight_shapes(arch: ModelArch) -> dict[str, Any]:
    """Networks and codec; tracing them takes a second, and several steps of loading ask for it."""
    key = jax.random.key(0)
    shapes = dict(jax.eval_shape(Denoiser(arch).init, key))
    return {**shapes, "codec": jax.eval_shape(lambda k: codec.init_codec(k, arch.codec), key)}


def check_prompt(name: str | None, stored: Iterable[str]) -> None:
    """Raises InputError unless a prompt of that name is stored; None is the empty prompt."""
    known = sorted(stored)
    if name is not None and name not in known:
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise InputError(
            f"prompt {name!r}: not stored in the checkpoint ({has}); convert it with --prompt {name}=..."
        )


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a nested dict by their paths, a/b/c."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in flat}


def facts_of(tree: Any) -> dict[str, ArrayFacts]:
    """Type and shape of every leaf by its path."""
    leaves = named_leaves(tree)
    return {name: ArrayFacts(jnp.dtype(leaf.dtype).name, tuple(leaf.shape)) for name, leaf in leaves.items()}


def _is_here(x: Any) -> bool:
    return not isinstance(x, jax.Array) or x.is_fully_addressable


def _is_float(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating)


def _check_tree(
    folder: Path,
    found: Mapping[str, Any],
    expected: Mapping[str, Any],
    written: Mapping[str, ArrayFacts] | None = None,
) -> None:
    """Raises InputError with all differences between leaves (of a dtype and shape) and what is expected."""
    have, want = ({name: tuple(leaf.shape) for name, leaf in leaves.items()} for leaves in (found, expected))
    problems = [f"missing {name} {want[name]}" for name in sorted(want.keys() - have.keys())]
    problems += [f"unknown {name} {have[name]}" for name in sorted(have.keys() - want.keys())]
    both = sorted(have.keys() & want.keys())
    problems += [f"{name} is {have[name]}, not {want[name]}" for name in both if have[name] != want[name]]
    for name in both:
        dtype = jnp.dtype(found[name].dtype).name
        if written is not None and name in written and dtype != written[name].dtype:
            problems.append(f"{name} is of type {dtype}, not {written[name].dtype} as it was written")
        elif not jnp.issubdtype(dtype, jnp.floating):
            problems.append(f"{name} is of type {dtype}, not a floating-point type")
    if problems:
        raise InputError(f"{folder}: arrays do not fit the architecture: " + "; ".join(problems))
