"""The notice that a machine is taken away: SIGTERM, from Slurm, Kubernetes, a cloud's spot machines, `kill`.

with preemption.watch() as notice:
    for step in ...:
        ...
        if notice.reached(step):
            save and stop
"""

import os
import signal
import threading
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils


class Watch:
    """Hears SIGTERM while it is open (a context manager); one process or all of a run hear it alike.

    A single process takes the signal itself, in its main thread; a second signal ends it at once, as if
    nobody listened. Of several processes perhaps one alone is told. There JAX's own notice is used, which its
    distributed start installs (`jax_enable_preemption_service`, on unless switched off): within about a
    second it tells all of them, and they agree on the step after the furthest.
    """

    def __init__(self) -> None:
        self._noticed = False
        self._before: Any = None

    def __enter__(self) -> "Watch":
        # JAX has its own handler in several processes, which one of Python's would silence.
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._notice) or signal.SIG_DFL
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None

    def reached(self, step: int) -> bool:
        """True if the run should save and stop after this step.

        step: the number of steps done, growing from call to call; in several processes each must ask after
        each step. Raises RuntimeError if JAX's preemption service is switched off there.
        """
        if jax.process_count() == 1:
            return self._noticed
        return multihost_utils.reached_preemption_sync_point(step)

    def _notice(self, number: int, _: FrameType | None) -> None:
        self._noticed = True
        signal.signal(number, signal.SIG_DFL)
        # Not print: the signal may have come in the middle of one.
        os.write(2, b"SIGTERM: saving after this step; a second one ends the run at once\n")


def watch() -> Watch:
    """Hears SIGTERM while the `with` block runs; what was in its place before comes back afterwards."""
    return Watch()
