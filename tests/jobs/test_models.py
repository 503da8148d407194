"""Jobs run by a small network, on virtual devices."""

import json
import threading

import jax
import numpy as np
import pytest
from PIL import Image

from gencompositor_jax.compositor import Compositor
from gencompositor_jax.controls.media.video import read_video
from gencompositor_jax.controls.media.video_out import write_image_folder, write_video
from gencompositor_jax.errors import InputError
from gencompositor_jax.inference import meshes
from gencompositor_jax.jobs import models as module
from gencompositor_jax.jobs import report
from gencompositor_jax.jobs.inputs import Inputs, checked
from gencompositor_jax.jobs.limits import Limits
from gencompositor_jax.jobs.models import Models
from gencompositor_jax.jobs.service import Service
from gencompositor_jax.jobs.workers import Cancelled
from tests.jobs.conftest import PATIENCE_S, ended

TRAJECTORY = "20,30 45,34 70,30"
REQUEST = {"background": "street", "foreground": "bird", "trajectory": TRAJECTORY, "steps": 4, "seed": 3}


@pytest.fixture(scope="module", autouse=True)
def _all_devices():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meshes, "local_devices", jax.local_devices)
        yield


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    write_image_folder(folder / "street", rng.integers(0, 255, (5, 64, 96, 3), dtype=np.uint8))
    element = np.full((5, 24, 24, 4), 200, np.uint8)
    element[:, :6, :, 3] = 0
    write_image_folder(folder / "bird", element)
    return folder


@pytest.fixture(scope="module")
def models(small_checkpoint):
    return Models(small_checkpoint)


def job(clips, **change):
    return checked({**REQUEST, **change}, Inputs(clips, clips / "uploads"), Limits())


def test_a_job_writes_what_compose_makes_on_its_own_device(
    clips, models, small_checkpoint, tmp_path, monkeypatch
):
    written = []
    monkeypatch.setattr(
        report,
        "write_video",
        lambda path, frames, *rest, **more: (
            written.append(frames),
            write_video(path, frames, *rest, **more),
        ),
    )
    assert models.devices() == [f"cpu:{i}" for i in range(8)]
    steps = []
    models.run("cpu:1", *job(clips), tmp_path, lambda done, total: steps.append((done, total)))
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "result.json",
        "result.mp4",
        "result.png",
        "result.scene.json",
    ]
    composite = Compositor.load(small_checkpoint, mesh={"data": 1}).compose(
        clips / "street", clips / "bird", TRAJECTORY, steps=4, seed=3
    )
    np.testing.assert_array_equal(written[0], composite.frames)  # x264's own result depends on its memory
    assert read_video(tmp_path / "result.mp4").frames.shape == composite.frames.shape
    assert json.loads((tmp_path / "result.json").read_text())["settings"]["seed"] == 3
    (loaded,) = models._loaded.values()
    assert {device.id for leaf in jax.tree.leaves(loaded.model.arrays) for device in leaf.devices()} == {1}


def test_a_callback_that_raises_stops_the_job_between_two_steps(clips, models, tmp_path):
    steps = []

    def on_step(done, total):
        steps.append(done)
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        models.run("cpu:1", *job(clips), tmp_path, on_step)
    assert steps == [1, 2] and not (tmp_path / "result.mp4").exists()
    models.run("cpu:1", *job(clips), tmp_path, lambda *_: None)  # the model is as good as before


