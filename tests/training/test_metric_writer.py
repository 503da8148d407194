"""What a run logs, and that a resumed run logs no step twice."""

import io
import json
import math
import struct
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tensorboardX import record_writer
from tensorboardX.proto.event_pb2 import Event, SessionLog

from gencompositor_jax.errors import InputError
from gencompositor_jax.training.metric_writer import MetricWriter, console_line, summarize, to_python


def rows(workdir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def events(workdir: Path) -> list[Event]:
    """All events of a folder in TensorBoard's order. A record: length (8 bytes), CRC (4), event, CRC (4)."""
    found = []
    for file in sorted((workdir / "tensorboard").iterdir()):
        assert "tfevents" in file.name
        data = file.read_bytes()
        while data:
            length = struct.unpack("<Q", data[:8])[0]
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def seen(workdir: Path) -> dict[int, dict[str, float]]:
    """Scalars by step as TensorBoard shows them: a START event hides earlier events from its step on."""
    shown: dict[int, dict[str, float]] = {}
    for event in events(workdir):
        if event.session_log.status == SessionLog.START:
            shown = {step: values for step, values in shown.items() if step < event.step}
        for value in event.summary.value:
            shown.setdefault(event.step, {})[value.tag] = value.simple_value
    return shown


def test_metrics_go_to_both_files(tmp_path):
    with MetricWriter(tmp_path) as writer:
        writer.scalars(5, {"loss": 0.5, "loss/mask": math.nan})
        writer.scalars(10, {"loss": 0.25})
        # On the disk at once, also for a process that is killed next.
        assert rows(tmp_path) == [{"step": 5, "loss": 0.5, "loss/mask": None}, {"step": 10, "loss": 0.25}]
    assert seen(tmp_path) == {5: {"loss": 0.5}, 10: {"loss": 0.25}}
    assert events(tmp_path)[0].file_version == "brain.Event:2"


def test_without_tensorboardx_a_note_names_the_extra_and_the_rest_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with MetricWriter(tmp_path) as writer:
        writer.scalars(5, {"loss": 0.5})
        writer.image(5, "sheets", np.zeros((2, 2, 3), np.uint8))
    assert rows(tmp_path) == [{"step": 5, "loss": 0.5}]
    assert (tmp_path / "sheets" / "step-000005.png").exists()
    assert not (tmp_path / "tensorboard").exists()
    note = capsys.readouterr().err
    assert note.count("\n") == 1 and "gencompositor-jax[tensorboard]" in note


@pytest.mark.parametrize("torn", ["", '{"step": 25, "lo', "\n", '{"step": 1'])
def test_a_resumed_run_logs_what_an_uninterrupted_one_does(tmp_path, torn):
    """Killed after logging step 25, perhaps while writing a line; resumed from the checkpoint of step 20."""
    (tmp_path / "uninterrupted").mkdir()
    (tmp_path / "killed").mkdir()
    with (
        MetricWriter(tmp_path / "uninterrupted") as uninterrupted,
        MetricWriter(tmp_path / "killed") as killed,
    ):
        for step in range(5, 45, 5):
            uninterrupted.scalars(step, {"loss": 1 / step})
            if step <= 25:
                killed.scalars(step, {"loss": 1 / step})
            if step == 20:
                killed.scalars(21, {"psnr": 20.0})
    with open(tmp_path / "killed" / "metrics.jsonl", "a") as file:
        file.write(torn)
    with MetricWriter(tmp_path / "killed", step=20) as resumed:
        for step in range(25, 45, 5):
            resumed.scalars(step, {"loss": 1 / step})
    assert rows(tmp_path / "killed") == rows(tmp_path / "uninterrupted")
    assert seen(tmp_path / "killed") == seen(tmp_path / "uninterrupted")
    assert len(list((tmp_path / "killed" / "tensorboard").iterdir())) == 2
    assert sorted(p.name for p in (tmp_path / "killed").iterdir()) == ["metrics.jsonl", "tensorboard"]


def test_metrics_up_to_the_checkpoint_are_not_rewritten(tmp_path):
    with MetricWriter(tmp_path) as writer:
        writer.scalars(5, {"loss": 0.5})
    before = (tmp_path / "metrics.jsonl").stat()
    MetricWriter(tmp_path, step=5).close()
    after = (tmp_path / "metrics.jsonl").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_an_image_is_a_file_and_an_event(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    with MetricWriter(tmp_path) as writer:
        writer.image(100, "sheets", pixels)
        writer.image(100, "sheets", pixels)  # computed again after a restart
    file = tmp_path / "sheets" / "step-000100.png"
    np.testing.assert_array_equal(np.asarray(Image.open(file)), pixels)
    [value] = events(tmp_path)[-1].summary.value
    assert (value.tag, value.image.height, value.image.width, value.image.colorspace) == ("sheets", 12, 20, 3)
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(value.image.encoded_image_string))), pixels
    )
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    with MetricWriter(tmp_path) as writer:
        writer.scalars(1, {"loss": 1.0})
        writer.image(1, "sheets", np.zeros((2, 2, 3), np.uint8))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        MetricWriter(tmp_path / "nowhere")
    with MetricWriter(tmp_path) as writer:
        (tmp_path / "metrics.jsonl").mkdir()
        with pytest.raises(InputError, match="last checkpoint"):
            writer.scalars(1, {"loss": 1.0})


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_disk_that_fills_up_while_events_are_written_is_an_error(tmp_path, monkeypatch):
    """tensorboardX writes in a thread, which the error ends."""

    def write(*_):
        raise OSError(28, "No space left on device")

    with MetricWriter(tmp_path) as writer:
        monkeypatch.setattr(record_writer.RecordWriter, "write", write)
        with pytest.raises(InputError, match="tensorboard/ can't be written.*last checkpoint"):
            for number in range(100):
                writer.scalars(number, {"loss": 1.0})
                time.sleep(0.1)


