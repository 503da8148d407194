"""Clips of a few hundred bytes, and a runner without a network."""

import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gencompositor_jax.errors import InputError
from gencompositor_jax.jobs.limits import Limits
from gencompositor_jax.jobs.service import Service

REQUEST = {"background": "street", "foreground": "bird.png", "trajectory": "2,3 6,5", "steps": 4}
PATIENCE_S = 60


class FakeRunner:
    """Counts to `steps`. A job with seed 13 is broken; one with seed 99 waits until it is let go."""

    def __init__(self, devices: int = 1) -> None:
        self.names = [f"fake:{i}" for i in range(devices)]
        self.asked = 0
        self.runs: list[tuple[str, int]] = []
        self.reached, self.go = threading.Event(), threading.Event()

    def devices(self):
        self.asked += 1
        return self.names

    def check(self, job, media):
        if job.scene.frames == 6:
            raise InputError("frames: 6; this model wants 5")

    def run(self, device, job, media, folder, on_step):
        options = job.scene.sampling
        self.runs.append((device, options.seed))
        if options.seed == 13:
            raise InputError(f"{job.scene.background}: too dark")
        if options.seed == 14:
            raise RuntimeError("a bug")
        for step in range(1, options.steps + 1):
            if options.seed == 99 and step == 2:
                self.reached.set()
                assert self.go.wait(PATIENCE_S)
            on_step(step, options.steps)
        (folder / job.out).write_bytes(b"frames of seed %d" % options.seed)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder that the service may read, and files beside it that it may not."""
    folder = tmp_path / "root"
    (folder / "street").mkdir(parents=True)
    for i in range(3):
        Image.fromarray(np.full((8, 12, 3), 90, np.uint8)).save(folder / "street" / f"{i}.png")
    Image.fromarray(np.full((4, 4, 4), 200, np.uint8)).save(folder / "bird.png")
    Image.fromarray(np.full((4, 4, 4), 200, np.uint8)).save(tmp_path / "secret.png")
    (tmp_path / "secret.txt").write_text("1,2\n3,4\n")
    return folder


@pytest.fixture
def runner() -> FakeRunner:
    return FakeRunner()


@pytest.fixture
def service(tmp_path: Path, root: Path, runner: FakeRunner):
    """A service that isn't started."""
    made = Service(tmp_path / "service", root, Limits(queue=5), runner)
    yield made
    runner.go.set()
    made.stop()


def ended(service: Service, id: str):
    """A job once it is finished."""
    over = threading.Event()
    with service.events.listening(id, lambda event: over.set() if event is None or event.last else None):
        entry = service.queue.get(id)
        if entry.finished is None:
            assert over.wait(PATIENCE_S)
    return service.queue.get(id)
