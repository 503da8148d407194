"""Preemption notices: SIGTERM, which Slurm, Kubernetes and spot machines send before they stop a job.

    with preemption.Notice() as notice:
        for step in ...:
            ...
            if notice.should_stop(step):
                save and stop

With several processes all of them run this loop, and all stop at the same step.
"""

import os
import signal
import threading
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils


class Notice:
    """A context manager that handles SIGTERM, in one process or in all processes of a run.

    A single process handles the signal itself, in its main thread; a second signal ends it at once. Of
    several processes perhaps only one receives the signal. JAX's preemption service, which `jax.distributed`
    starts (`jax_enable_preemption_service`, on by default), then informs all of them within about a second,
    and they agree on the step after the furthest one.
    """

    def __init__(self) -> None:
        self._received = False
        self._previous_handler: Any = None

    def __enter__(self) -> "Notice":
        # With several processes JAX has a handler of its own, which one of Python's would replace.
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            self._previous_handler = signal.signal(signal.SIGTERM, self._receive) or signal.SIG_DFL
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous_handler is not None:
            signal.signal(signal.SIGTERM, self._previous_handler)
            self._previous_handler = None

    def should_stop(self, step: int) -> bool:
        """Whether the run should save and stop after this step.

        step: the number of steps done, larger at each call; with several processes each must ask after every
        step. Raises RuntimeError if JAX's preemption service is switched off there.
        """
        if jax.process_count() == 1:
            return self._received
        return multihost_utils.reached_preemption_sync_point(step)

    def _receive(self, number: int, _: FrameType | None) -> None:
        self._received = True
        signal.signal(number, signal.SIG_DFL)
        # Not print: the signal may interrupt one.
        os.write(2, b"SIGTERM: saving after this step; a second one ends the run at once\n")