def step(loss: float, skipped: int = 0, buckets: dict[int, list[float]] | None = None) -> dict[str, Any]:
    """The metrics of a step as the loop fetches them; `buckets` has the losses of clips by bucket."""
    total, count = np.zeros(10, np.float32), np.zeros(10, np.float32)
    for bucket, losses in (buckets or {}).items():
        total[bucket], count[bucket] = sum(losses), len(losses)
    device = {
        "loss": jnp.float32(loss),
        "skipped": jnp.int32(skipped),
        "bucket_sum": total,
        "bucket_count": count,
    }
    return to_python(jax.device_get(device))


def test_a_row_has_the_means_of_its_steps_and_of_the_clips_of_each_bucket():
    row = summarize([step(1.0, buckets={0: [1.0, 2.0], 9: [4.0]}), step(2.0, buckets={0: [6.0]})], mfu=None)
    assert row == {
        "loss": 1.5,
        "skipped": 0,
        "loss_by_timestep/0.0-0.1": 3.0,
        "loss_by_timestep/0.9-1.0": 4.0,
    }


def test_skipped_steps_are_left_out_of_the_means():
    skipped = step(math.nan, skipped=3, buckets={2: [math.nan]})
    skipped["bucket_sum"] = [math.nan] * 10
    row = summarize([step(1.0, 2, {2: [1.0]}), skipped, step(3.0, 3, {2: [3.0]})], steps_per_second=2.0)
    assert row == {"loss": 2.0, "skipped": 3, "loss_by_timestep/0.2-0.3": 2.0, "steps_per_second": 2.0}
    assert summarize([skipped]) == {"skipped": 3}
    assert summarize([]) == {}


floats = st.floats(0, 1e3, width=32)


@given(st.lists(floats, min_size=1, max_size=8), st.integers(0, 8))
def test_steps_stored_as_json_give_the_same_row(losses, cut):
    """Metrics that a checkpoint has stored, and those of later steps, give what all of them at once give."""
    steps = [step(loss, buckets={1: [loss]}) for loss in losses]
    stored = json.loads(json.dumps(steps[:cut]))
    assert summarize(stored + steps[cut:]) == summarize(steps)
    assert min(losses) <= summarize(steps)["loss"] <= max(losses)


def test_console_line():
    row = {"loss": 0.12344, "loss/mask": 0.02, "gradient_norm": 1.5, "skipped": 0}
    assert console_line(1200, 4500, row, None) == (
        "step 1200 of 4500  loss 0.1234  mask 0.0200  gradient 1.5000"
    )
    later = row | {"steps_per_second": 0.04312, "mfu": 0.4123, "skipped": 2}
    assert console_line(1200, 4500, later, 11_560).endswith(
        "0.0431 steps/s  MFU 41.2%  3 h 12 min left  2 steps skipped (not finite)"
    )
    assert "left" not in console_line(4500, 4500, later, 0.0)
