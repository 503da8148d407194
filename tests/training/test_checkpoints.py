"""What is saved comes back, and stays whole, whatever happens to the process, the disk and the files.

Whole runs that are killed and resumed are in test_loop.py; several processes in test_checkpoints_together.py.
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
from gencompositor_jax.training.checkpoints import open_checkpoints, to_delete
from gencompositor_jax.training.resume import partial, steps
from tests import processes

# Orbax leaves coroutines behind where a read or a write fails.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class State(NamedTuple):
    """Like a training's: dicts, tuples, empty tuples, None, several types."""

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
    with open_checkpoints(folder, keep_last=3) as checkpoints:
        for step in (10, 20, 30):
            checkpoints.save(step, state_of(step), {"next": step})
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of it."""
    return shutil.copytree(saved, tmp_path / "run")


def restored(folder, like=LIKE):
    with open_checkpoints(folder, keep_last=3) as checkpoints:
        return checkpoints.restore(like)


def test_the_newest_comes_back_as_it_was(folder):
    step, state, data = restored(folder)
    assert (step, data) == (30, {"next": 30})
    assert_same(state, state_of(30))
    assert isinstance(state.optimizer[1], optax.ScaleByAdamState)
    assert sorted(path.name for path in folder.iterdir()) == ["10", "20", "30"]
    assert manifest.read(folder / "30") is not None


def test_nothing_saved_is_none(tmp_path):
    assert restored(tmp_path / "new" / "run") is None


def test_a_step_that_is_there_is_not_saved_again(folder):
    with open_checkpoints(folder, keep_last=3) as checkpoints:
        checkpoints.save(30, state_of(31), {"next": 31})
    assert restored(folder).data == {"next": 30}


def test_the_next_steps_may_use_the_memory_while_it_is_written(tmp_path):
    """A step that gives its state's memory away runs on at once; what is on the disk is the old state."""
    step = jax.jit(lambda tree: jax.tree.map(lambda x: x * -1 - 1, tree), donate_argnums=0)
    state = {"a": jnp.arange(2**21, dtype=jnp.float32), "b": jnp.arange(2**20, dtype=jnp.int32)}
    want = jax.tree.map(np.array, state)
    with open_checkpoints(tmp_path, keep_last=1) as checkpoints:
        checkpoints.save(1, state, {})
        for _ in range(5):
            state = step(state)
        jax.block_until_ready(state)
        got = checkpoints.restore(state)
    for name in want:
        np.testing.assert_array_equal(got.state[name], want[name])


@given(
    saved=st.lists(st.integers(1, 40), unique=True).map(sorted),
    keep_last=st.integers(1, 5),
    keep_every=st.none() | st.integers(1, 8),
)
def test_deleted_in_turn_the_last_and_every_so_many_stay(saved, keep_last, keep_every):
    there = []
    for step in saved:
        there.append(step)
        gone = to_delete(there, keep_last, keep_every)
        there = [s for s in there if s not in gone]
    forever = {s for s in saved if keep_every is not None and s % keep_every == 0}
    assert there == sorted(set(saved[-keep_last:]) | forever)


