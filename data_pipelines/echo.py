"""Data echoing (arXiv 1907.05550): where data is read more slowly than a step takes, a batch is used several
times, each time with other noise and timesteps.
"""

from collections.abc import Generator, Iterator
from typing import TypeVar

SPREAD = 4  # batches that are read between two uses of one

T = TypeVar("T")


def batch_of(step: int, echo: int) -> int:
    """Number of the batch that a step uses.

    Every `echo` steps a batch is read. Its uses are SPREAD * echo + 1 steps apart, so that neighbouring steps
    have other clips. Before enough batches are read, those that are there take their turns.
    """
    newest, use = divmod(step, echo)
    return (newest - SPREAD * use) % (newest + 1)


def oldest(step: int, echo: int) -> int:
    """Number of the first batch that this step or a later one uses."""
    return max(0, step // echo - SPREAD * (echo - 1))


def count(steps: int, echo: int) -> int:
    """Number of batches that so many steps use."""
    return -(-steps // echo)


def echoed(batches: Iterator[T], start: int, steps: int, echo: int) -> Generator[T, None, None]:
    """The batches of the steps `start` to `steps` - 1.

    batches: those of number `oldest(start, echo)` to `count(steps, echo)` - 1. SPREAD * (echo - 1) + 1 of
    them are held.
    """
    held: dict[int, T] = {}
    read = oldest(start, echo)
    for step in range(start, steps):
        while read <= step // echo:
            held[read] = next(batches)
            read += 1
        for number in [n for n in held if n < oldest(step, echo)]:
            del held[number]
        yield held[batch_of(step, echo)]
