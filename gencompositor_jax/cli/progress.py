"""Progress bars."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def bar(total: int) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr if it is a terminal; yields its callback (done, total)."""
    with tqdm(total=total, desc="sampling", unit="step", leave=False, disable=None) as shown:

        def show(done: int, _: int) -> None:
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
