"""The checkpoints of a run: `FOLDER/STEP`, each with `state/` (arrays), `data/` (where the data stand) and
`manifest.json` (hashes).

Orbax writes them in the background, beside their place, and renames them when they are whole. They are hashed
once they have their names: a machine may be about to be taken away, and then a save must not wait for that.
`resume` reads and compares.

Of Orbax we use the asynchronous checkpointer, not the manager above it. When one of several processes can't
write, the manager waits twenty minutes for the others before it says so. And it asks JAX about preemption
with the step of a save, from a thread, when the run has asked about later steps: that sets back JAX's count
of this process, and the step that all processes agree to stop at could be one that it has behind it.

With several processes every function here is called by all of them, and they share the folder.
"""

import logging
import secrets
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from gencompositor_jax import checkpoints
from gencompositor_jax.checkpoints import manifest
from gencompositor_jax.checkpoints.manifest import ArrayFacts
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import system_error
from gencompositor_jax.multihost import agree, processes_where
from gencompositor_jax.training import partition, resume
from gencompositor_jax.training.resume import Restored

# What killed runs leave: unfinished checkpoints, as Orbax calls them, half deleted ones, and what a start
# tries a folder with.
UNFINISHED, DELETED, PROBE = ".orbax-checkpoint-tmp", ".deleted", ".probe-"


class Checkpoints:
    """The checkpoints of one run: made by `open_checkpoints`, used in a `with` block, closed at its end."""

    def __init__(self, folder: Path, keep_last: int, keep_every: int | None) -> None:
        self.folder = folder
        self._keep_last, self._keep_every = keep_last, keep_every
        # Compressed, weights would take 8 % less room, but writing them five times the processor's time,
        # which the data need.
        parts = {
            "state": ocp.PyTreeCheckpointHandler(use_compression=False),
            "data": ocp.JsonCheckpointHandler(),
        }
        self._checkpointer = ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler(**parts))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._saving: tuple[int, Future[None]] | None = None

    def save(self, step: int, state: Any, data: Mapping[str, Any]) -> None:
        """Starts to save a step; does nothing if it is saved already.

        state: a tree of jax.Arrays. The next step may have them donated as soon as this returns: by then they
        are copied, or, on the CPU, held until they are written. data: what JSON can hold. Waits first for the
        save before, and raises its error: an InputError if the disk is full. Older checkpoints are deleted
        when this one is whole, never before.
        """
        self.wait()
        if processes_where((self.folder / str(step)).exists()):
            return
        leaves = checkpoints.named_leaves(state)
        arguments = ocp.args.Composite(
            state=ocp.args.PyTreeSave(partition.unflatten(leaves)), data=ocp.args.JsonSave(dict(data))
        )
        with self._explaining(step):
            self._checkpointer.save(self.folder / str(step), args=arguments)
        self._saving = step, self._thread.submit(self._finish, step, checkpoints.facts_of(leaves))

    def wait(self) -> None:
        """Waits until the last save is on the disk with its hashes. Raises its error, once."""
        if self._saving is not None:
            (step, finished), self._saving = self._saving, None
            with self._explaining(step):
                finished.result()

    def restore(self, like: Any) -> Restored | None:
        """The newest whole checkpoint, None if nothing has been saved yet.

        like: the state as a tree of jax.ShapeDtypeStructs with shardings, of any mesh, or of arrays. A broken
        checkpoint is passed over with a line on stderr, and set aside as STEP.broken. Raises InputError with
        the list of arrays that differ from `like`, or if all checkpoints are broken.
        """
        self.wait()
        restored, broken = resume.newest_whole(self.folder, like)
        if jax.process_index() == 0:
            for step in broken:  # out of the way of a new one, and of what counts as kept
                aside = self.folder / f"{step}.broken"
                shutil.rmtree(aside, ignore_errors=True)
                (self.folder / str(step)).rename(aside)
        agree()
        return restored

    def close(self) -> None:
        """Waits for the last save. Raises its error."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            self._checkpointer.close()
            logging.getLogger("absl").removeFilter(_not_of_orbax)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.close()
        except Exception as error:
            if kind is None:
                raise
            _warn(str(error))  # and let through what has ended the run

    def _finish(self, step: int, arrays: Mapping[str, ArrayFacts]) -> None:
        """What follows in the background when Orbax is done: the first process hashes, then deletes."""
        self._checkpointer.wait_until_finished()
        if jax.process_index() > 0:
            return
        try:
            manifest.write(self.folder / str(step), arrays)
        except (OSError, InputError) as error:
            why = system_error(error) or error
            _warn(f"{self.folder}/{step}: whole, but its hashes can't be written ({why})")
        for old in to_delete(resume.steps(self.folder), self._keep_last, self._keep_every):
            doomed = (self.folder / str(old)).rename(self.folder / f"{old}{DELETED}")
            shutil.rmtree(doomed, ignore_errors=True)  # a file still open elsewhere goes at the next start

    @contextmanager
    def _explaining(self, step: int) -> Iterator[None]:
        """Says in one line what a disk says in many, and gives back the space of what can't be finished."""
        try:
            yield
        except Exception as error:
            reason = system_error(error)
            if reason is None:
                raise
            for _ in range(20):  # other files of this step may still be on their way
                with suppress(OSError):
                    _remove_leftovers(self.folder)
                    break
                time.sleep(0.1)
            kept = resume.steps(self.folder)
            intact = f"that of step {kept[-1]} is intact" if kept else "there is none before it"
            raise InputError(
                f"{self.folder}: the checkpoint of step {step} can't be written ({reason}), {intact}; "
                "make room there, or pass another --workdir"
            ) from error


