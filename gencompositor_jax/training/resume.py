"""Reading the checkpoints of a run: the newest whole one, onto any mesh.

Orbax returns flipped bits silently and casts types silently, so a checkpoint is compared with its hashes and
with what is asked for. One without hashes was left by a process that was killed between its renaming and its
hashing: it was whole then, and is read all the same.

With several processes every function here is called by all of them, and they share the folder.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from gencompositor_jax import checkpoints
from gencompositor_jax.checkpoints import manifest
from gencompositor_jax.checkpoints.manifest import ArrayFacts
from gencompositor_jax.errors import InputError
from gencompositor_jax.multihost import processes_where
from gencompositor_jax.training import partition

SHOWN = 12  # differing arrays in an error message
LONGEST = 300  # characters of a foreign error in a message

Leaves = Mapping[str, Any]  # arrays, or their shapes, types and shardings, by their paths a/b/c


class Restored(NamedTuple):
    """What a run goes on from: a tree like the one asked for, and where the data stand."""

    step: int
    state: Any
    data: dict[str, Any]


class _Broken(Exception):
    """A checkpoint can't be read; the text says why. `said_here`: it is for this process to tell people."""

    def __init__(self, why: str, said_here: bool) -> None:
        super().__init__(why)
        self.said_here = said_here


def steps(folder: str | Path) -> list[int]:
    """The steps that are saved in a folder, in rising order, whole or broken."""
    folder = Path(folder)
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def partial(folder: str | Path, like: Any, regex: str) -> Any:
    """Starts from another run: `like` with some arrays read from the newest whole checkpoint in a folder.

    like: the state that was saved, or a part of it from the root on, of arrays or of jax.ShapeDtypeStructs
    with shardings. regex: looked for in paths such as "ema/backbone/blocks/attention/query/kernel"; leaves
    that it isn't found in stay what they are. Nothing is changed in the folder. Raises InputError if it holds
    no checkpoint, if the expression matches nothing, or with the list of arrays that are missing or differ.
    """
    folder = Path(folder).absolute()
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise InputError(f"{regex!r}: not a regular expression ({error})") from error
    leaves = checkpoints.named_leaves(like)
    wanted = {name: leaf for name, leaf in leaves.items() if pattern.search(name)}
    if not wanted:
        raise InputError(f"{regex!r}: matches none of {len(leaves)} arrays such as {next(iter(leaves), '')}")
    found, _ = newest_whole(folder, partition.unflatten(wanted), exact=False)
    if found is None:
        raise InputError(f"{folder}: no checkpoints; pass the folder of a training run's checkpoints")
    return _with_leaves(like, {**leaves, **partition.flatten(found.state)})


def newest_whole(folder: Path, like: Any, exact: bool = True) -> tuple[Restored | None, list[int]]:
    """The newest checkpoint that can be read, and the broken ones after it; None if there are no checkpoints.

    like: a tree of jax.ShapeDtypeStructs with shardings, or of arrays. exact: the checkpoint must hold these
    arrays and no more. Says on stderr what is passed over. Raises InputError with the list of arrays that
    differ, or if all checkpoints are broken.
    """
    broken: dict[int, _Broken] = {}
    for step in _agreed(steps(folder)[::-1]):
        try:
            leaves, data = _read(folder / str(step), checkpoints.named_leaves(like), exact)
        except _Broken as error:
            broken[step] = error
            continue
        for other, why in broken.items():
            said = f"{folder}/{other}: this checkpoint is broken ({why}); going back to step {step}"
            if why.said_here:
                print(f"WARNING: {said}", file=sys.stderr, flush=True)
        return Restored(step, _with_leaves(like, leaves), data), list(broken)
    if not broken:
        return None, []
    reasons = "; ".join(f"{step}: {why}" for step, why in broken.items())
    raise InputError(
        f"{folder}: all checkpoints are broken ({reasons}); pass another --workdir to start anew"
    )


