"""A profile of some steps, for TensorBoard's profiler or xprof: in workdir/profile, by every process."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax


class Window:
    """Profiles the steps from number `first` on (1, 2, ...), `steps` of them; 0 profiles nothing.

        with Window(workdir, config.profile.first, config.profile.steps) as window:
            for step in ...:
                with window.step(step, state):
                    state, metrics = train_step(state, batch)

    A start that begins within the window profiles what is left of it; one that ends there, what it had.
    """

    def __init__(self, workdir: Path, first: int, steps: int) -> None:
        self._folder, self._window = workdir / "profile", range(first, first + steps)
        self._running = False

    def __enter__(self) -> "Window":
        return self

    def __exit__(self, *_: object) -> None:
        if self._running:
            self._stop()

    @contextmanager
    def step(self, number: int, before: Any) -> Iterator[None]:
        """The block dispatches a step. before: the arrays it starts from.

        They are waited for at the window's two ends, so that it holds all of its steps and nothing else.
        """
        if self._running and number not in self._window:
            jax.block_until_ready(before)
            self._stop()
        if not self._running and number in self._window:
            jax.block_until_ready(before)
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