def test_what_is_deleted_is_off_the_disk(tmp_path):
    with open_checkpoints(tmp_path, keep_last=2, keep_every=4) as checkpoints:
        for step in range(1, 8):
            checkpoints.save(step, state_of(step), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4", "6", "7"]


def test_leftovers_of_killed_runs_go(folder):
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
def test_a_broken_newest_is_passed_over_and_set_aside(folder, damage, which, capsys):
    """Without hashes Orbax would return weights with a flipped bit."""
    files = files_of(folder / "30")
    weights = max((f for f in files if f.parent.name == "d"), key=lambda f: f.stat().st_size)
    file = weights if which == "weights" else next(f for f in files if f.name == which)
    damage(file)
    with open_checkpoints(folder, keep_last=1) as checkpoints:
        step, state, data = checkpoints.restore(LIKE)
        assert (step, data) == (20, {"next": 20})
        assert_same(state, state_of(20))
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert str(folder / "30") in said and "broken" in said and "step 20" in said and file.name in said
        # It counts as little as one that was never saved: not as the last one to keep, and not as saved.
        checkpoints.save(25, state_of(25), {})
        checkpoints.wait()
        assert (folder / "25").is_dir()
        checkpoints.save(30, state_of(30), {"next": 31})
    assert restored(folder).data == {"next": 31}
    assert steps(folder) == [30]
    assert (folder / "30.broken").is_dir()


def test_without_hashes_a_missing_half_is_noticed_or_was_not_needed(folder, capfd):
    """A process killed between the renaming and the hashing leaves a checkpoint without hashes."""
    for older in ("10", "20"):
        shutil.rmtree(folder / older)
    (folder / "30" / manifest.NAME).unlink()
    assert_same(restored(folder).state, state_of(30))
    noticed = 0
    for file in files_of(folder / "30"):
        sound = file.read_bytes()
        halve(file)
        try:
            assert_same(restored(folder).state, state_of(30))
        except InputError as error:
            noticed += 1
            assert "all checkpoints are broken (30: " in str(error)
        file.write_bytes(sound)
    assert noticed > 3


def test_if_all_are_broken_nothing_starts_anew_silently(folder):
    for step in steps(folder):
        flip(folder / str(step) / "data" / "metadata")
    for _ in range(2):
        with pytest.raises(InputError, match="all checkpoints are broken .30.*20.*10.*another --workdir"):
            restored(folder)


# ---- Another config.


def renamed(tree):
    return {"trunk": tree["backbone"], "lora": tree["lora"]}


@pytest.mark.parametrize(
    ("change", "said"),
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
            ["params/trunk/kernel float32[8, 64] is missing", "params/backbone/kernel float32[8, 64] is t"],
        ),
        (lambda s: s._replace(ema=s.params), ["ema/lora/a bfloat16[3] is missing"]),
    ],
)
def test_arrays_that_differ_are_listed(folder, change, said):
    with pytest.raises(InputError) as error:
        restored(folder, change(LIKE))
    for words in [*said, str(folder / "30"), "another --workdir"]:
        assert words in str(error.value)
    assert steps(folder) == [10, 20, 30]  # nothing is broken, nothing is set aside


def test_a_long_list_is_cut(tmp_path):
    with open_checkpoints(tmp_path, keep_last=1) as checkpoints:
        checkpoints.save(1, {f"a{i}": jnp.zeros(2) for i in range(40)}, {})
        with pytest.raises(InputError, match="40 arrays .*; and 28 more; pass") as error:
            checkpoints.restore({f"a{i}": jnp.zeros(3) for i in range(40)})
    assert str(error.value).count("float32[2], not float32[3]") == 12


# ---- Another run starts from it.


def test_a_part_of_another_run(folder):
    fresh = state_of(5)
    flip(folder / "30" / "data" / "metadata")
    got = partial(folder, fresh, "^params/backbone/")
    assert_same(got, fresh._replace(params={**fresh.params, "backbone": state_of(20).params["backbone"]}))
    # Other arrays may have any shape, a part of the state is enough, and that folder is left alone.
    smaller = {"params": {"backbone": LIKE.params["backbone"], "lora": {"a": jnp.zeros(9)}}}
    got = partial(str(folder), smaller, "kernel")
    np.testing.assert_array_equal(
        got["params"]["backbone"]["kernel"], state_of(20).params["backbone"]["kernel"]
    )
    assert got["params"]["lora"]["a"].shape == (9,)
    assert sorted(path.name for path in folder.iterdir()) == ["10", "20", "30"]


@pytest.mark.parametrize(
    ("like", "regex", "said"),
    [
        ({"params": {"b": jnp.zeros(3)}}, "b", r"params/b float32\[3\] is missing"),
        ({"step": jnp.zeros(3)}, "step", r"step is int32\[\], not float32\[3\]"),
        ({"step": jnp.zeros(3)}, "ema", "matches none of 1 arrays such as step"),
        ({"step": jnp.zeros(3)}, "(", "not a regular expression"),
    ],
)
def test_parts_that_are_not_there(folder, like, regex, said):
    with pytest.raises(InputError, match=said):
        partial(folder, like, regex)


def test_a_part_of_nothing(tmp_path):
    with pytest.raises(InputError, match="no checkpoints"):
        partial(tmp_path / "none", LIKE, ".")
    assert not (tmp_path / "none").exists()


# ---- Folders and disks.


