"""Agreement between the processes of a run: every function here is called by all of them."""

import jax
import numpy as np
from jax.experimental import multihost_utils

from gencompositor_jax.errors import InputError


def processes_where(condition: bool) -> list[int]:
    """Indices of the processes on which a condition holds."""
    held = multihost_utils.process_allgather(np.asarray(condition))
    return [int(process) for process in np.flatnonzero(held)]


def from_first(text: str) -> str:
    """The first process's text, at most 1024 bytes of UTF-8, on every process."""
    buffer = np.zeros(1024, np.uint8)
    data = np.frombuffer(text.encode(), np.uint8)
    buffer[: len(data)] = data
    return bytes(multihost_utils.broadcast_one_to_all(buffer)).rstrip(b"\0").decode()


def agree(problem: InputError | None = None) -> None:
    """Wait for all processes. Raises `problem`, and InputError on the processes that have none."""
    failing = processes_where(problem is not None)
    if problem is not None:
        raise problem
    if failing:
        raise InputError(f"process {failing[0]} of {jax.process_count()} has failed: see its log")
