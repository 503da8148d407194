"""Profiles some steps of a run for TensorBoard's profiler or xprof; each process writes workdir/profile."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax


class StepProfiler:
    """Profiles `steps` steps from number `first` (1, 2, ...); with 0 it does nothing.

        with StepProfiler(workdir, config.profile.first, config.profile.steps) as profiler:
            for step in ...:
                with profiler.step(step, state):
                    state, metrics = train_step(state, batch)

    A run that starts or ends between the first and the last of these steps profiles those that it does.
    """

    def __init__(self, workdir: Path, first: int, steps: int) -> None:
        self._folder, self._profiled = workdir / "profile", range(first, first + steps)
        self._running = False

    def __enter__(self) -> "StepProfiler":
        return self

    def __exit__(self, *_: object) -> None:
        if self._running:
            self._stop()

    @contextmanager
    def step(self, number: int, inputs: Any) -> Iterator[None]:
        """A block that dispatches a step.

        inputs: the arrays that it starts from. They are waited for before the profile starts and before it
        stops, so that it holds all of its steps and no others.
        """
        if self._running and number not in self._profiled:
            jax.block_until_ready(inputs)
            self._stop()
        if not self._running and number in self._profiled:
            jax.block_until_ready(inputs)
            jax.profiler.start_trace(self._folder)
            self._running = True
        if self._running:
            with jax.profiler.StepTraceAnnotation("train", step_num=number):
                yield
        else:
            yield

    def _stop(self) -> None:
        self._running = False
        jax.profiler.stop_trace()