def open_checkpoints(folder: str | Path, *, keep_last: int, keep_every: int | None = None) -> Checkpoints:
    """Opens the checkpoints of a run, in a folder that is made if need be.

    keep_last: how many of the newest stay, 1 or more. keep_every: steps that it divides stay for good. Raises
    InputError if nothing can be written there, or if the processes of a run see different folders.
    """
    folder = Path(folder).absolute()
    if keep_last < 1 or (keep_every is not None and keep_every < 1):
        given = f"keep_last={keep_last} and keep_every={keep_every}"
        raise InputError(f"config.checkpoint: {given} must be 1 or more (keep_every may be None)")
    _check_folder(folder)
    logging.getLogger("absl").addFilter(_not_of_orbax)
    return Checkpoints(folder, keep_last, keep_every)


def to_delete(found: list[int], keep_last: int, keep_every: int | None) -> list[int]:
    """Of steps in rising order those that are neither among the last nor divided by `keep_every`."""
    return [step for step in found[:-keep_last] if keep_every is None or step % keep_every]


def _check_folder(folder: Path) -> None:
    """Raises InputError, on all processes, unless each can write into the folder and all see the same one."""
    first, problem = jax.process_index() == 0, None
    token = int(multihost_utils.broadcast_one_to_all(np.int32(secrets.randbits(30))))
    probe, own = folder / f"{PROBE}{token}", folder / f"{PROBE}{token}-{jax.process_index()}"
    try:
        if first:
            folder.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(folder)
            probe.touch()
    except OSError as error:
        problem = InputError(f"{folder}: can't be written ({error.strerror}); pass another --workdir")
    agree(problem)
    try:
        if not probe.exists():
            problem = InputError(
                f"{folder}: is not the folder that the first process sees; --workdir must be on a shared disk"
            )
        else:
            own.touch()
            own.unlink()
    except OSError as error:
        problem = InputError(f"{folder}: can't be written ({error.strerror}); pass another --workdir")
    agree(problem)
    if first:
        probe.unlink()


def _remove_leftovers(folder: Path) -> None:
    for ending in (UNFINISHED, DELETED, PROBE):
        for path in folder.glob(f"*{ending}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _warn(what: str) -> None:
    print(f"WARNING: {what}", file=sys.stderr, flush=True)


def _not_of_orbax(record: logging.LogRecord) -> bool:
    """Orbax logs the error of a save twice, with its call stack, before it raises it."""
    return record.levelno != logging.ERROR or "/orbax/" not in record.pathname
