"""Saves the checkpoints of a run: `FOLDER/STEP`, each with `state/` (arrays), `data/` (JSON: the position in
the data and the metrics not logged yet) and `manifest.json` (hashes). `resume` reads them.

Orbax writes a checkpoint in the background, under a temporary name, and renames it when it is complete. It is
hashed after the renaming: a machine that is about to be preempted must not wait for the hashes.

Of Orbax this uses the asynchronous checkpointer without the manager, for two reasons. When one of several
processes can't write, the manager waits twenty minutes for the others before it raises the error. And it asks
JAX's preemption service, from its own thread, about the step of a save when the run has already asked about
later steps: that resets JAX's counter of this process, so all processes could agree to stop at a step that
this one has passed.

With several processes every function here is called by all of them, on one shared folder.
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
from gencompositor_jax.checkpoints.manifest import ArraySpec
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import system_error
from gencompositor_jax.multihost import agree, processes_where
from gencompositor_jax.training import partition, resume
from gencompositor_jax.training.resume import Restored

# What killed runs leave behind: Orbax's unfinished checkpoints, partly deleted ones, and files that test
# whether a folder can be written to.
UNFINISHED, DELETED, PROBE = ".orbax-checkpoint-tmp", ".deleted", ".probe-"


class Checkpointer:
    """The checkpoints of one run; a context manager that `open_checkpointer` makes."""

    def __init__(self, folder: Path, keep_last: int, keep_every: int | None) -> None:
        self.folder = folder
        self._keep_last, self._keep_every = keep_last, keep_every
        # Compressed weights take 8 % less space, but five times the CPU time, which the data pipeline needs.
        handlers = {
            "state": ocp.PyTreeCheckpointHandler(use_compression=False),
            "data": ocp.JsonCheckpointHandler(),
        }
        self._orbax = ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler(**handlers))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._saving: tuple[int, Future[None]] | None = None

    def save(self, step: int, state: Any, data: Mapping[str, Any]) -> None:
        """Start to save a step in the background; does nothing if the step is saved already.

        Older checkpoints are deleted once this one is complete, never before.

        Args:
            step: the number of steps done.
            state: a tree of jax.Arrays. They may be donated as soon as this returns: they are copied by then
                or, on the CPU, held until they are written.
            data: JSON values.

        Raises:
            InputError: the disk is full; also that of the previous save, which this waits for.
        """
        self.wait()
        if processes_where((self.folder / str(step)).exists()):
            return
        leaves = checkpoints.named_leaves(state)
        arguments = ocp.args.Composite(
            state=ocp.args.PyTreeSave(partition.unflatten(leaves)), data=ocp.args.JsonSave(dict(data))
        )
        with self._explain_write_errors(step):
            self._orbax.save(self.folder / str(step), args=arguments)
        self._saving = step, self._thread.submit(self._finish, step, checkpoints.array_specs(leaves))

    def wait(self) -> None:
        """Wait until the last save and its hashes are on the disk. Raises the error of that save, once."""
        if self._saving is not None:
            (step, finished), self._saving = self._saving, None
            with self._explain_write_errors(step):
                finished.result()

    def restore(self, like: Any) -> Restored | None:
        """The newest intact checkpoint; None if nothing has been saved.

        A damaged checkpoint is skipped with a warning on stderr and renamed to STEP.damaged.

        Args:
            like: the state as a tree of arrays or of jax.ShapeDtypeStructs with shardings, on any mesh.

        Raises:
            InputError: arrays differ from `like` (with the list), or all checkpoints are damaged.
        """
        self.wait()
        restored, damaged = resume.newest_intact(self.folder, like)
        if jax.process_index() == 0:
            # Under its own name it would count among those to keep, and the step as saved.
            for step in damaged:
                renamed = self.folder / f"{step}.damaged"
                shutil.rmtree(renamed, ignore_errors=True)
                (self.folder / str(step)).rename(renamed)
        agree()
        return restored

    def close(self) -> None:
        """Wait for the last save. Raises its error."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            self._orbax.close()
            logging.getLogger("absl").removeFilter(_is_not_an_orbax_error)

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.close()
        except Exception as error:
            if kind is None:
                raise
            _warn(str(error))  # the exception that ended the run is the one to raise

    def _finish(self, step: int, arrays: Mapping[str, ArraySpec]) -> None:
        """In the background, after Orbax: the first process hashes this checkpoint and deletes older ones."""
        self._orbax.wait_until_finished()
        if jax.process_index() > 0:
            return
        try:
            manifest.write(self.folder / str(step), arrays)
        except (OSError, InputError) as error:
            reason = system_error(error) or error
            _warn(f"{self.folder}/{step}: complete, but its hashes can't be written ({reason})")
        for old in steps_to_delete(resume.saved_steps(self.folder), self._keep_last, self._keep_every):
            renamed = (self.folder / str(old)).rename(self.folder / f"{old}{DELETED}")
            # Files that another process still has open are deleted at the next start.
            shutil.rmtree(renamed, ignore_errors=True)

    @contextmanager
    def _explain_write_errors(self, step: int) -> Iterator[None]:
        """Raise the disk's errors as InputErrors, and free the space of the unfinished save."""
        try:
            yield
        except Exception as error:
            reason = system_error(error)
            if reason is None:
                raise
            for _ in range(20):  # other files of this step may still be being written
                with suppress(OSError):
                    _remove_leftovers(self.folder)
                    break
                time.sleep(0.1)
            saved = resume.saved_steps(self.folder)
            intact = f"that of step {saved[-1]} is intact" if saved else "there is no earlier one"
            raise InputError(
                f"{self.folder}: the checkpoint of step {step} can't be written ({reason}), {intact}; "
                "free some space there, or pass another --workdir"
            ) from error


def open_checkpointer(folder: str | Path, *, keep_last: int, keep_every: int | None = None) -> Checkpointer:
    """Open the checkpoints of a run, in a folder that is created if necessary.

    Args:
        folder: the same on all processes.
        keep_last: the number of newest checkpoints to keep, 1 or more.
        keep_every: checkpoints of steps that this divides are never deleted.

    Raises:
        InputError: the folder can't be written to, or the processes see different folders.
    """
    folder = Path(folder).absolute()
    if keep_last < 1 or (keep_every is not None and keep_every < 1):
        given = f"keep_last={keep_last} and keep_every={keep_every}"
        raise InputError(f"config.checkpoint: {given} must be 1 or more (keep_every may be None)")
    _check_folder(folder)
    logging.getLogger("absl").addFilter(_is_not_an_orbax_error)
    return Checkpointer(folder, keep_last, keep_every)


def steps_to_delete(saved: list[int], keep_last: int, keep_every: int | None) -> list[int]:
    """Of saved steps in ascending order those that are neither among the last nor divided by `keep_every`."""
    return [step for step in saved[:-keep_last] if keep_every is None or step % keep_every]


def _check_folder(folder: Path) -> None:
    """Raise InputError, on all processes, unless each can write to the folder and all see the same one."""
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
    for part in (UNFINISHED, DELETED, PROBE):
        for path in folder.glob(f"*{part}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _warn(text: str) -> None:
    print(f"WARNING: {text}", file=sys.stderr, flush=True)


def _is_not_an_orbax_error(record: logging.LogRecord) -> bool:
    """A log filter: before Orbax raises the error of a save, it logs it twice with its stack trace."""
    return record.levelno != logging.ERROR or "/orbax/" not in record.pathname
