"""SIGTERM to one process; two processes are in test_checkpoints_together.py."""

import os
import signal
import sys

import pytest

from gencompositor_jax.training import preemption
from tests import processes


def test_the_step_after_the_signal_is_the_last(capfd):
    with preemption.watch() as notice:
        assert not notice.reached(1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert notice.reached(2)
        assert notice.reached(3)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # the next one ends the process
    assert "SIGTERM: saving" in capfd.readouterr().err


def test_what_was_there_before_comes_back():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
    try:
        with pytest.raises(ZeroDivisionError), preemption.watch():
            print(1 / 0)
        os.kill(os.getpid(), signal.SIGTERM)
        with preemption.watch() as notice:
            assert not notice.reached(1)
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [1, 1]


def test_another_thread_hears_nothing_and_harms_nothing():
    import threading

    answers = []

    def run():
        with preemption.watch() as notice:
            answers.append(notice.reached(1))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert answers == [False]


LOOP = """
import time
from gencompositor_jax.training import preemption
with preemption.watch() as notice:
    print("running")
    while not notice.reached(1):
        time.sleep(0.01)
    print("saving")
    time.sleep(60)
"""


@pytest.mark.multiprocess
def test_a_second_signal_ends_it_at_once(tmp_path):
    with processes.start([sys.executable, "-c", LOOP], tmp_path) as group:
        group.wait_for("running")
        group.kill(0, signal.SIGTERM)
        group.wait_for("saving")
        group.kill(0, signal.SIGTERM)
        assert group.wait(30) == [-signal.SIGTERM]
