import shutil
import sqlite3
import threading

import pytest

from gencompositor_jax.errors import InputError
from gencompositor_jax.jobs import workers
from gencompositor_jax.jobs.limits import Limits
from gencompositor_jax.jobs.queue import OtherJob, QueueFull
from gencompositor_jax.jobs.service import Service
from gencompositor_jax.jobs.uploads import DiskFull
from tests.jobs.conftest import PATIENCE_S, REQUEST, FakeRunner, ended


def test_a_job_is_checked_queued_run_and_kept(service, runner):
    heard, last = [], threading.Event()

    def hear(event):
        heard.append(event)
        if event.last:
            last.set()

    entry = service.submit(REQUEST)
    with service.events.listening(entry.id, hear):
        assert entry.state == "queued" and runner.asked == 0
        service.start()
        entry = ended(service, entry.id)
        assert last.wait(PATIENCE_S)  # it follows the state in the queue
    assert entry.state == "done" and entry.device == "fake:0"
    assert (service.folder_of(entry.id) / "result.mp4").read_bytes() == b"frames of seed 42"
    assert [(event.state, event.done, event.total) for event in heard] == [
        ("running", 0, 0),
        *(("running", step, 4) for step in (1, 2, 3, 4)),
        ("done", 0, 0),
    ]


def test_nothing_is_asked_of_the_devices_before_the_first_job(service, runner):
    service.start()
    service.queue.wake()
    with pytest.raises(InputError):
        service.submit(REQUEST | {"steps": 0})
    assert runner.asked == 0


def test_uploads_are_the_job_s_until_it_is_finished(service, root, runner):
    with service.uploads() as uploads:
        uploads.begin("cat.png")
        uploads.write((root / "bird.png").read_bytes())
        uploads.end()
        entry = service.submit(REQUEST | {"foreground": "upload:cat.png", "seed": 99}, uploads)
    file = service.folder_of(entry.id) / "uploads" / "cat.png"
    assert file.exists() and not list(service.incoming.iterdir())
    service.start()
    assert runner.reached.wait(PATIENCE_S) and file.exists()
    runner.go.set()
    assert ended(service, entry.id).state == "done"
    assert [path.name for path in service.folder_of(entry.id).iterdir()] == ["result.mp4"]


def test_refused_submissions_leave_nothing(service, root, monkeypatch):
    def send(more=b"", **change):
        with service.uploads() as uploads:
            uploads.begin("cat.png")
            uploads.write((root / "bird.png").read_bytes() + more)
            uploads.end()
            return service.submit(REQUEST | {"foreground": "upload:cat.png"} | change, uploads, key="k")

    service.start()
    service._stop.set(), service.queue.wake()  # nothing runs
    first = send()
    assert send() == first  # the same key, fields and file
    with pytest.raises(OtherJob):
        send(more=b"\0")
    for _ in range(4):
        service.submit(REQUEST)
    with pytest.raises(QueueFull):
        service.submit(REQUEST)
    with pytest.raises(InputError, match="steps"):
        send(steps=0)
    service.queue._db.execute("DELETE FROM jobs WHERE number = 2")
    monkeypatch.setattr(service.queue, "add", lambda *_: _raise(sqlite3.OperationalError("disk is full")))
    with pytest.raises(DiskFull):
        send(seed=3)
    assert [path.name for path in (service.folder / "jobs").iterdir()] == [first.id]
    assert not list(service.incoming.iterdir())


def test_a_failed_job_says_why_and_the_next_one_runs(service, root, caplog):
    broken = service.submit(REQUEST | {"seed": 13})
    bug = service.submit(REQUEST | {"seed": 14})
    (root / "soon gone.png").write_bytes((root / "bird.png").read_bytes())
    vanished = service.submit(REQUEST | {"foreground": "soon gone.png"})
    good = service.submit(REQUEST)
    (root / "soon gone.png").unlink()
    service.start()
    assert ended(service, good.id).state == "done"
    assert service.queue.get(broken.id).error == "street: too dark"
    assert "internal error (RuntimeError)" in service.queue.get(bug.id).error and "a bug" in caplog.text
    assert "'soon gone.png': no such file in the service's folder" in service.queue.get(vanished.id).error
    assert not service.folder_of(broken.id).exists()


