"""SIGTERM to one process; two processes are in test_checkpointer_two_processes.py."""

import os
import signal
import sys
import threading

import pytest

from gencompositor_jax.training import preemption
from tests import processes


def test_the_run_stops_after_the_step_of_the_signal(capfd):
    with preemption.Notice() as notice:
        assert not notice.should_stop(1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert notice.should_stop(2)
        assert notice.should_stop(3)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # the next one ends the process
    assert "SIGTERM: saving" in capfd.readouterr().err


def test_the_previous_handler_is_restored():
    received = []
    previous = signal.signal(signal.SIGTERM, lambda *_: received.append(1))
    try:
        with pytest.raises(ZeroDivisionError), preemption.Notice():
            print(1 / 0)
        os.kill(os.getpid(), signal.SIGTERM)
        with preemption.Notice() as notice:
            assert not notice.should_stop(1)
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert received == [1, 1]


def test_in_another_thread_no_handler_is_installed():
    results = []

    def run():
        with preemption.Notice() as notice:
            results.append((notice.should_stop(1), signal.getsignal(signal.SIGTERM)))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert results == [(False, before)]


LOOP = """
import time
from gencompositor_jax.training import preemption
with preemption.Notice() as notice:
    print("running")
    while not notice.should_stop(1):
        time.sleep(0.01)
    print("saving")
    time.sleep(600)
"""


@pytest.mark.multiprocess
def test_a_second_signal_ends_the_process_at_once(tmp_path):
    with processes.start([sys.executable, "-c", LOOP], tmp_path) as group:
        group.wait_for("running")
        group.kill(0, signal.SIGTERM)
        group.wait_for("saving")
        group.kill(0, signal.SIGTERM)
        assert group.wait() == [-signal.SIGTERM]
