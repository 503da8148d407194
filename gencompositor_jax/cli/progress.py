"""Progress bars."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def bar(total: int, what: str = "sampling", unit: str = "step") -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr if it is a terminal; yields its callback (done, total)."""
    with tqdm(total=total, desc=what, unit=unit, leave=False, disable=None) as shown:

        def show(done: int, total: int) -> None:
            shown.total = total  # a long clip has several steps of windows in each of the solver's
            shown.update(done - shown.n)

        yield show


@contextmanager
def gigabytes(what: str) -> Iterator[Callable[[int, int], None]]:
    """The same in GB; yields its callback (bytes done, bytes in all)."""
    with tqdm(desc=what, unit="B", unit_scale=True, leave=False, disable=None) as shown:

        def show(done: int, total: int) -> None:
            shown.total = total
            shown.update(done - shown.n)

        yield show


@contextmanager
def jobs_bar(total: int) -> Iterator[Callable[[bool, str | None], None]]:
    """A bar of jobs with their rate and the time left on stderr, a line every half minute if it isn't a
    terminal; yields its callback (done, error).
    """
    every = 0.1 if sys.stderr.isatty() else 30.0
    failed, lock = 0, threading.Lock()
    with tqdm(total=total, desc="jobs", unit="job", mininterval=every, maxinterval=every) as shown:

        def show(done: bool, error: str | None) -> None:
            nonlocal failed
            with lock:
                failed += not done
                if error is not None:
                    shown.write(f"gencompositor: {error}", file=sys.stderr)
                shown.set_postfix(failed=failed, refresh=False)
                shown.update()

        yield show
