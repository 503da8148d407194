"""A model on disk: a folder with `model.json` (format, architecture, names of prompts, provenance), `arrays/`
(Orbax) and `manifest.json` (hashes of both).

Loading is strict: the arrays must be exactly those of the architecture, with their shapes and with the types
in the manifest. Checkpoints without a manifest load unverified.
"""

import contextlib
import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from gencompositor_jax import arch as arch_lib
from gencompositor_jax import fields
from gencompositor_jax.arch import ModelArch
from gencompositor_jax.checkpoints import manifest
from gencompositor_jax.checkpoints.manifest import ArraySpec
from gencompositor_jax.checkpoints.model import Model, array_shapes, array_specs, named_leaves
from gencompositor_jax.errors import DifferencesError, InputError
from gencompositor_jax.fields import Text, Whole, length
from gencompositor_jax.files import atomic_folder, check_local, check_regular_below, read_json
from gencompositor_jax.multihost import agree, from_first

FORMAT = 1
# Arrays may state at most so many times the bytes of their files: zeros compress well, weights hardly.
MAX_COMPRESSION, SMALL_ARRAYS = 64, 64 * 2**20
# The fields of model.json; `arch.from_json` reads the architecture.
_FILE = fields.schema(
    "Metadata",
    format=Whole,
    arch=Any,
    prompts=(Annotated[tuple[Text, ...], length(0, 10_000)], ()),
    provenance=(dict[str, Any], {}),
)


@dataclasses.dataclass(frozen=True)
class Metadata:
    """The content of `model.json`."""

    arch: ModelArch
    provenance: dict[str, Any]
    prompts: tuple[str, ...] = ()  # names of the stored text embeddings; the texts are in the provenance


def packaged() -> Path:
    """Folder of the embedded model."""
    return Path(__file__).parent.parent / "weights" / "embedded"


def save(folder: str | Path, model: Model, dtype: Any = None, overwrite: bool = False) -> None:
    """Write a model atomically, its floating-point arrays as `dtype` if given.

    In a multi-process run all processes call this with one shared folder, and each writes its own shards.
    Raises InputError if the folder exists and `overwrite` is False, if the arrays do not fit the
    architecture, or if the disk is full.
    """
    folder = Path(folder)
    tree = model.arrays | ({"prompts": model.prompts} if model.prompts else {})
    _check_tree(folder, named_leaves(tree), named_leaves(array_shapes(model.arch, model.prompts)))
    # Arrays with shards on other processes stay on the devices: Orbax fetches this process's shards.
    arrays = jax.tree.map(lambda x: np.asarray(x) if _is_addressable(x) else x, tree)
    if dtype is not None:
        arrays = jax.tree.map(lambda x: x.astype(dtype) if _is_float(x) else x, arrays)
    with _shared_folder(folder, overwrite) as part:
        with ocp.PyTreeCheckpointer() as checkpointer:
            checkpointer.save((part / "arrays").resolve(), arrays)
        if jax.process_index() == 0:
            # A marker for object stores, where folders can't be renamed. It holds the temporary name.
            (part / "arrays" / "commit_success.txt").unlink(missing_ok=True)
            write_metadata(part, Metadata(model.arch, model.provenance, tuple(model.prompts)))
            manifest.write(part, array_specs(arrays))


@contextlib.contextmanager
def _shared_folder(folder: Path, overwrite: bool) -> Iterator[Path]:
    """`atomic_folder` on all processes: the first creates and renames it, the others wait."""
    part, problem = folder, None
    try:
        with contextlib.ExitStack() as stack:
            try:
                if jax.process_index() == 0:
                    part = stack.enter_context(atomic_folder(folder, overwrite))
            except InputError as error:
                problem = error
            agree(problem)
            yield folder.absolute().with_name(from_first(part.name))
    except InputError as error:
        problem = error
    # No process returns before the folder has its name.
    agree(problem)


def write_metadata(folder: Path, metadata: Metadata) -> None:
    """Write `model.json`."""
    described = {
        "format": FORMAT,
        "arch": arch_lib.to_json(metadata.arch),
        "prompts": metadata.prompts,
        "provenance": metadata.provenance,
    }
    (folder / "model.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def read_metadata(folder: str | Path) -> Metadata:
    """Read `model.json`. Raises InputError for a folder that isn't a checkpoint."""
    check_local(folder)
    folder = Path(folder)
    file = folder / "model.json"
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; pass the folder of a checkpoint (it holds model.json and arrays/)"
        )
    if not file.exists() or not (folder / "arrays").is_dir():
        raise InputError(
            f"{folder}: not a checkpoint of gencompositor-jax (model.json or arrays/ is missing)"
        )
    try:
        found: Any = fields.read(_FILE, read_json(file), str(file))
    except InputError as error:
        raise InputError(f"{error}; not readable as a checkpoint's metadata") from error
    if found.format != FORMAT:
        raise InputError(
            f"{file}: format {fields.shown(found.format)}, this version reads {FORMAT}; convert it again"
        )
    return Metadata(arch_lib.from_json(found.arch, f"{file}: arch"), found.provenance, found.prompts)


def stored_specs(folder: str | Path) -> dict[str, ArraySpec]:
    """Type and shape of every array by its path, compared with the architecture and the manifest.

    Reads no array. Raises InputError with the list of arrays that are missing, unexpected, or of another
    shape or type.
    """
    folder = Path(folder)
    metadata, written = read_metadata(folder), manifest.read(folder)
    found = _found(folder)
    check_sizes(folder, metadata.arch, found)
    expected = named_leaves(array_shapes(metadata.arch, metadata.prompts))
    _check_tree(folder, found, expected, None if written is None else written.arrays)
    return found


