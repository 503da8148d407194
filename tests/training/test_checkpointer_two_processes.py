"""Two processes of two devices with one folder; checkpointer_two_processes.py is what they run."""

import re
import signal
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencompositor_jax import checkpoints
from gencompositor_jax.checkpoints import manifest
from tests import processes

pytestmark = pytest.mark.multiprocess


@pytest.fixture(scope="module")
def ran(tmp_path_factory, small_checkpoint):
    """(folder, logs of both processes), after SIGTERM to the second one alone."""
    folder = tmp_path_factory.mktemp("two")
    script = Path(__file__).parent / "checkpointer_two_processes.py"
    command = [sys.executable, str(script), str(folder), small_checkpoint]
    with processes.start(command, folder, count=2, devices=2) as group:
        group.wait_for("running", process=1)
        group.kill(1, signal.SIGTERM)
        group.check()
        return folder, [group.log(0), group.log(1)]


@pytest.mark.slow
def test_each_process_writes_and_reads_its_shards(ran):
    folder, logs = ran
    for log in logs:
        assert "restored 30 30 True" in log


def test_damage_that_one_process_finds_makes_all_resume_from_the_previous_step(ran):
    _, logs = ran
    for log in logs:
        assert "fell back to 20 True [20]" in log
    warnings = [re.findall("WARNING: .*", log) for log in logs]
    assert len(warnings[0]) == 1 and "30: this checkpoint is damaged" in warnings[0][0]
    assert any("ocdbt.process_1/d/" in line and "has changed" in line for line in warnings[0] + warnings[1])


def test_all_processes_stop_at_the_same_step_and_exit_with_0(ran):
    folder, logs = ran
    ends = [re.search(r"stopped at (\d+): \[(.*)\]", log) for log in logs]
    assert all(ends)
    assert ends[0][0] == ends[1][0]
    assert ends[0][2] == f"20, {ends[0][1]}"


def test_a_model_saved_from_shards_is_the_same_model(ran, small_model):
    folder, logs = ran
    for log in logs:
        assert "model there: True" in log
        assert re.search(r"again: .*(model: exists: pass --overwrite|process 0 of 2 has failed)", log)
    manifest.verify(folder / "model", manifest.read(folder / "model"))
    assert sorted(path.name for path in folder.glob("model*")) == ["model"]
    got = checkpoints.load(folder / "model", dtype=None, verify=True)
    assert got.arch == small_model.arch
    assert got.provenance == {"from": "two processes"}
    want = jax.tree.map(lambda x: np.asarray(x).astype(jnp.bfloat16), small_model.arrays)
    assert jax.tree.structure(got.arrays) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got.arrays), jax.tree.leaves(want), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(list((folder / "model" / "arrays").glob("ocdbt.process_*"))) == 2


def test_folders_that_are_not_shared_are_refused(ran):
    _, logs = ran
    assert "own folder: process 1 of 2 has failed" in logs[0]
    assert re.search("own folder: .*own1: is not the folder that the first process sees", logs[1])
