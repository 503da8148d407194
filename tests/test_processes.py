"""tests/processes.py itself: when its waits fail."""

import sys

import pytest

from tests import processes

COMPUTE = "import time\nwhile time.process_time() < 4: pass\nprint('done')"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(processes, "STUCK_S", 2.0)
    monkeypatch.setattr(processes, "LOOK_S", 0.1)
    monkeypatch.setattr(processes, "COMPUTED_S", 0.01)


@pytest.mark.multiprocess
def test_processes_that_neither_write_nor_compute_are_stuck(tmp_path):
    with processes.start(["sleep", "900"], tmp_path) as group:
        for wait in (group.wait, lambda: group.wait_for("word")):
            with pytest.raises(AssertionError, match="stuck"):
                wait()


@pytest.mark.multiprocess
def test_computing_without_output_is_progress(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "STUCK_S", 3.0)
    with processes.start([sys.executable, "-c", COMPUTE], tmp_path) as group:
        assert group.wait_for("done") and group.check().codes() == [0]


@pytest.mark.multiprocess
def test_a_process_that_ends_without_the_awaited_output_fails_at_once(tmp_path):
    with processes.start([sys.executable, "-c", "print('other'); exit(3)"], tmp_path) as group:
        with pytest.raises(AssertionError, match=r"'word': process 0 ended without it\n--- process 0\nother"):
            group.wait_for("word")
        with pytest.raises(AssertionError, match=r"exit codes \[3\]"):
            group.check()
