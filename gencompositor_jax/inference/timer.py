"""Seconds per stage of a run."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Timer:
    """Adds up the seconds that are spent in each stage: `with timer("decode"): ...`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Adds the block's time to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