def _read(where: Path, wanted: Leaves, exact: bool) -> tuple[Leaves, dict[str, Any]]:
    """Arrays and data of one checkpoint. Raises _Broken, on all processes alike, or InputError."""
    hashes, problem = None, None
    try:
        hashes = manifest.read(where)
        if hashes is not None:  # small files and sizes first: what doesn't fit should be said early
            manifest.verify(where, hashes, hash_up_to=manifest.SMALL_FILE)
        stored = _stored(where)
        data = ocp.JsonCheckpointHandler().restore(where / "data")
    except Exception as error:  # Orbax has no error of its own for a damaged folder
        problem = _brief(where, error)
    _fail_together(problem)
    _check_fit(where, stored, wanted, exact)
    if hashes is not None:
        try:
            manifest.verify(where, hashes, share=(jax.process_index(), jax.process_count()))
        except (OSError, InputError) as error:
            problem = _brief(where, error)
        _fail_together(problem)
    try:
        leaves = _read_arrays(where / "state", wanted)
    except Exception as error:
        if hashes is not None:
            raise  # it is whole; what fails is something else, such as memory
        problem = _brief(where, error)
    _fail_together(problem)
    return leaves, data


def _stored(where: Path) -> dict[str, ArrayFacts]:
    return checkpoints.facts_of(ocp.PyTreeCheckpointHandler().metadata(where / "state").tree)


def _read_arrays(where: Path, wanted: Leaves) -> Leaves:
    """The wanted arrays onto the devices that they are wanted on: each process reads its shares.

    By Orbax's handler alone: its manager would wait for processes that have found the checkpoint broken.
    """
    tree = partition.unflatten(
        {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in wanted.items()}
    )
    how = partition.unflatten(
        {
            name: ocp.ArrayRestoreArgs(sharding=leaf.sharding, global_shape=leaf.shape, dtype=leaf.dtype)
            for name, leaf in wanted.items()
        }
    )
    arguments = ocp.args.PyTreeRestore(item=tree, restore_args=how, partial_restore=True)
    return partition.flatten(ocp.PyTreeCheckpointHandler().restore(where, args=arguments))


def _check_fit(where: Path, stored: Mapping[str, ArrayFacts], wanted: Leaves, exact: bool) -> None:
    """Raises InputError with the arrays that a checkpoint holds in another form, lacks, or has too many."""
    asked = {name: ArrayFacts(leaf.dtype.name, tuple(leaf.shape)) for name, leaf in wanted.items()}
    both = [name for name in asked if name in stored]
    problems = [
        f"{name} is {_form(stored[name])}, not {_form(asked[name])}"
        for name in both
        if stored[name] != asked[name]
    ]
    problems += [f"{name} {_form(asked[name])} is missing" for name in asked if name not in stored]
    if exact:
        problems += [f"{name} {_form(stored[name])} is too many" for name in stored if name not in asked]
    if problems:
        shown = "; ".join(problems[:SHOWN])
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise InputError(
            f"{where}: {len(problems)} arrays of this checkpoint differ from the config's: {shown}{more}; "
            "pass another --workdir, or the config that it was made with"
        )


def _form(facts: ArrayFacts) -> str:
    return f"{facts.dtype}{list(facts.shape)}"


def _with_leaves(like: Any, leaves: Leaves) -> Any:
    """The tree `like` with other leaves, by their paths."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: leaves[jax.tree_util.keystr(path, simple=True, separator="/")], like
    )


def _agreed(found: list[int]) -> list[int]:
    """The list of the first process."""
    if jax.process_count() == 1:
        return found
    count = int(multihost_utils.broadcast_one_to_all(np.int32(len(found))))
    padded = np.array((found + [0] * count)[:count], np.int32)
    return [int(step) for step in multihost_utils.broadcast_one_to_all(padded)]


def _fail_together(problem: str | None) -> None:
    """Raises _Broken on all processes if there is a problem on one."""
    if failing := processes_where(problem is not None):
        why = problem or f"process {failing[0]} can't read it"
        raise _Broken(why, said_here=jax.process_index() in (0, failing[0]))


def _brief(where: Path, error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    text = text.removeprefix(f"{where}: damaged: ").removesuffix("; copy or convert the checkpoint again")
    return text if len(text) <= LONGEST else text[:LONGEST] + "..."
