"""Agreement between the processes of a run: every function here is called by all of them."""

import math
from typing import Any

import jax
import numpy as np
from jax._src import distributed
from jax.experimental import multihost_utils

from gencompositor_jax.errors import InputError

COMPILING_S = 4 * 3600  # longer than any program takes to compile


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


class CompiledTogether:
    """Calls jitted functions, each of which all processes compile before any of them runs it.

    The first collective of a program waits only half a minute for the other processes (Gloo), and one process
    may find a program in JAX's cache on disk that another compiles for minutes. The processes make the same
    calls in the same order; a single one calls the functions as they are.
    """

    def __init__(self) -> None:
        self._programs: dict[Any, jax.stages.Compiled] = {}

    def __call__(self, program: jax.stages.Wrapped, *args: Any, **static: Any) -> Any:
        """The function's result.

        static: its static arguments, by name.
        """
        if jax.process_count() == 1:
            return program(*args, **static)
        leaves, tree = jax.tree.flatten(args)
        types = tuple((jax.typeof(leaf), getattr(leaf, "sharding", None)) for leaf in leaves)
        key = program, tree, types, tuple(sorted(static.items()))
        if key not in self._programs:
            self._programs[key] = program.lower(*args, **static).compile()
            wait_for_all(f"{program.__name__} {len(self._programs)} is compiled")  # type: ignore[attr-defined]
        return self._programs[key](*args)


def wait_for_all(event: str) -> None:
    """Wait until every process has come here, however long that takes; `event` is used once in a run.

    Unlike `multihost_utils.sync_global_devices` it takes no collective, whose time is limited.
    """
    # Not public: JAX's own functions that wait so long need an array or a checkpoint.
    client = distributed.global_state.client
    assert client is not None, "jax.distributed is not initialised"
    client.wait_at_barrier(event, math.ceil(1000 * COMPILING_S))


def leave_together() -> None:
    """Wait until every process that is alive has come here, and disconnect; alone, return at once.

    For processes that are connected as `independent`, see `distributed.initialize`. The first one, which the
    others are connected to, is the last to leave.
    """
    client = distributed.global_state.client
    if client is None:
        return
    everyone = list(range(jax.process_count()))
    client.get_live_nodes(everyone)
    if jax.process_index() == 0:
        client.get_live_nodes(everyone)  # without the others' calls: until they have disconnected
    jax.distributed.shutdown()