def test_a_running_job_is_cancelled_after_its_step(service, runner):
    entry, waiting = service.submit(REQUEST | {"seed": 99}), service.submit(REQUEST | {"seed": 5})
    service.start()
    assert runner.reached.wait(PATIENCE_S)
    assert service.queue.cancel(entry.id).cancelling
    runner.go.set()
    assert ended(service, entry.id).state == "cancelled"
    assert ended(service, waiting.id).state == "done"
    assert not service.folder_of(entry.id).exists()


def test_a_job_has_its_time(tmp_path, root):
    runner = FakeRunner()
    service = Service(tmp_path / "service", root, Limits(minutes=1e-9), runner)
    entry = service.submit(REQUEST)
    service.start()
    assert "the limit, at step 1 of 4" in ended(service, entry.id).error
    service.stop()


def test_stopping_gives_the_job_back_and_the_next_process_runs_it(service, root, runner, monkeypatch):
    first, second = service.submit(REQUEST | {"seed": 99}), service.submit(REQUEST | {"seed": 7})
    service.start()
    assert runner.reached.wait(PATIENCE_S)
    wake, starts = service.queue.wake, []

    def woken():
        starts.append(service.queue.get(first.id).starts)
        runner.go.set()
        wake()

    monkeypatch.setattr(service.queue, "wake", woken)
    assert service.queue.get(first.id).starts == 1
    service.stop()
    assert starts == [0]  # if it were killed now, that wouldn't count against the job
    again = Service(service.folder, root, Limits(), FakeRunner())
    assert [again.queue.get(id).state for id in (first.id, second.id)] == ["queued", "queued"]
    again._runner.go.set()
    (again.folder / "jobs" / "leftover").mkdir(parents=True)
    (again.folder / "incoming" / "half").mkdir(parents=True)
    again.start()
    assert ended(again, second.id).state == "done" and again.queue.get(first.id).state == "done"
    assert again._runner.runs == [("fake:0", 99), ("fake:0", 7)]
    assert not (again.folder / "jobs" / "leftover").exists() and not (again.folder / "incoming").exists()
    again.stop()
    service.stop = lambda: None


def test_each_device_runs_one_job_at_a_time(tmp_path, root):
    runner = FakeRunner(devices=3)
    service = Service(tmp_path / "service", root, Limits(), runner)
    blocked = service.submit(REQUEST | {"seed": 99})
    service.start()
    others = [service.submit(REQUEST | {"seed": seed}) for seed in range(12)]
    assert all(ended(service, entry.id).state == "done" for entry in others)
    assert service.queue.get(blocked.id).state == "running"
    runner.go.set()
    assert ended(service, blocked.id).state == "done"
    assert len(runner.runs) == 13
    service.stop()


def test_old_jobs_and_their_files_are_removed(tmp_path, root):
    service = Service(tmp_path / "service", root, Limits(keep_hours=1e-9), FakeRunner())
    service.start()
    entry = service.submit(REQUEST)
    ended(service, entry.id)
    service.stop()
    again = Service(tmp_path / "service", root, Limits(keep_hours=1e-9), FakeRunner())
    again.start()
    while again.queue.get(entry.id) is not None:
        pass
    again.stop()
    assert not again.folder_of(entry.id).exists()


def test_removing_is_for_finished_jobs(service):
    entry = service.submit(REQUEST)
    assert not service.remove(entry.id)
    service.start()
    ended(service, entry.id)
    assert service.remove(entry.id) and not service.folder_of(entry.id).exists()


def test_a_queue_on_a_full_disk_is_tried_again(service, monkeypatch):
    monkeypatch.setattr(workers, "RETRY_S", 0)
    finish, calls = service.queue.finish, []

    def full_at_first(*args):
        calls.append(args)
        if len(calls) < 3:
            raise sqlite3.OperationalError("database or disk is full")
        return finish(*args)

    monkeypatch.setattr(service.queue, "finish", full_at_first)
    entry = service.submit(REQUEST)
    service.start()
    assert ended(service, entry.id).state == "done" and len(calls) == 3


def test_no_job_is_taken_while_the_disk_is_full(service, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(DiskFull):
        service.submit(REQUEST)


def test_a_folder_has_one_service(service, root):
    with pytest.raises(InputError, match="another service"):
        Service(service.folder, root, Limits(), FakeRunner())


def test_a_machine_without_devices_is_reported(service, monkeypatch):
    monkeypatch.setattr(FakeRunner, "devices", lambda _: _raise(RuntimeError("no TPU")))
    entry = service.submit(REQUEST)
    service.start()
    service._threads[-1].join()
    assert service.broken and service.queue.get(entry.id).state == "queued"


def _raise(error):
    raise error
