import json
import threading
from typing import Any

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gencompositor_jax.errors import InputError
from gencompositor_jax.training import goodput as module
from gencompositor_jax.training.goodput import Block, Goodput, in_words, waits


class Device:
    """A clock and steps whose results arrive when they are told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, workdir: Any) -> None:
        self.now, self.workdir = 0.0, workdir
        self.seen = threading.Semaphore(0)
        monkeypatch.setattr(jax, "block_until_ready", lambda event: event.wait())
        self.start()

    def start(self) -> None:
        self.clock = Goodput(self.workdir, lambda: self.now)
        put = self.clock._done.put
        queue: Any = self.clock._done

        class Seen:
            get = queue.get

            @staticmethod
            def put(item: Any) -> None:
                put(item)
                self.seen.release()

        self.clock._done = Seen  # type: ignore[assignment]

    def step(self, number: int, seconds: float) -> None:
        """A step that is dispatched now and takes so long."""
        results = threading.Event()
        self.clock.stepped(number, results)
        self.now += seconds
        self.arrive(results)

    def arrive(self, results: threading.Event) -> None:
        results.set()
        assert self.seen.acquire(timeout=10)

    def spend(self, kind: str, seconds: float) -> None:
        with self.clock.spent(kind):
            self.now += seconds


@pytest.fixture
def device(monkeypatch, tmp_path):
    return Device(monkeypatch, tmp_path)


def test_every_second_has_its_kind(device):
    device.now += 30  # weights are read
    device.spend("data wait", 5)
    device.step(1, 65)  # compiles
    device.spend("data wait", 2)
    device.step(2, 10)
    device.now += 1  # a line is written
    device.step(3, 10)
    device.spend("validation", 7)
    device.spend("checkpoint", 4)
    device.step(4, 10)
    device.spend("checkpoint", 3)
    device.clock.close()
    assert device.clock.seconds == {
        "start": 100,
        "productive": 31,
        "data wait": 2,
        "validation": 7,
        "checkpoint": 7,
        "restart": 0,
    }
    assert sum(device.clock.seconds.values()) == device.now


def test_waiting_while_the_device_works_is_no_loss(device):
    device.step(1, 1)
    results = threading.Event()
    device.clock.stepped(2, results)
    device.spend("data wait", 8)  # the next batch; the device is at work on step 2
    device.arrive(results)  # 8 seconds of work
    device.spend("data wait", 2)  # and now it isn't
    device.step(3, 10)
    device.clock.close()
    assert device.clock.seconds["productive"] == 18
    assert device.clock.seconds["data wait"] == 2


def test_a_wait_that_outlasts_the_step_counts_from_its_end(device):
    device.step(1, 1)
    results = threading.Event()
    device.clock.stepped(2, results)
    with device.clock.spent("data wait"):
        device.now += 6
        device.arrive(results)
        device.now += 3
    device.step(3, 10)
    device.clock.close()
    assert (device.clock.seconds["productive"], device.clock.seconds["data wait"]) == (16, 3)


def test_lost_steps_are_restart_and_not_productive_twice(device):
    for number in (1, 2, 3, 4):
        device.step(number, 10)
    device.clock.save()
    device.step(5, 10)  # not written any more: the run is killed
    device.now += 1000  # until somebody starts it again
    device.start()
    device.now += 20  # restores step 2
    for number in (3, 4, 5, 6):
        device.step(number, 10)
    device.clock.close()
    assert device.clock.starts == 2
    assert device.clock.seconds["start"] == 10
    assert device.clock.seconds["productive"] == 30 + 20  # 2 to 4; 5 and 6, whose first time isn't known
    assert device.clock.seconds["restart"] == 30 + 10  # restoring and step 3; step 4
    assert json.loads((device.workdir / module.FILE).read_text())["reached"] == 6


def test_rate_leaves_out_what_isnt_stepping_and_the_time_left_doesnt(device):
    assert device.clock.rate() is None and device.clock.seconds_left(10) is None
    device.step(1, 100)
    assert device.clock.rate() is None and device.clock.seconds_left(10) is None
    device.spend("validation", 6)
    device.spend("data wait", 1)
    device.step(2, 3)
    device.step(3, 4)
    assert device.clock.rate() == 2 / 8
    assert device.clock.seconds_left(10) == 10 * 14 / 2
    device.step(4, 5)
    assert device.clock.rate() == 1 / 5
    assert device.clock.rate() is None


def test_real_steps_are_counted_to_the_last(tmp_path):
    step = jax.jit(lambda x: x @ x)
    with Goodput(tmp_path) as clock:
        x = jax.numpy.eye(8)
        for number in range(1, 6):
            x = step(x)
            clock.stepped(number, x)
    assert json.loads((tmp_path / module.FILE).read_text())["reached"] == 5
    assert clock.seconds["productive"] > 0


def test_results_that_fail_or_never_come_dont_hold_up_the_end(tmp_path, monkeypatch):
    def fail(_: object) -> None:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(jax, "block_until_ready", fail)
    with Goodput(tmp_path) as clock:
        clock.stepped(1, None)
    assert clock.seconds["start"] == 0
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    monkeypatch.setattr(jax, "block_until_ready", lambda _: threading.Event().wait())
    with Goodput(tmp_path) as clock:
        clock.stepped(1, None)


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    with Goodput(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"seconds": {}, "reached": 1, "starts": 1}'])
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / module.FILE).write_text(text)
    with pytest.raises(InputError, match="goodput.json"):
        Goodput(tmp_path)


def test_summary_says_shares_and_starts(device):
    device.step(1, 3600)
    device.step(2, 3 * 3600)
    device.clock.close()
    lines = device.clock.summary().splitlines()
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
def test_lengths_of_time_in_words(seconds, words):
    assert in_words(seconds) == words


moments = st.lists(st.integers(0, 100), min_size=2, max_size=12, unique=True).map(sorted)


@given(moments, st.tuples(st.integers(0, 100), st.integers(0, 100)))
def test_waits_count_each_moment_once(moments, stretch):
    pairs = zip(moments[::2], moments[1::2], strict=False)
    blocks = [Block("ab"[i % 2], *pair) for i, pair in enumerate(pairs)]
    begin, end = stretch
    found = waits(begin, end, blocks)
    for kind in "ab":
        inside = {s for b in blocks if b.kind == kind for s in range(b.begin, b.end)}  # type: ignore[arg-type]
        assert found.get(kind, 0) == len(inside & set(range(begin, end)))
