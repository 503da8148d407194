"""Worker processes: how they start and end, and work that is spread over them."""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import TypeVar

import cv2
from tqdm import tqdm

from gencompositor_jax.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_WORKERS = 1024


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None
) -> Generator[Result, None, None]:
    """`function(item)` of each item, in order, computed by worker processes. Close it to end them.

    Args:
        function: can be pickled, like items and results.
        items: taken as workers become free; at most twice as many results as workers are held.
        workers: processes; one per core when None, this process alone when 0.

    Raises:
        InputError: a worker process was killed.
    """
    if workers == 0:
        yield from map(function, items)
        return
    workers = workers or os.cpu_count() or 1
    # Spawned, not forked: JAX may already run threads in this process.
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=set_up, initargs=(signal.SIGINT,)
    )
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise InputError(
            "a worker process was killed, perhaps for lack of memory: pass fewer --workers and run it again; "
            "finished shards are kept"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def set_up(*ignored: signal.Signals) -> None:
    """What a worker process does first; `ignored` signals are left to its parent."""
    cv2.setNumThreads(1)  # there is a process per core
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def progress_bar(total: int, what: str, progress: bool | None, done: int = 0) -> tqdm:
    """A progress bar of clips on stderr. progress: None shows it where stderr is a terminal."""
    hidden = None if progress is None else not progress
    return tqdm(total=total, initial=done, unit="clip", desc=what, disable=hidden)


def _end_with_parent() -> None:
    """End this process when its parent is gone: a killed parent can't stop its workers."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
