"""A batch of two processes that jax.distributed joins: one is killed, started again, and joins again."""

import json
import sys

import pytest

from gencompositor_jax.controls.media.video_out import write_image_folder
from gencompositor_jax.multihost import leave_together
from tests import processes
from tests.test_compositor import TRAJECTORY, disc, scenery

JOBS = 16


@pytest.fixture
def command(tmp_path, small_checkpoint):
    """Of either process, but for its number; job 4 is broken."""
    write_image_folder(tmp_path / "street", scenery())
    write_image_folder(tmp_path / "bird", disc())
    common = {"background": "street", "foreground": "bird", "checkpoint": small_checkpoint, "steps": 10}
    common["trajectory"] = [list(point) for point in TRAJECTORY]
    lines = [json.dumps({"out": f"{i}", "seed": i, **common}) for i in range(JOBS)]
    lines[3] = lines[3][:-5]
    (tmp_path / "jobs.jsonl").write_text("\n".join(lines))
    words = ["batch", "--manifest", str(tmp_path / "jobs.jsonl"), "--out", str(tmp_path / "out")]
    joined = ["--coordinator", f"127.0.0.1:{processes.free_port()}", "--processes", "2"]
    return [sys.executable, "-m", "gencompositor_jax", *words, *joined, "--clips", "1", "--mesh", "data=1"]


@pytest.mark.slow
@pytest.mark.multiprocess
def test_a_killed_process_ends_no_other_and_joins_again(tmp_path, command):
    def start(process, label):
        return processes.start([*command, "--process", str(process)], tmp_path / label, devices=4)

    def done(process):
        path = tmp_path / "out" / f"results.{process}-of-2.jsonl"
        rows = [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []
        return [row["job"] for row in rows if row["status"] == "done"]

    with start(0, "first") as first, start(1, "killed") as killed:
        killed.wait_until(lambda: len(done(1)) > 1, "two jobs")
        killed.kill(0)
        first.wait_until(lambda: len(done(0)) == JOBS // 2, "the whole share of the other one")
        before = done(1)
        assert len(before) < JOBS // 2 - 1
        with start(1, "again") as again:
            assert (again.wait(), first.wait()) == ([1], [0])  # of its own jobs
    assert sorted(done(0) + done(1)) == [n for n in range(1, JOBS + 1) if n != 4]
    rows = [json.loads(text) for text in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert [row["job"] for row in rows if row["status"] == "failed"] == [4]
    assert f"{JOBS // 2} jobs, {len(before)} done before, 1 can't be made" in again.log()


def test_alone_nobody_is_waited_for():
    leave_together()