def test_a_removal_and_a_layer_in_an_inline_project_with_estimates(clips, small_checkpoint, tmp_path):
    mask = np.zeros((64, 96, 3), np.uint8)
    mask[40:60, 10:30] = 255
    write_image_folder(clips / "mask", mask[None])
    project = {
        "version": 1,
        "background": {"path": "street"},
        "remove": "mask",
        "layers": [{"foreground": "bird", "trajectory": {"keyframes": [{"x": 70, "y": 30}]}}],
        "steps": 2,
    }
    given = checked({"project": project, "layer": True}, Inputs(clips, clips / "uploads"), Limits())
    out, seen = tmp_path / "out", []
    out.mkdir()

    def on_step(done, total):
        seen.append((done, total, np.asarray(Image.open(out / "estimate.webp"))))

    Models(small_checkpoint, estimates=True).run("cpu:0", *given, out, on_step)
    assert [(done, total) for done, total, _ in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    first, second, *_ = (picture for *_, picture in seen)
    assert first.shape == (32, 48, 3) and (first != second).any()
    assert sorted(path.name for path in out.iterdir()) == [
        "result.json",
        "result.layer.mov",
        "result.mp4",
        "result.png",
        "result.scene.json",
    ]
    layer = read_video(out / "result.layer.mov", alpha=True).frames
    assert layer.shape == (5, 64, 96, 4)
    covered = layer[..., 3] > 128
    assert covered[:, 45:55, 15:25].all() and covered[:, 25:35, 75].all() and not covered[:, :5].any()


def test_a_job_may_change_the_mask_but_not_the_model(clips, models, tmp_path):
    models.check(*job(clips, sigma=2.0))
    models.run("cpu:1", *job(clips), tmp_path, lambda *_: None)
    models.run("cpu:1", *job(clips, sigma=0.5), tmp_path, lambda *_: None)  # replaces the result
    for change in (
        {"frames": 6},
        {"frames": 9},
        {"prompt": "sunset"},
        {"weights": "int8"},
        {"tiles": "released"},
    ):
        with pytest.raises(InputError, match=next(iter(change))):
            models.check(*job(clips, **change))


def test_programs_of_many_shapes_are_forgotten(clips, models, tmp_path, monkeypatch):
    cleared = []
    monkeypatch.setattr(jax, "clear_caches", lambda: cleared.append(1))
    monkeypatch.setattr(module, "MAX_PROGRAMS", 10**6)
    models.run("cpu:1", *job(clips), tmp_path, lambda *_: None)
    assert not cleared
    monkeypatch.setattr(module, "MAX_PROGRAMS", 0)
    models.run("cpu:1", *job(clips), tmp_path, lambda *_: None)
    assert cleared


@pytest.mark.slow
def test_a_clip_longer_than_the_model_s_is_stopped_and_made(clips, models, tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    write_image_folder(clips / "long", rng.integers(0, 255, (9, 64, 96, 3), dtype=np.uint8))
    long, steps = job(clips, background="long", extend="loop"), []

    def on_step(done, total):
        steps.append((done, total))
        if len(steps) == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        models.run("cpu:1", *long, tmp_path, on_step)
    assert steps == [(1, 8), (2, 8)]  # of two windows
    monkeypatch.setattr(models, "estimates", True)
    seen = []
    models.run("cpu:1", *long, tmp_path, lambda *_: seen.append((tmp_path / module.ESTIMATE).exists()))
    assert seen == [False] * 2 + [True] * 6  # after the first step of both windows
    assert len(read_video(tmp_path / "result.mp4").frames) == 9
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith("result.")]


@pytest.mark.slow
def test_a_service_runs_jobs_on_several_devices_and_cancels_between_steps(clips, small_checkpoint, tmp_path):
    begun, go = threading.Event(), threading.Event()

    class Held(Models):
        """The job of 100 steps waits after ten of them."""

        def devices(self):
            return ["cpu:0", "cpu:1"]

        def run(self, device, job, media, folder, on_step):
            def held(done, total):
                if total == 100:
                    begun.set()
                    assert go.wait(PATIENCE_S)
                on_step(done, total)

            super().run(device, job, media, folder, held)

    service = Service(tmp_path / "service", clips, Limits(), Held(small_checkpoint))
    long = service.submit(REQUEST | {"steps": 100})
    service.start()
    assert begun.wait(PATIENCE_S)
    others = [service.submit(REQUEST | {"seed": seed}) for seed in range(4)]
    assert [ended(service, entry.id).state for entry in others] == ["done"] * 4
    (other,) = {service.queue.get(entry.id).device for entry in others}
    assert {other, service.queue.get(long.id).device} == {"cpu:0", "cpu:1"}
    service.queue.cancel(long.id)
    go.set()
    assert ended(service, long.id).state == "cancelled"
    assert not service.folder_of(long.id).exists()
    service.stop()
