"""A service without HTTP: submit jobs, follow them, fetch their results. What serves it, a browser studio or
HTTP, adds only a door.

The folder of a service holds
    queue.sqlite3      every job and its state
    jobs/ID/uploads/   the job's own inputs, until it is finished
    jobs/ID/           its result, until `limits.keep_hours` later
    incoming/          uploads of submissions that aren't complete
"""

import fcntl
import hashlib
import json
import logging
import os
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from gencompositor_jax.controls.media.video import Media
from gencompositor_jax.errors import InputError
from gencompositor_jax.jobs.events import Event, Events
from gencompositor_jax.jobs.inputs import Inputs, checked
from gencompositor_jax.jobs.limits import Limits
from gencompositor_jax.jobs.queue import Queue
from gencompositor_jax.jobs.spec import Job
from gencompositor_jax.jobs.table import FINISHED, Entry
from gencompositor_jax.jobs.uploads import DiskFull, Uploads, check_disk, disk_errors
from gencompositor_jax.jobs.workers import OnStep, Worker

SWEEP_S = 60.0  # between two removals of old jobs

_log = logging.getLogger(__name__)


class Runner(Protocol):
    """What runs jobs: a model on each device. Nothing is loaded before the first job."""

    def devices(self) -> Sequence[str]:
        """The devices that run one job each."""

    def check(self, job: Job, media: Mapping[str, Media]) -> None:
        """Raises InputError where the model can't do a job, before it is queued.

        media: its probed clips by their paths.
        """

    def run(self, device: str, job: Job, media: Mapping[str, Media], folder: Path, on_step: OnStep) -> None:
        """Writes a job's result to `folder / job.out`, other files beside it. Raises InputError, and what
        `on_step` raises.
        """