def check_sizes(folder: Path, arch: ModelArch, found: Mapping[str, ArraySpec] | None = None) -> None:
    """Raise InputError where the sizes in model.json aren't those of the arrays.

    Computes no shapes, which would allocate tables of the stated size. found: of the arrays, if known.
    """
    found = _found(folder) if found is None else found
    t, rows, columns = arch.token_grid
    tokens, text = t * rows * columns, arch.backbone.text_tokens
    streams = 1 if arch.fusion == "channels" else 2
    layers = "params/blocks/norm1/linear/bias"
    wanted = {
        "backbone/buffers/patch_embed/positions": (text + streams * tokens, arch.backbone.width),
        "branch/buffers/patch_embed/positions": (text + tokens, arch.branch.width),
        f"backbone/{layers}": (arch.backbone.num_layers, None),
        f"branch/{layers}": (arch.branch.num_layers, None),
        "null_text": (text, arch.backbone.text_dim),
    }
    problems = [
        f"{name} is {found[name].shape}, not {shape}"
        for name, shape in wanted.items()
        if name in found
        and not (
            len(found[name].shape) == len(shape)
            and all(want in (None, have) for have, want in zip(found[name].shape, shape, strict=True))
        )
    ]
    if problems:
        raise DifferencesError(f"{folder}: arrays do not fit the architecture", problems)


def _found(folder: Path) -> dict[str, ArraySpec]:
    """Type and shape of every array. Raises InputError where files can't hold what they state."""
    check_regular_below(folder / "arrays")
    try:
        with ocp.PyTreeCheckpointer() as checkpointer:
            tree = checkpointer.metadata((folder / "arrays").resolve()).item_metadata.tree
        found = array_specs(tree)
        stated = sum(math.prod(each.shape) * jnp.dtype(each.dtype).itemsize for each in found.values())
    except Exception as error:  # Orbax has no error class of its own for a damaged folder
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{folder}/arrays: damaged ({reason}); copy or convert the checkpoint again"
        ) from error
    held = sum(path.stat().st_size for path in (folder / "arrays").rglob("*") if path.is_file())
    if stated > MAX_COMPRESSION * held + SMALL_ARRAYS:
        raise InputError(
            f"{folder}/arrays: damaged (arrays of {stated:.3g} bytes are stated, the files have {held:.3g}); "
            "copy the checkpoint again"
        )
    return found


def load(folder: str | Path, dtype: Any = jnp.float32, verify: bool | None = None) -> Model:
    """Read a model as NumPy arrays; floating-point ones as `dtype`, or with their stored type if it is None.

    verify: compare the files with the manifest. None compares what is fast to read: all of a small
    checkpoint, the sizes and the small files of a large one. Raises InputError with the list of what is
    missing or does not fit. See `restore.load_sharded` for a mesh.
    """
    folder = Path(folder)
    metadata, stored = validate(folder, verify)
    expected = array_shapes(metadata.arch, metadata.prompts)

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
    except Exception as error:  # Orbax has no error class of its own for a damaged folder
        raise InputError(
            f"{folder}/arrays: can't be read ({error}); see `gencompositor inspect --verify`"
        ) from error
    prompts = arrays.pop("prompts", {})
    return Model(metadata.arch, arrays, metadata.provenance, prompts)


def validate(folder: Path, verify: bool | None = None) -> tuple[Metadata, dict[str, ArraySpec]]:
    """Check a checkpoint as `load` does, without reading its arrays into memory."""
    metadata, written = read_metadata(folder), manifest.read(folder)
    if verify and written is None:
        raise InputError(f"{folder}: has no {manifest.NAME} to verify it with; convert or save it again")
    if written is not None and verify is not False:
        manifest.verify(folder, written) if verify else manifest.quick_verify(folder, written)
    return metadata, stored_specs(folder)


def _is_addressable(x: Any) -> bool:
    return not isinstance(x, jax.Array) or x.is_fully_addressable


def _is_float(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating)


def _check_tree(
    folder: Path,
    found: Mapping[str, Any],
    expected: Mapping[str, Any],
    written: Mapping[str, ArraySpec] | None = None,
) -> None:
    """Raise InputError with all differences in path, shape or type between two sets of arrays."""
    have, want = ({name: tuple(leaf.shape) for name, leaf in leaves.items()} for leaves in (found, expected))
    problems = [f"missing {name} {want[name]}" for name in sorted(want.keys() - have.keys())]
    problems += [f"unexpected {name} {have[name]}" for name in sorted(have.keys() - want.keys())]
    both = sorted(have.keys() & want.keys())
    problems += [f"{name} is {have[name]}, not {want[name]}" for name in both if have[name] != want[name]]
    for name in both:
        dtype = jnp.dtype(found[name].dtype).name
        if written is not None and name in written and dtype != written[name].dtype:
            problems.append(f"{name} is of type {dtype}, not {written[name].dtype} as in the manifest")
        elif not jnp.issubdtype(dtype, jnp.floating):
            problems.append(f"{name} is of type {dtype}, not a floating-point type")
    if problems:
        raise DifferencesError(f"{folder}: arrays do not fit the architecture", problems)