@pytest.mark.parametrize("options", [{"keep_last": 0}, {"keep_last": 1, "keep_every": 0}])
def test_nothing_to_keep(tmp_path, options):
    with pytest.raises(InputError, match="config.checkpoint: .* 1 or more"):
        open_checkpoints(tmp_path, **options)


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file/run: can't be written .* --workdir"):
        open_checkpoints(tmp_path / "file" / "run", keep_last=1)
    if os.geteuid() != 0:  # root may write anywhere
        (tmp_path / "closed").mkdir(mode=0o555)
        with pytest.raises(InputError, match="closed: can't be written"):
            open_checkpoints(tmp_path / "closed", keep_last=1)


@contextlib.contextmanager
def files_up_to(size):
    """No file of this process may grow beyond that; works for everybody, unlike a small disk."""
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


def test_a_full_disk_is_told_in_one_line_and_the_old_checkpoint_is_intact(small_disk, caplog):
    with open_checkpoints(small_disk, keep_last=8) as checkpoints:
        checkpoints.save(1, state_of(1, rows=2048), {})  # 1.5 MB each
        checkpoints.save(2, state_of(2, rows=2048), {})
        with pytest.raises(InputError, match="the checkpoint of step 3 .*No space left.*step 2 is intact"):
            for step in (3, 4):
                checkpoints.save(step, state_of(step, rows=2048), {})
    assert not caplog.records  # Orbax logs two call stacks
    with open_checkpoints(small_disk, keep_last=1) as checkpoints:
        like = state_of(0, rows=2048)
        assert_same(checkpoints.restore(like).state, state_of(2, rows=2048))
        # There is room again once something is deleted.
        shutil.rmtree(small_disk / "1")
        checkpoints.save(5, state_of(5, rows=2048), {})
        checkpoints.wait()
        assert_same(checkpoints.restore(like).state, state_of(5, rows=2048))


def test_files_that_cannot_grow(tmp_path, capfd):
    """Like a full disk, where no disk can be mounted; the error comes at the end at the latest."""
    large = state_of(2, rows=2**15)  # 8 MB
    reopened = functools.partial(open_checkpoints, keep_last=1)
    with reopened(tmp_path) as checkpoints:
        checkpoints.save(1, state_of(1), {})
    said = "step 2 can't be written .File too large.*step 1 is intact"
    with files_up_to(2**20), pytest.raises(InputError, match=said), reopened(tmp_path) as checkpoints:
        checkpoints.save(2, large, {})
    assert [path.name for path in tmp_path.iterdir()] == ["1"]  # its room is given back
    assert_same(restored(tmp_path).state, state_of(1))
    # What has ended the run is not hidden by it.
    capfd.readouterr()
    with files_up_to(2**20), pytest.raises(ZeroDivisionError), reopened(tmp_path) as checkpoints:
        checkpoints.save(2, large, {})
        print(1 / 0)
    assert "WARNING: " in (said := capfd.readouterr().err) and "step 2 can't be written" in said


def test_a_full_disk_for_hashes_only(tmp_path, monkeypatch, capsys):
    def write(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(manifest, "write", write)
    with open_checkpoints(tmp_path, keep_last=1) as checkpoints:
        checkpoints.save(1, state_of(1), {})
        checkpoints.save(2, state_of(2), {})
    assert capsys.readouterr().err.count("hashes can't be written (No space left") == 2
    assert steps(tmp_path) == [2]
    assert_same(restored(tmp_path).state, state_of(2))


# ---- Other processes.


@pytest.mark.slow
@pytest.mark.multiprocess
def test_killed_at_ten_moments_of_a_save(tmp_path):
    """Each time the checkpoint before it, or the new one, is there whole."""
    script = Path(__file__).parent / "killed_saves.py"
    with processes.start([sys.executable, str(script), str(tmp_path / "run"), "10"], tmp_path) as group:
        group.check(120)
        kills = [json.loads(line) for line in group.log().splitlines() if line.startswith("{")]
    assert len(kills) == 10
    for kill in kills:
        assert kill["whole"], kill
        assert kill["restored"] in (kill["saved"], kill["saved"] + 1), kill
    assert sum(kill["unfinished"] for kill in kills) > 0, "no kill has hit a save"


@pytest.mark.multiprocess
def test_another_mesh(tmp_path):
    """Saved on 8 devices, read on 8 in another order of axes, cut in other places, and on one."""
    script = Path(__file__).parent / "other_mesh.py"
    with processes.start([sys.executable, str(script), str(tmp_path / "run")], tmp_path, devices=8) as group:
        group.check(60)
        assert group.log().count("same") == 4
