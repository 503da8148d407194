"""Checkpoints are restored exactly, and survive killed processes, full disks and damaged files.

Runs that are killed and resumed are in test_loop.py, several processes in test_checkpointer_two_processes.py.
"""

import contextlib
import functools
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gencompositor_jax.checkpoints import manifest
from gencompositor_jax.errors import InputError
from gencompositor_jax.training.checkpointer import open_checkpointer, steps_to_delete
from gencompositor_jax.training.resume import saved_steps
from tests import processes

# Orbax leaves coroutines unawaited when a read or a write fails.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


DATA = {"next_batch": 0, "unreported": []}


class State(NamedTuple):
    """Structured like a TrainState: dicts, tuples, empty tuples, None, several types."""

    params: Any
    ema: Any
    optimizer: Any
    step: jax.Array


def state_of(step, rows=8):
    """A state whose every number depends on the step."""
    rng = np.random.default_rng(step)
    params = {
        "backbone": {"kernel": jnp.asarray(rng.normal(size=(rows, 64)), jnp.float32), "empty": {}},
        "lora": {"a": jnp.asarray(rng.normal(size=(3,)), jnp.bfloat16)},
    }
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(), optax.scale(0.1))
    moments = jax.tree.map(lambda x: x + step, optimizer.init(params))
    return State(params, None, moments, jnp.asarray(step, jnp.int32))


LIKE = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state_of(0))


