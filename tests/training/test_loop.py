"""Whole runs in one process: what they write, how they stop and resume, and what they refuse."""

import json
import os
import signal
from contextlib import closing
from pathlib import Path

import jax
import numpy as np
import pytest

from gencompositor_jax import arch as arch_lib
from gencompositor_jax import checkpoints, sharding
from gencompositor_jax.data_pipelines.sources import open_source
from gencompositor_jax.errors import InputError
from gencompositor_jax.training import loop
from gencompositor_jax.training.config import load_config

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = (
    "arch_changes.frames=5",
    "arch_changes.height=32",
    "arch_changes.width=48",
    "arch_changes.backbone.num_layers=1",
    "arch_changes.backbone.head_dim=16",
    "arch_changes.branch.head_dim=16",
    "mesh.data=1",
    "mesh.fsdp=1",
    "steps=6",
    "batch_size=2",
    "log_every=1",
    "optimizer.warmup=2",
    "checkpoint.every=2",
    "validation.every=6",
)


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    """Train on one of the eight virtual devices that the tests have."""
    devices = jax.devices()[:1]
    monkeypatch.setattr(loop.sharding, "make_mesh", _on(devices, loop.sharding.make_mesh))


def _on(devices, make_mesh):
    return lambda sizes: make_mesh(sizes, devices)


def configured(*changes):
    return load_config(f"{CONFIGS}/gencompositor_6b.py:runlocal", [*SMALL, *changes])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.sharding, "make_mesh", _on(jax.devices()[:1], loop.sharding.make_mesh))
        model = loop.train(configured(), workdir)
    return workdir, checkpoints.load(model)


def rows(workdir):
    found = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in found if "loss" in row]


def assert_same(a, b):
    for x, y in zip(jax.tree.leaves(a.arrays), jax.tree.leaves(b.arrays), strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_run_writes_a_model_metrics_and_a_sheet(uninterrupted):
    workdir, model = uninterrupted
    assert model.arch.frames == 5
    assert model.provenance["step"] == 6
    assert [step for step, _ in rows(workdir)] == [2, 3, 4, 5, 6]  # metrics are fetched one step late
    assert all(np.isfinite(loss) for _, loss in rows(workdir))
    assert json.loads((workdir / "config.json").read_text())["steps"] == 6
    assert (workdir / "sheets" / "step-000006.png").stat().st_size > 1000
    assert list((workdir / "tensorboard").iterdir())
    assert json.loads((workdir / "goodput.json").read_text())["starts"] == 1


@pytest.mark.slow
def test_the_model_is_written_at_checkpoints_where_the_config_says_so(tmp_path, monkeypatch):
    save, written = loop.checkpoints.save, []

    def recorded(folder, model, **options):
        save(folder, model, **options)
        written.append((folder, checkpoints.read_metadata(folder).provenance["step"]))

    monkeypatch.setattr(loop.checkpoints, "save", recorded)
    loop.train(configured("checkpoint.model=true"), tmp_path)
    assert written == [(tmp_path / "model", step) for step in (2, 4, 6)]


@pytest.mark.slow
def test_a_run_stopped_three_times_ends_with_the_same_model(uninterrupted, tmp_path):
    for _ in range(3):
        loop.train(configured(), tmp_path, minutes=0.0)  # one step each
    model = loop.train(configured(), tmp_path)
    assert_same(checkpoints.load(model), uninterrupted[1])
    assert rows(tmp_path)[-3:] == rows(uninterrupted[0])[-3:]


@pytest.mark.slow
def test_sigterm_saves_after_the_step_and_the_run_resumes(uninterrupted, tmp_path, monkeypatch, capsys):
    make_step, calls = loop.make_step, []

    def with_sigterm(*args):
        step = make_step(*args)

        def step_with_sigterm(*args):
            calls.append(1)
            if len(calls) == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(*args)

        return step_with_sigterm

    monkeypatch.setattr(loop, "make_step", with_sigterm)
    assert loop.train(configured(), tmp_path) is None
    assert "step 3 of 6 saved" in capsys.readouterr().out
    assert not (tmp_path / "model").exists()
    assert (tmp_path / "checkpoints" / "3").is_dir()
    assert_same(checkpoints.load(loop.train(configured(), tmp_path)), uninterrupted[1])


def test_starting_a_finished_run_changes_nothing(uninterrupted):
    workdir, model = uninterrupted
    before = (workdir / "metrics.jsonl").read_text()
    again = loop.train(configured(), workdir)
    assert (workdir / "metrics.jsonl").read_text() == before
    assert_same(checkpoints.load(again), model)


def test_a_config_of_other_shapes_is_refused_and_changes_nothing(uninterrupted):
    workdir, _ = uninterrupted
    before = (workdir / "config.json").read_text()
    with pytest.raises(InputError, match="arrays of this checkpoint differ from the config's"):
        loop.train(configured("arch_changes.backbone.num_layers=2"), workdir)
    assert (workdir / "config.json").read_text() == before


@pytest.mark.parametrize("change", ["batch_size=4", "data.echo=2"])
def test_another_place_in_the_data_is_refused_and_changes_nothing(uninterrupted, change):
    """It is counted in batches, and in their uses."""
    workdir, _ = uninterrupted
    before = (workdir / "config.json").read_text()
    name = change.partition("=")[0]
    with pytest.raises(InputError, match=rf"config\.{change}: .* has \d+, .*--config\.{name}="):
        loop.train(configured(change), workdir)
    assert (workdir / "config.json").read_text() == before
    loop.check_place(workdir, {"next_batch": 3}, configured(change))  # of a version that didn't store it


def test_a_batch_is_used_again_and_a_resumed_run_uses_the_same_ones():
    """Whatever step it resumes at, with batches of the same content."""

    def batches_from(step):
        with closing(loop.on_devices(source, config, mesh, step)) as batches:
            return [np.asarray(batch["target"]) for batch, _ in batches]

    config = configured("data.echo=3", "steps=14", "batch_size=1", "mesh.data=1", "mesh.fsdp=1")
    mesh, arch = sharding.make_mesh(config.mesh), arch_lib.preset(config.arch, config.arch_changes.to_dict())
    source = open_source(config.data, arch)
    whole = batches_from(0)
    assert len({frames.tobytes() for frames in whole}) == 5
    for step in (4, 13):
        for found, expected in zip(batches_from(step), whole[step:], strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("batch_size=3", "batch_size=3: must be a multiple of 2"),
        ("optimizer.warmup=6", "optimizer.warmup=6: must be below steps=6"),
        ("mesh.data=2", "needs 2 devices, there are 1"),
        ("data.source=videocomp", "data.path"),
        ("arch_changes.backbone.heads=3", "arch_changes.backbone.heads: unknown field"),
        ("init=nowhere", "nowhere: no such folder"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_before_any_work(change, message, tmp_path):
    changes = [change, "optimizer.accumulate=2"] if change == "batch_size=3" else [change]
    with pytest.raises(InputError, match=message):
        loop.train(configured(*changes), tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()


def test_a_workdir_that_cannot_be_created_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="can't be created"):
        loop.train(configured(), tmp_path / "file" / "run")
