"""A model on disk: a folder with `model.json` (format, architecture, names of prompts, provenance), `arrays/`
(Orbax) and `manifest.json` (hashes of all that).

Loading is strict: every array that the architecture asks for must be there with its shape and the type it was
written with, and nothing else. Checkpoints without a manifest load, too, unverified.
"""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from gencompositor_jax import arch as arch_lib
from gencompositor_jax.arch import ModelArch
from gencompositor_jax.checkpoints import manifest
from gencompositor_jax.checkpoints.manifest import ArrayFacts
from gencompositor_jax.checkpoints.model import Model, array_shapes, facts_of, named_leaves
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import atomic_folder
from gencompositor_jax.multihost import agree, from_first

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Facts:
    """What `model.json` says."""

    arch: ModelArch
    provenance: dict[str, Any]
    prompts: tuple[str, ...] = ()  # names of the stored prompts; their texts are in the provenance


def packaged() -> Path:
    """Folder of the embedded tiny model."""
    return Path(__file__).parent.parent / "weights" / "tiny"


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
    with _shared_folder(folder, overwrite) as part:
        with ocp.PyTreeCheckpointer() as checkpointer:
            checkpointer.save((part / "arrays").resolve(), arrays)
        if jax.process_index() == 0:
            # A note for object stores, where folders can't be renamed; it names a folder that is gone then.
            (part / "arrays" / "commit_success.txt").unlink(missing_ok=True)
            write_facts(part, Facts(model.arch, model.provenance, tuple(model.prompts)))
            manifest.write(part, facts_of(arrays))


@contextlib.contextmanager
def _shared_folder(folder: Path, overwrite: bool) -> Iterator[Path]:
    """`atomic_folder` for all processes together: the first creates and renames it, the others wait."""
    part, problem = folder, None
    try:
        with contextlib.ExitStack() as stack:
            try:
                if jax.process_index() == 0:
                    part = stack.enter_context(atomic_folder(folder, overwrite))
            except InputError as error:
                problem = error
            agree(problem)
            yield folder.with_name(from_first(part.name))
    except InputError as error:
        problem = error
    # No process returns before the folder has its name.
    agree(problem)


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