def assert_same(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert (a.dtype, a.sharding) == (b.dtype, b.sharding)
        np.testing.assert_array_equal(a, b)


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Steps 10, 20 and 30."""
    folder = tmp_path_factory.mktemp("checkpoints")
    with open_checkpointer(folder, keep_last=3) as checkpointer:
        for step in (10, 20, 30):
            checkpointer.save(step, state_of(step), {"next_batch": step, "unreported": []})
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of `saved`."""
    return shutil.copytree(saved, tmp_path / "run")


def restored(folder, like=LIKE):
    with open_checkpointer(folder, keep_last=3) as checkpointer:
        return checkpointer.restore(like)


def test_the_newest_is_restored_exactly(folder):
    step, state, data = restored(folder)
    assert (step, data) == (30, {"next_batch": 30, "unreported": []})
    assert_same(state, state_of(30))
    assert isinstance(state.optimizer[1], optax.ScaleByAdamState)
    assert sorted(path.name for path in folder.iterdir()) == ["10", "20", "30"]
    assert manifest.read(folder / "30") is not None


def test_without_a_checkpoint_restore_returns_none(tmp_path):
    assert restored(tmp_path / "new" / "run") is None


def test_a_saved_step_is_not_saved_again(folder):
    with open_checkpointer(folder, keep_last=3) as checkpointer:
        checkpointer.save(30, state_of(31), {"next_batch": 31, "unreported": []})
    assert restored(folder).data == {"next_batch": 30, "unreported": []}


def test_the_next_steps_may_donate_the_state_while_it_is_written(tmp_path):
    """The checkpoint holds the state as it was when `save` was called."""
    step = jax.jit(lambda tree: jax.tree.map(lambda x: x * -1 - 1, tree), donate_argnums=0)
    state = {"a": jnp.arange(2**21, dtype=jnp.float32), "b": jnp.arange(2**20, dtype=jnp.int32)}
    want = jax.tree.map(np.array, state)
    with open_checkpointer(tmp_path, keep_last=1) as checkpointer:
        checkpointer.save(1, state, DATA)
        for _ in range(5):
            state = step(state)
        jax.block_until_ready(state)
        got = checkpointer.restore(state)
    for name in want:
        np.testing.assert_array_equal(got.state[name], want[name])


@given(
    saved=st.lists(st.integers(1, 40), unique=True).map(sorted),
    keep_last=st.integers(1, 5),
    keep_every=st.none() | st.integers(1, 8),
)
def test_the_last_and_every_kth_step_are_kept(saved, keep_last, keep_every):
    kept = []
    for step in saved:
        kept.append(step)
        deleted = steps_to_delete(kept, keep_last, keep_every)
        kept = [s for s in kept if s not in deleted]
    never_deleted = {s for s in saved if keep_every is not None and s % keep_every == 0}
    assert kept == sorted(set(saved[-keep_last:]) | never_deleted)


def test_deleted_checkpoints_leave_no_files(tmp_path):
    with open_checkpointer(tmp_path, keep_last=2, keep_every=4) as checkpointer:
        for step in range(1, 8):
            checkpointer.save(step, state_of(step), DATA)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4", "6", "7"]


def test_leftovers_of_killed_runs_are_deleted(folder):
    for name in ("40.orbax-checkpoint-tmp", "5.deleted", ".probe-1"):
        (folder / name).mkdir()
    assert restored(folder).step == 30
    assert sorted(path.name for path in folder.iterdir()) == ["10", "20", "30"]


# ---- Damage.


def halve(file):
    os.truncate(file, file.stat().st_size // 2)


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("damage", [halve, flip, Path.unlink])
@pytest.mark.parametrize("which", ["weights", "_METADATA", "metadata"])
def test_a_damaged_newest_is_skipped_and_renamed(folder, damage, which, capsys):
    """Without hashes Orbax would return weights with a flipped bit."""
    files = files_of(folder / "30")
    weights = max((f for f in files if f.parent.name == "d"), key=lambda f: f.stat().st_size)
    file = weights if which == "weights" else next(f for f in files if f.name == which)
    damage(file)
    with open_checkpointer(folder, keep_last=1) as checkpointer:
        step, state, data = checkpointer.restore(LIKE)
        assert (step, data) == (20, {"next_batch": 20, "unreported": []})
        assert_same(state, state_of(20))
        warning = capsys.readouterr().err
        assert warning.count("\n") == 1
        assert all(part in warning for part in (str(folder / "30"), "damaged", "step 20", file.name))
        # It counts neither as the last one to keep nor as saved.
        checkpointer.save(25, state_of(25), DATA)
        checkpointer.wait()
        assert (folder / "25").is_dir()
        checkpointer.save(30, state_of(30), {"next_batch": 31, "unreported": []})
    assert restored(folder).data == {"next_batch": 31, "unreported": []}
    assert saved_steps(folder) == [30]
    assert (folder / "30.damaged").is_dir()


def test_without_hashes_a_truncated_file_is_detected_or_not_needed(folder, capfd):
    """A process killed between the renaming and the hashing leaves a checkpoint without hashes."""
    for older in ("10", "20"):
        shutil.rmtree(folder / older)
    (folder / "30" / manifest.NAME).unlink()
    assert_same(restored(folder).state, state_of(30))
    detected = 0
    for file in files_of(folder / "30"):
        content = file.read_bytes()
        halve(file)
        try:
            assert_same(restored(folder).state, state_of(30))
        except InputError as error:
            detected += 1
            assert "all checkpoints are damaged (30: " in str(error)
        file.write_bytes(content)
    assert detected > 3


def test_if_all_are_damaged_the_run_is_refused(folder):
    for step in saved_steps(folder):
        flip(folder / str(step) / "data" / "metadata")
    for _ in range(2):
        with pytest.raises(InputError, match="all checkpoints are damaged .30.*20.*10.*another --workdir"):
            restored(folder)


# ---- Another config.


def renamed(tree):
    return {"trunk": tree["backbone"], "lora": tree["lora"]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda s: s._replace(step=jax.ShapeDtypeStruct((2,), jnp.int32, sharding=s.step.sharding)),
            ["1 arrays", "step is int32[], not int32[2]"],
        ),
        (  # Orbax would cast it
            lambda s: s._replace(step=jax.ShapeDtypeStruct((), jnp.float32, sharding=s.step.sharding)),
            ["1 arrays", "step is int32[], not float32[]"],
        ),
        (
            lambda s: s._replace(params=renamed(s.params)),
            [
                "params/trunk/kernel float32[8, 64] is missing",
                "params/backbone/kernel float32[8, 64] is unexpected",
            ],
        ),
        (lambda s: s._replace(ema=s.params), ["ema/lora/a bfloat16[3] is missing"]),
    ],
)
def test_arrays_that_differ_are_listed(folder, change, words):
    with pytest.raises(InputError) as error:
        restored(folder, change(LIKE))
    for part in [*words, str(folder / "30"), "another --workdir"]:
        assert part in str(error.value)
    assert saved_steps(folder) == [10, 20, 30]  # none counts as damaged


def test_a_long_list_is_cut(tmp_path):
    with open_checkpointer(tmp_path, keep_last=1) as checkpointer:
        checkpointer.save(1, {f"a{i}": jnp.zeros(2) for i in range(40)}, DATA)
        with pytest.raises(InputError, match="40 arrays .*; and 28 more; pass") as error:
            checkpointer.restore({f"a{i}": jnp.zeros(3) for i in range(40)})
    assert str(error.value).count("float32[2], not float32[3]") == 12


# ---- Folders and disks.


