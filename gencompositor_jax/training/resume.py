"""Reads the newest intact checkpoint of a run, onto any mesh.

Orbax restores flipped bits and casts types without an error, so a checkpoint is compared with its hashes and
with the arrays that are asked for. One without hashes was left by a process that was killed after the
renaming and before the hashing: it was complete then, so it is read without them.

With several processes every function here is called by all of them, on one shared folder.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from gencompositor_jax import checkpoints, fields
from gencompositor_jax.checkpoints import manifest
from gencompositor_jax.checkpoints.manifest import ArraySpec
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import check_regular_below
from gencompositor_jax.multihost import processes_where
from gencompositor_jax.training import partition

SHOWN = 12  # differing arrays in an error message
LONGEST = 300  # characters of another library's error in a message

Leaves = Mapping[str, Any]  # arrays, or their shapes, types and shardings, by their paths a/b/c


# The JSON values beside the arrays; `batch_size` and `echo` are missing in those of earlier versions.
_DATA = fields.schema(
    "Data",
    extra="ignore",
    next_batch=Annotated[fields.Whole, fields.within(0)],
    batch_size=(fields.Count, None),
    echo=(fields.Count, None),
    unreported=list[dict[str, Any]],
)


class Restored(NamedTuple):
    """A checkpoint: its step, the state as a tree like the one asked for, and the JSON values of `data`."""

    step: int
    state: Any
    data: dict[str, Any]


class _DamagedError(Exception):
    """A checkpoint can't be read; the text has the reason. `report`: whether this process prints it."""

    def __init__(self, reason: str, report: bool) -> None:
        super().__init__(reason)
        self.report = report


def saved_steps(folder: str | Path) -> list[int]:
    """The steps with a checkpoint in a folder, intact or damaged, in ascending order."""
    folder = Path(folder)
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def newest_intact(folder: Path, like: Any) -> tuple[Restored | None, list[int]]:
    """The newest checkpoint that can be read (None if there is no checkpoint) and the newer, damaged steps.

    Prints a warning on stderr for each damaged one.

    Args:
        folder: of the run's checkpoints.
        like: a tree of arrays, or of jax.ShapeDtypeStructs with shardings.

    Raises:
        InputError: the checkpoint has other arrays than `like` (with the list), or all are damaged.
    """
    damaged: dict[int, _DamagedError] = {}
    for step in _of_first_process(saved_steps(folder)[::-1]):
        try:
            leaves, data = _read(folder / str(step), checkpoints.named_leaves(like))
        except _DamagedError as error:
            damaged[step] = error
            continue
        for newer, damage in damaged.items():
            if damage.report:
                warning = (
                    f"{folder}/{newer}: this checkpoint is damaged ({damage}); resuming from step {step}"
                )
                print(f"WARNING: {warning}", file=sys.stderr, flush=True)
        return Restored(step, _with_leaves(like, leaves), data), list(damaged)
    if not damaged:
        return None, []
    reasons = "; ".join(f"{step}: {damage}" for step, damage in damaged.items())
    raise InputError(
        f"{folder}: all checkpoints are damaged ({reasons}); pass another --workdir to start anew"
    )


def _read(folder: Path, wanted: Leaves) -> tuple[Leaves, dict[str, Any]]:
    """Arrays and JSON values of one checkpoint. Raises InputError, or _DamagedError on all processes."""
    hashes, problem = None, None
    try:
        check_regular_below(folder)
        hashes = manifest.read(folder)
        if hashes is not None:  # small files and sizes first, to report early what doesn't fit
            manifest.verify(folder, hashes, hash_up_to=manifest.SMALL_FILE)
        stored = _stored(folder)
        data = fields.given(fields.read(_DATA, ocp.JsonCheckpointHandler().restore(folder / "data")))
    except Exception as error:  # Orbax has no error class of its own for a damaged folder
        problem = _shorten(folder, error)
    _raise_on_all_processes(problem)
    _check_fit(folder, stored, wanted)
    if hashes is not None:
        try:
            manifest.verify(folder, hashes, shard=(jax.process_index(), jax.process_count()))
        except (OSError, InputError) as error:
            problem = _shorten(folder, error)
        _raise_on_all_processes(problem)
    try:
        leaves = _read_arrays(folder / "state", wanted)
    except Exception as error:
        if hashes is not None:
            raise  # the files are intact: the cause is another one, such as memory
        problem = _shorten(folder, error)
    _raise_on_all_processes(problem)
    return leaves, data


def _stored(folder: Path) -> dict[str, ArraySpec]:
    return checkpoints.array_specs(ocp.PyTreeCheckpointHandler().metadata(folder / "state").tree)


def _read_arrays(folder: Path, wanted: Leaves) -> Leaves:
    """Read the wanted arrays with their shardings; each process reads its own shards.

    Uses Orbax's handler alone: its manager would wait for processes that have found the checkpoint damaged.
    """
    tree = partition.unflatten(
        {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in wanted.items()}
    )
    restore_args = partition.unflatten(
        {
            name: ocp.ArrayRestoreArgs(sharding=leaf.sharding, global_shape=leaf.shape, dtype=leaf.dtype)
            for name, leaf in wanted.items()
        }
    )
    arguments = ocp.args.PyTreeRestore(item=tree, restore_args=restore_args)
    return partition.flatten(ocp.PyTreeCheckpointHandler().restore(folder, args=arguments))


def _check_fit(folder: Path, stored: Mapping[str, ArraySpec], wanted: Leaves) -> None:
    """Raise InputError with the arrays that differ in type or shape, are missing, or are not wanted."""
    expected = {name: ArraySpec(leaf.dtype.name, tuple(leaf.shape)) for name, leaf in wanted.items()}
    problems = [
        f"{name} is {_format(stored[name])}, not {_format(expected[name])}"
        for name in expected
        if name in stored and stored[name] != expected[name]
    ]
    problems += [f"{name} {_format(expected[name])} is missing" for name in expected if name not in stored]
    problems += [f"{name} {_format(stored[name])} is unexpected" for name in stored if name not in expected]
    if problems:
        shown = "; ".join(problems[:SHOWN])
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise InputError(
            f"{folder}: {len(problems)} arrays of this checkpoint differ from the config's: {shown}{more}; "
            "pass another --workdir, or the config that it was made with"
        )


def _format(spec: ArraySpec) -> str:
    return f"{spec.dtype}{list(spec.shape)}"


def _with_leaves(like: Any, leaves: Leaves) -> Any:
    """The tree `like` with other leaves, by their paths."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: leaves[jax.tree_util.keystr(path, simple=True, separator="/")], like
    )


def _of_first_process(steps: list[int]) -> list[int]:
    """The list that the first process has, on all processes."""
    if jax.process_count() == 1:
        return steps
    count = int(multihost_utils.broadcast_one_to_all(np.int32(len(steps))))
    padded = np.array((steps + [0] * count)[:count], np.int32)
    return [int(step) for step in multihost_utils.broadcast_one_to_all(padded)]


def _raise_on_all_processes(problem: str | None) -> None:
    """Raise _DamagedError on all processes if one has a problem."""
    if failing := processes_where(problem is not None):
        reason = problem or f"process {failing[0]} can't read it"
        raise _DamagedError(reason, report=jax.process_index() in (0, failing[0]))


def _shorten(folder: Path, error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    text = text.removeprefix(f"{folder}: damaged: ").removesuffix("; copy or convert the checkpoint again")
    return text if len(text) <= LONGEST else text[:LONGEST] + "..."