class Service:
    """The jobs of a folder, and the threads that run them between `start` and `stop`."""

    def __init__(self, folder: Path, root: Path | None, limits: Limits, runner: Runner) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(folder / "lock")
        except OSError as error:
            raise InputError(f"{folder}: {error.strerror}; pass a folder that can be written to") from error
        self.folder, self.root, self.limits = folder.resolve(), root, limits
        self.events = Events()
        self.broken = False  # whether no job can run, because there is no device
        self._runner, self._stop = runner, threading.Event()
        self._threads: list[threading.Thread] = []
        self.incoming, self._jobs = self.folder / "incoming", self.folder / "jobs"
        self.listeners: list[Callable[[Entry], None]] = []  # called after each change of a job's state
        self.queue = Queue(self.folder / "queue.sqlite3", limits.queue, self._changed)

    def start(self) -> None:
        """Takes up the jobs of an earlier process, removes what it left behind, and starts the threads."""
        shutil.rmtree(self.incoming, ignore_errors=True)
        self._jobs.mkdir(exist_ok=True)
        known = self.queue.ids()
        for leftover in self._jobs.iterdir():
            if leftover.name not in known:
                shutil.rmtree(leftover, ignore_errors=True)
        for entry in self.queue.recover(self.limits.starts):
            _log.info("job %s is %s again", entry.id, entry.state)
        self._start_thread("sweep", self._sweep)
        self._start_thread("worker 0", self._work)

    def stop(self) -> None:
        """Ends the threads: a job that runs stops after its current step and waits for the next `start`."""
        self.events.close()
        self._stop.set()
        try:
            self.queue.forgive()
        except sqlite3.OperationalError as error:
            _log.error("can't write to the queue (%s)", error)
        self.queue.wake()
        for thread in self._threads:
            thread.join()
        self.queue.close()
        os.close(self._lock)

    def uploads(self) -> Uploads:
        """A place for the files of a submission."""
        return Uploads(self.incoming, self.limits.upload_mib * 2**20)

    def submit(
        self, request: Mapping[str, Any], uploads: Uploads | None = None, key: str | None = None
    ) -> Entry:
        """Checks a job and appends it to the queue.

        Args:
            request: the fields of `spec`, without `out` and `checkpoint`; see `Inputs` for its paths.
            uploads: the complete files of the submission, which become the job's.
            key: any text of the client; a second submission with it returns the job of the first.

        Raises InputError naming the field or file, DiskFull, QueueFull, or OtherJob for a key of another job.
        """
        folder = self.incoming / "none" if uploads is None else uploads.folder
        inputs = Inputs(self.root, folder)
        job, media = checked(request, inputs, self.limits)
        with inputs.short_messages():
            self._runner.check(job, media)
        check_disk(self.folder)
        id = secrets.token_hex(8)
        files = {} if uploads is None else uploads.digests
        text = json.dumps([request, files], sort_keys=True)
        entry = None
        try:
            if files:
                with disk_errors():
                    (self._jobs / id).mkdir(parents=True)
                    folder.rename(self._jobs / id / "uploads")
            entry = self.queue.add(id, request, key, hashlib.sha256(text.encode()).hexdigest())
        except sqlite3.OperationalError as error:
            raise DiskFull(f"the service can't keep the job ({error}); try again later") from error
        finally:
            if entry is None or entry.id != id:  # refused, or submitted before
                shutil.rmtree(self._jobs / id, ignore_errors=True)
        return entry

    def remove(self, id: str) -> bool:
        """Removes a finished job with its files; False if there is none."""
        found = self.queue.forget(id)
        if found:
            shutil.rmtree(self._jobs / id, ignore_errors=True)
        return found

    def folder_of(self, id: str) -> Path:
        """Where the files of a job are."""
        return self._jobs / id

    def inputs_of(self, id: str) -> Inputs:
        """Which files a job may read."""
        return Inputs(self.root, self.folder_of(id) / "uploads")

    def _run(self, device: str, entry: Entry, on_step: OnStep) -> None:
        folder = self.folder_of(entry.id)
        inputs = self.inputs_of(entry.id)
        with Inputs(folder, folder).short_messages(), inputs.short_messages():
            check_disk(self.folder)
            job, media = checked(entry.request, inputs, self.limits)  # again: files may have changed or gone
            folder.mkdir(exist_ok=True)
            self._runner.run(device, job, media, folder, on_step)

    def _changed(self, entry: Entry) -> None:
        if entry.state in FINISHED:
            folder = self.folder_of(entry.id)
            shutil.rmtree(folder / "uploads" if entry.state == "done" else folder, ignore_errors=True)
        if entry.state in FINISHED or (entry.state == "running" and not entry.cancelling):
            self.events.publish(Event(entry.id, entry.state, error=entry.error))
        for listener in self.listeners:
            listener(entry)

    def _work(self) -> None:
        """The first worker, which asks for the devices, and thus loads JAX, when a job waits."""
        self.queue.wait(self._stop)
        if self._stop.is_set():
            return
        try:
            first, *others = devices = self._runner.devices()
        except Exception:
            _log.exception("no job can run")
            self.broken = True
            return
        self.queue.workers = len(devices)
        for i, device in enumerate(others, 1):
            self._start_thread(f"worker {i}", self._worker(device))
        self._worker(first)()

    def _worker(self, device: str) -> Worker:
        def run(entry: Entry, on_step: OnStep) -> None:
            self._run(device, entry, on_step)

        return Worker(self.queue, self.events, run, device, self.limits.minutes, self._stop)

    def _sweep(self) -> None:
        """Removes jobs that were finished long ago, until the service stops."""
        while True:
            try:
                for id in self.queue.finished_before(time.time() - 3600 * self.limits.keep_hours):
                    self.remove(id)
            except sqlite3.OperationalError as error:
                _log.error("can't remove old jobs (%s)", error)
            if self._stop.wait(SWEEP_S):
                return

    def _start_thread(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()


def _locked(path: Path) -> int:
    """A lock that ends with the process. Raises InputError where another process has it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise InputError(f"{path.parent}: another service uses this folder; pass another one") from error
    return handle