@pytest.mark.parametrize("options", [{"keep_last": 0}, {"keep_last": 1, "keep_every": 0}])
def test_keeping_no_checkpoint_is_refused(tmp_path, options):
    with pytest.raises(InputError, match="config.checkpoint: .* 1 or more"):
        open_checkpointer(tmp_path, **options)


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file/run: can't be written .* --workdir"):
        open_checkpointer(tmp_path / "file" / "run", keep_last=1)
    if os.geteuid() != 0:  # root may write anywhere
        (tmp_path / "closed").mkdir(mode=0o555)
        with pytest.raises(InputError, match="closed: can't be written"):
            open_checkpointer(tmp_path / "closed", keep_last=1)


@contextlib.contextmanager
def files_up_to(size):
    """Limit the size of files that this process writes, in bytes; unlike a small disk this needs no root."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs root; see the test with a limit of file sizes")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_an_error_of_one_line_and_the_previous_checkpoint_is_intact(small_disk, caplog):
    with open_checkpointer(small_disk, keep_last=8) as checkpointer:
        checkpointer.save(1, state_of(1, rows=2048), DATA)  # 1.5 MB each
        checkpointer.save(2, state_of(2, rows=2048), DATA)
        with pytest.raises(InputError, match="the checkpoint of step 3 .*No space left.*step 2 is intact"):
            for step in (3, 4):
                checkpointer.save(step, state_of(step, rows=2048), DATA)
    assert not caplog.records  # Orbax would log two stack traces
    with open_checkpointer(small_disk, keep_last=1) as checkpointer:
        like = state_of(0, rows=2048)
        assert_same(checkpointer.restore(like).state, state_of(2, rows=2048))
        # Once something is deleted there is space again.
        shutil.rmtree(small_disk / "1")
        checkpointer.save(5, state_of(5, rows=2048), DATA)
        checkpointer.wait()
        assert_same(checkpointer.restore(like).state, state_of(5, rows=2048))


def test_files_that_cannot_grow(tmp_path, capfd):
    """Like a full disk, for machines where none can be mounted; `close` raises the error at the latest."""
    large = state_of(2, rows=2**15)  # 8 MB
    open_last = functools.partial(open_checkpointer, keep_last=1)
    with open_last(tmp_path) as checkpointer:
        checkpointer.save(1, state_of(1), DATA)
    message = "step 2 can't be written .File too large.*step 1 is intact"
    with files_up_to(2**20), pytest.raises(InputError, match=message), open_last(tmp_path) as checkpointer:
        checkpointer.save(2, large, DATA)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]  # the space of the unfinished save is free
    assert_same(restored(tmp_path).state, state_of(1))
    # The exception that ended the run is the one that is raised.
    capfd.readouterr()
    with files_up_to(2**20), pytest.raises(ZeroDivisionError), open_last(tmp_path) as checkpointer:
        checkpointer.save(2, large, DATA)
        print(1 / 0)
    warning = capfd.readouterr().err
    assert "WARNING: " in warning and "step 2 can't be written" in warning


def test_a_disk_too_full_for_the_hashes_is_a_warning(tmp_path, monkeypatch, capsys):
    def write(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(manifest, "write", write)
    with open_checkpointer(tmp_path, keep_last=1) as checkpointer:
        checkpointer.save(1, state_of(1), DATA)
        checkpointer.save(2, state_of(2), DATA)
    assert capsys.readouterr().err.count("hashes can't be written (No space left") == 2
    assert saved_steps(tmp_path) == [2]
    assert_same(restored(tmp_path).state, state_of(2))


# ---- Other processes.


@pytest.mark.slow
@pytest.mark.multiprocess
def test_killed_at_ten_moments_of_a_save(tmp_path):
    """After each kill the previous checkpoint or the new one is restored exactly."""
    script = Path(__file__).parent / "killed_saves.py"
    with processes.start([sys.executable, str(script), str(tmp_path / "run"), "10"], tmp_path) as group:
        group.check()
        kills = [json.loads(line) for line in group.log().splitlines() if line.startswith("{")]
    assert len(kills) == 10
    for kill in kills:
        assert kill["exact"], kill
        assert kill["restored"] in (kill["saved"], kill["saved"] + 1), kill
    assert sum(kill["unfinished"] for kill in kills) > 0, "no kill has hit a save"


@pytest.mark.multiprocess
def test_another_mesh(tmp_path):
    """Saved on 8 devices; restored on 8 with other axes and other shards, on 3, and on one."""
    script = Path(__file__).parent / "other_mesh.py"
    with processes.start([sys.executable, str(script), str(tmp_path / "run")], tmp_path, devices=8) as group:
        group.check()
        assert group.log().count("same") == 4
