import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from gencompositor_jax import arch as arch_lib
from gencompositor_jax import checkpoint
from gencompositor_jax.training import loop
from gencompositor_jax.training import state as state_lib
from gencompositor_jax.training.config import load_config

SMALL = dataclasses.replace(
    arch_lib.tiny(),
    frames=5,
    height=32,
    width=48,
    base_grid=(2, 3),
    backbone=dataclasses.replace(arch_lib.tiny().backbone, num_layers=1, num_heads=1, head_dim=16),
    branch=dataclasses.replace(arch_lib.tiny().branch, num_layers=1, num_heads=1, head_dim=16),
)
TINY = str(Path(__file__).parents[2] / "configs" / "tiny.py")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    cache = tmp_path_factory.mktemp("clips")
    changes = [f"data.cache={cache}", "steps=4", "log_every=1", "optimizer.warmup=2"]
    return load_config(f"{TINY}:runlocal", changes)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(state_lib, "make_arch", lambda config: SMALL)


@pytest.fixture(scope="module")
def uninterrupted(config, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_lib, "make_arch", lambda config: SMALL)
        workdir = tmp_path_factory.mktemp("whole")
        return workdir, checkpoint.load(loop.train(config, workdir))


def test_the_result_is_a_checkpoint(uninterrupted):
    workdir, model = uninterrupted
    assert model.arch == SMALL
    assert model.provenance["step"] == 4
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 3  # the last step's metrics are still on their way
    assert all(np.isfinite(row["loss"]) for row in rows)
    assert json.loads((workdir / "config.json").read_text())["steps"] == 4


def test_stopped_and_started_again_it_ends_the_same(config, uninterrupted, tmp_path):
    loop.train(config, tmp_path, minutes=0.0)  # one step
    loop.train(config, tmp_path)
    again = checkpoint.load(tmp_path / "model")
    assert again.provenance["step"] == 4
    for a, b in zip(jax.tree.leaves(again.arrays), jax.tree.leaves(uninterrupted[1].arrays), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_finished_run_is_left_alone(config, uninterrupted):
    workdir, model = uninterrupted
    before = (workdir / "metrics.jsonl").read_text()
    loop.train(config, workdir)
    assert (workdir / "metrics.jsonl").read_text() == before
    assert checkpoint.load(workdir / "model").provenance["step"] == 4


def test_it_learns(config):
    """Sixty steps on one batch: the loss falls to a fraction."""
    from gencompositor_jax.denoiser import Denoiser

    with config.unlocked():
        config = config.copy_and_resolve_references()
        config.steps, config.optimizer.learning_rate = 200, 3e-3
    optimizer = state_lib.make_optimizer(config)
    state, frozen = state_lib.init(SMALL, optimizer, jax.random.key(0))
    step = loop.make_step(config, Denoiser(SMALL), optimizer)
    rng = np.random.default_rng(0)
    frames = np.repeat(rng.integers(0, 256, (2, 1, 1, 1, 3), dtype=np.uint8), 32 * 48 * 5, 1)
    frames = frames.reshape(2, 5, 32, 48, 3)
    mask = np.zeros((2, 5, 32, 48), bool)
    mask[:, :, :16, :16] = True
    batch = {"target": frames, "masked_background": frames, "foreground": frames, "mask": mask}
    losses = []
    for _ in range(60):
        state, metrics = step(state, frozen, batch, jax.random.key(0))
        losses.append(float(metrics["loss"]))
    assert np.mean(losses[-5:]) < 0.2 * np.mean(losses[:5])


def test_decay_is_for_matrices(config):
    optimizer = state_lib.make_optimizer(config)
    state, _ = state_lib.init(SMALL, optimizer, jax.random.key(0))
    names = jax.tree_util.tree_flatten_with_path(state_lib._matrices(state.params))[0]
    decayed = {path[-1].key for path, flag in names if flag}
    assert decayed == {"kernel"}
    assert any(not flag for _, flag in names)


def test_a_kill_between_renames_is_survived(config, tmp_path):
    optimizer = state_lib.make_optimizer(config)
    state, _ = state_lib.init(SMALL, optimizer, jax.random.key(0))
    folder = tmp_path / "state"
    state_lib.save(folder, state)
    folder.rename(tmp_path / "state.old")
    assert state_lib.saved(folder)
    back = state_lib.restore(folder, state)
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(a, b)
