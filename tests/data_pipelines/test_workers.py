import os
import signal
import time

import cv2
import pytest

from gencompositor_jax.data_pipelines.workers import in_order
from gencompositor_jax.errors import InputError


def slow_if_even(number: int) -> int:
    time.sleep(0.05 * (number % 2 == 0))
    return number * number


def dies(item: str) -> bytes:
    os._exit(9)


def state(item: int) -> tuple[int, bool]:
    return cv2.getNumThreads(), signal.getsignal(signal.SIGINT) == signal.SIG_IGN


@pytest.mark.multiprocess
@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_order(workers):
    assert list(in_order(slow_if_even, range(8), workers)) == [n * n for n in range(8)]


@pytest.mark.multiprocess
def test_few_results_are_held():
    taken: list[int] = []

    def items():
        for n in range(40):
            taken.append(n)
            yield n

    results = in_order(slow_if_even, items(), 1)
    assert next(results) == 0
    assert len(taken) <= 3
    results.close()


@pytest.mark.multiprocess
def test_a_worker_leaves_interrupts_to_its_parent_and_uses_one_thread():
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # ignored, the worker would inherit that
    try:
        assert list(in_order(state, [0], 1)) == [(1, True)]
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.multiprocess
def test_a_killed_worker_is_an_error():
    with pytest.raises(InputError, match="a worker process was killed.*--workers"):
        list(in_order(dies, ["one"], 1))
