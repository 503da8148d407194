import json
import threading
from typing import Any

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gencompositor_jax.errors import InputError
from gencompositor_jax.training import goodput as module
from gencompositor_jax.training.goodput import Goodput, HostWait, format_duration, waited
from tests import processes


class Device:
    """A fake clock, and steps whose results arrive when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, workdir: Any) -> None:
        self.now, self.workdir = 0.0, workdir
        self.recorded = threading.Semaphore(0)
        monkeypatch.setattr(jax, "block_until_ready", lambda event: event.wait())
        self.start()

    def start(self) -> None:
        self.goodput = Goodput(self.workdir, lambda: self.now)
        queue: Any = self.goodput._finished

        class Signalling:
            get = queue.get

            @staticmethod
            def put(item: Any) -> None:
                queue.put(item)
                self.recorded.release()

        self.goodput._finished = Signalling  # type: ignore[assignment]

    def step(self, number: int, seconds: float) -> None:
        """A step that is dispatched now and takes that many seconds."""
        results = threading.Event()
        self.goodput.dispatched(number, results)
        self.now += seconds
        self.arrive(results)

    def arrive(self, results: threading.Event) -> None:
        results.set()
        assert self.recorded.acquire(timeout=processes.PATIENCE_S)

    def wait(self, kind: str, seconds: float) -> None:
        with self.goodput.waiting(kind):
            self.now += seconds


@pytest.fixture
def device(monkeypatch, tmp_path):
    return Device(monkeypatch, tmp_path)


def test_every_second_is_counted_once(device):
    device.now += 30  # reading weights
    device.wait("data wait", 5)
    device.step(1, 65)  # with compilation
    device.wait("data wait", 2)
    device.step(2, 10)
    device.now += 1  # logging
    device.step(3, 10)
    device.wait("validation", 7)
    device.wait("checkpoint", 4)
    device.step(4, 10)
    device.wait("checkpoint", 3)
    device.goodput.close()
    assert device.goodput.seconds == {
        "start": 100,
        "productive": 31,
        "data wait": 2,
        "validation": 7,
        "checkpoint": 7,
        "restart": 0,
    }
    assert sum(device.goodput.seconds.values()) == device.now


def test_a_wait_while_the_device_works_is_productive(device):
    device.step(1, 1)
    results = threading.Event()
    device.goodput.dispatched(2, results)
    device.wait("data wait", 8)  # the device computes step 2
    device.arrive(results)  # 8 seconds of work
    device.wait("data wait", 2)  # the device is idle
    device.step(3, 10)
    device.goodput.close()
    assert device.goodput.seconds["productive"] == 18
    assert device.goodput.seconds["data wait"] == 2


def test_a_wait_that_outlasts_the_step_is_counted_from_the_end_of_the_step(device):
    device.step(1, 1)
    results = threading.Event()
    device.goodput.dispatched(2, results)
    with device.goodput.waiting("data wait"):
        device.now += 6
        device.arrive(results)
        device.now += 3
    device.step(3, 10)
    device.goodput.close()
    assert (device.goodput.seconds["productive"], device.goodput.seconds["data wait"]) == (16, 3)


def test_steps_done_again_are_counted_as_restart(device):
    for number in (1, 2, 3, 4):
        device.step(number, 10)
    device.goodput.save()
    device.step(5, 10)  # not saved: the run is killed
    device.now += 1000  # until it is started again
    device.start()
    device.now += 20  # restores step 2
    for number in (3, 4, 5, 6):
        device.step(number, 10)
    device.goodput.close()
    assert device.goodput.starts == 2
    assert device.goodput.seconds["start"] == 10
    assert device.goodput.seconds["productive"] == 30 + 20  # 2 to 4; 5, of which nothing was saved, and 6
    assert device.goodput.seconds["restart"] == 30 + 10  # restoring and step 3; step 4
    assert json.loads((device.workdir / module.FILE).read_text())["reached"] == 6


def test_the_rate_excludes_validation_and_the_time_left_includes_it(device):
    assert device.goodput.rate() is None and device.goodput.seconds_left(10) is None
    device.step(1, 100)
    assert device.goodput.rate() is None and device.goodput.seconds_left(10) is None
    device.wait("validation", 6)
    device.wait("data wait", 1)
    device.step(2, 3)
    device.step(3, 4)
    assert device.goodput.rate() == 2 / 8
    assert device.goodput.seconds_left(10) == 10 * 14 / 2
    device.step(4, 5)
    assert device.goodput.rate() == 1 / 5
    assert device.goodput.rate() is None


def test_real_steps_are_all_counted(tmp_path):
    step = jax.jit(lambda x: x @ x)
    with Goodput(tmp_path) as goodput:
        x = jax.numpy.eye(8)
        for number in range(1, 6):
            x = step(x)
            goodput.dispatched(number, x)
    assert json.loads((tmp_path / module.FILE).read_text())["reached"] == 5
    assert goodput.seconds["productive"] > 0


def test_results_that_fail_or_never_arrive_do_not_block_the_end(tmp_path, monkeypatch):
    def fail(_: object) -> None:
        raise RuntimeError("device lost")

    monkeypatch.setattr(jax, "block_until_ready", fail)
    with Goodput(tmp_path) as goodput:
        goodput.dispatched(1, None)
    assert goodput.seconds["start"] == 0
    monkeypatch.setattr(module, "CLOSE_TIMEOUT", 0.01)
    monkeypatch.setattr(jax, "block_until_ready", lambda _: threading.Event().wait())
    with Goodput(tmp_path) as goodput:
        goodput.dispatched(1, None)


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    with Goodput(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"seconds": {}, "reached": 1, "starts": 1}'])
def test_a_damaged_file_is_an_error(tmp_path, text):
    (tmp_path / module.FILE).write_text(text)
    with pytest.raises(InputError, match="goodput.json"):
        Goodput(tmp_path)


def test_summary(device):
    device.step(1, 3600)
    device.step(2, 3 * 3600)
    device.goodput.close()
    lines = device.goodput.summary().splitlines()
    assert lines[0] == "Time of this run: 4 h 0 min in 1 start"
    assert lines[1].split() == ["productive", "75.0%", "3", "h", "0", "min"]
    assert lines[2].split()[:2] == ["start", "25.0%"]
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (3599.6, "1 h 0 min"),
        (11_560, "3 h 12 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_durations(seconds, words):
    assert format_duration(seconds) == words


times = st.lists(st.integers(0, 100), min_size=2, max_size=12, unique=True).map(sorted)


@given(times, st.tuples(st.integers(0, 100), st.integers(0, 100)))
def test_waited_counts_each_second_once(times, interval):
    pairs = zip(times[::2], times[1::2], strict=False)
    waits = [HostWait("ab"[i % 2], *pair) for i, pair in enumerate(pairs)]
    start, end = interval
    found = waited(start, end, waits)
    for kind in "ab":
        inside = {s for w in waits if w.kind == kind for s in range(w.start, w.end)}  # type: ignore[arg-type]
        assert found.get(kind, 0) == len(inside & set(range(start, end)))
