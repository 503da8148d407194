"""What the processes of a run have to agree on."""

import jax
import numpy as np
from jax.experimental import multihost_utils

from gencompositor_jax.errors import InputError


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
