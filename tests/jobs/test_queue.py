import contextlib
import sqlite3
import threading
from collections import Counter

import pytest

from gencompositor_jax.errors import InputError
from gencompositor_jax.jobs.queue import OtherJob, Queue, QueueFull


@pytest.fixture
def queue(tmp_path):
    with contextlib.closing(Queue(tmp_path / "queue.sqlite3", limit=3)) as opened:
        yield opened


def reopened(queue, tmp_path):
    """The file as the next process finds it: nothing is closed by one that is killed."""
    return Queue(tmp_path / "queue.sqlite3", limit=3)


def states(queue):
    return {entry.id: entry.state for entry in queue.newest(100)}


def test_jobs_run_in_their_order_and_end_once(queue):
    for id in "abc":
        assert queue.add(id, {"seed": 1}).state == "queued"
    assert [queue.before(entry) for entry in queue.newest(9)] == [2, 1, 0]
    first = queue.claim("cpu:0")
    assert first.id == "a" and first.device == "cpu:0" and first.request == {"seed": 1} and first.starts == 1
    assert queue.claim("cpu:1").id == "b"
    queue.finish("a", "done")
    queue.finish("b", "failed", "too dark")
    assert queue.get("b").error == "too dark" and queue.get("b").seconds >= 0
    with pytest.raises(ValueError, match="running"):
        queue.finish("a", "failed", "again")
    assert queue.claim("cpu:0").id == "c" and queue.claim("cpu:0") is None
    assert queue.counts() == {"queued": 0, "running": 1, "done": 1, "failed": 1, "cancelled": 0}


def test_a_full_queue_refuses_and_says_when_to_come_back(queue):
    for id in "abc":
        queue.add(id, {})
    with pytest.raises(QueueFull, match="3 jobs are waiting") as full:
        queue.add("d", {})
    assert full.value.retry_after >= 1
    queue.claim("cpu:0")
    assert queue.add("d", {}).state == "queued"  # what runs doesn't wait


def test_the_estimate_of_a_wait_is_the_mean_job_over_the_workers(queue):
    for id in "ab":
        queue.add(id, {})
        queue.claim("cpu:0")
        queue.finish(id, "done")
    queue._db.execute("UPDATE jobs SET started = 100, finished = 140 WHERE id = 'a'")
    queue._db.execute("UPDATE jobs SET started = 100, finished = 120 WHERE id = 'b'")
    queue.workers = 2
    for id in "cde":
        queue.add(id, {})
    with pytest.raises(QueueFull) as full:
        queue.add("f", {})
    assert full.value.retry_after == 15


def test_a_key_makes_a_repeated_submission_harmless(queue):
    first = queue.add("a", {"seed": 1}, key="k", digest="x")
    assert queue.add("b", {"seed": 1}, key="k", digest="x") == first
    with pytest.raises(OtherJob, match="'k' belongs to job a"):
        queue.add("c", {"seed": 2}, key="k", digest="y")
    assert states(queue) == {"a": "queued"}
    queue.add("d", {}), queue.add("e", {})
    assert queue.add("f", {"seed": 1}, key="k", digest="x") == first  # also when the queue is full


def test_cancelling_waits_for_no_step_unless_the_job_runs(queue):
    queue.add("a", {}), queue.add("b", {})
    queue.claim("cpu:0")
    assert queue.cancel("b").state == "cancelled" and queue.claim("cpu:1") is None
    asked = queue.cancel("a")
    assert asked.state == "running" and asked.cancelling
    queue.finish("a", "cancelled")
    assert queue.cancel("a") == queue.get("a") and not queue.get("a").cancelling
    assert queue.cancel("nothing") is None


def test_a_killed_process_loses_nothing(queue, tmp_path):
    for id in "abc":
        queue.add(id, {"seed": 3})
    queue.claim("cpu:0")
    queue.claim("cpu:0")
    queue.finish("a", "done")
    later = reopened(queue, tmp_path)
    assert [entry.id for entry in later.recover(max_starts=3)] == ["b"]
    assert states(later) == {"a": "done", "b": "queued", "c": "queued"}
    assert later.claim("cpu:0").id == "b"  # its place in the queue is the old one
    later.close()


def test_a_job_that_ends_the_process_each_time_is_given_up(queue, tmp_path):
    queue.add("a", {}), queue.add("b", {})
    queue.claim("cpu:0")
    for _ in range(2):
        queue = reopened(queue, tmp_path)
        queue.recover(max_starts=3)
        assert queue.claim("cpu:0").id == "a"
    queue.forgive()  # ended on purpose: all starts before don't count
    queue = reopened(queue, tmp_path)
    queue.recover(max_starts=3)
    for _ in range(3):
        assert queue.claim("cpu:0").id == "a"
        queue = reopened(queue, tmp_path)
        found = queue.recover(max_starts=3)
    assert [entry.state for entry in found] == ["failed"] and "3 times" in found[0].error
    assert queue.claim("cpu:0").id == "b"
    queue.cancel("b")
    queue = reopened(queue, tmp_path)
    assert [entry.state for entry in queue.recover(max_starts=3)] == ["cancelled"]


def test_a_job_that_is_given_back_keeps_its_place(queue):
    for id in "ab":
        queue.add(id, {})
    queue.claim("cpu:0")
    assert queue.give_back("a").starts == 0
    assert queue.claim("cpu:0").id == "a"


def test_only_finished_jobs_are_forgotten(queue):
    queue.add("a", {}), queue.add("b", {})
    queue.claim("cpu:0")
    assert not queue.forget("a") and not queue.forget("b") and not queue.forget("c")
    queue.finish("a", "done")
    assert queue.finished_before(queue.get("a").finished) == []
    assert queue.finished_before(queue.get("a").finished + 1) == ["a"]
    assert queue.forget("a") and queue.ids() == {"b"}


def test_many_threads_run_each_job_once(tmp_path):
    seen: list[str] = []
    ended = threading.Semaphore(0)

    def on_change(entry):
        seen.append(entry.state)
        if entry.state == "done":
            ended.release()

    queue = Queue(tmp_path / "queue.sqlite3", limit=1000, on_change=on_change)
    stop, claimed = threading.Event(), Counter()

    def work():
        while not stop.is_set():
            queue.wait(stop)
            if entry := queue.claim("cpu:0"):
                claimed[entry.id] += 1
                queue.finish(entry.id, "done")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(60):
        queue.add(str(i), {})
    for _ in range(60):
        ended.acquire()
    stop.set()
    queue.wake()
    for thread in threads:
        thread.join()
    assert set(claimed.values()) == {1} and len(claimed) == 60
    assert Counter(seen) == {"queued": 60, "running": 60, "done": 60}


def test_a_thousand_jobs_wait_in_one_file(tmp_path):
    queue = Queue(tmp_path / "queue.sqlite3", limit=1000)
    for i in range(1000):
        queue.add(str(i), {"background": "street.mp4", "seed": i})
    with pytest.raises(QueueFull):
        queue.add("one more", {})
    assert queue.before(queue.get("999")) == 999
    assert queue.claim("cpu:0").id == "0"


def test_other_files_and_versions_are_refused(tmp_path):
    (tmp_path / "text").write_text("not a database, but longer than a hundred bytes " * 5)
    with pytest.raises(InputError, match="not a queue"):
        Queue(tmp_path / "text", limit=1)
    newer = sqlite3.connect(tmp_path / "newer")
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(InputError, match="version 99"):
        Queue(tmp_path / "newer", limit=1)
