import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gencompositor_jax.controls.media.video_out import write_image_folder
from gencompositor_jax.errors import InputError
from gencompositor_jax.jobs.checking import Checker
from gencompositor_jax.jobs.manifest import Line, read_manifest
from gencompositor_jax.jobs.report import JobFiles
from gencompositor_jax.jobs.results import Result, Results, done_before, settle

GOOD = {"background": "street", "foreground": "bird.png", "trajectory": "12,13 36,9"}


@pytest.fixture
def folder(tmp_path) -> Path:
    """A background of 5 frames and a picture, which a manifest there can name."""
    write_image_folder(tmp_path / "street", np.full((5, 64, 96, 3), 90, np.uint8))
    Image.fromarray(np.full((16, 16, 4), 200, np.uint8)).save(tmp_path / "bird.png")
    return tmp_path


def manifest(folder: Path, *lines: object) -> list[Line]:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / "jobs.jsonl").write_text("\n".join(texts) + "\n")
    return read_manifest(folder / "jobs.jsonl")


def test_lines_that_cannot_be_used_leave_the_others(folder):
    lines = manifest(
        folder,
        GOOD | {"out": "a.mp4"},
        "",
        '{"out": "b.mp4", "background": }',
        GOOD | {"out": "a.mov"},
        GOOD | {"out": "c.mp4", "colour": 3},
        GOOD | {"out": "d.mp4"},
        '{"out": "e.mp4", "out": "f.mp4"}',
        '{"out": "g.mp4", "scale": NaN}',
    )
    assert [line.number for line in lines] == [1, 3, 4, 5, 6, 7, 8]
    assert [line.number for line in lines if line.job is not None] == [1, 6]
    errors = {line.number: line.error or "" for line in lines}
    assert "jobs.jsonl: line 3, column 32" in errors[3]
    assert "a.scene.json is written by line 1" in errors[4]
    assert "line 5: unknown field 'colour'" in errors[5]
    assert "line 7: field 'out' stands twice" in errors[7]
    assert "line 8: NaN is not a number" in errors[8]


@pytest.mark.parametrize("content", [None, "\n\n", "\xff".encode("latin-1"), "x" * (2**20 + 1)])
def test_a_file_that_is_no_manifest_is_refused(content, tmp_path):
    path = tmp_path / "jobs.jsonl"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=r"jobs\.jsonl"):
        read_manifest(path)


def test_half_of_many_lines_are_broken(folder, small_checkpoint):
    good = GOOD | {"checkpoint": small_checkpoint}
    jobs = [good | {"out": f"{i}.mp4"} | ({} if i % 2 else {"background": "gone"}) for i in range(200)]
    checked = Checker(folder / "out").all(manifest(folder, *jobs))
    assert [line.error is None for line in checked] == [bool(i % 2) for i in range(200)]
    assert all("gone: no such file" in (line.error or "gone: no such file") for line in checked)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"frames": 9}, "has 5 frames, 9 are needed"),
        ({"frames": 999_997}, "frames=999997: its latents need"),
        ({"frames": 10**6}, "frames=1000000"),
        ({"background": "bird.mp4"}, "no such file"),
        ({"foreground": "street", "fps": 12, "mask": "bird.png"}, "pass a mask clip of the same size"),
        ({"segment": "point:9999,1"}, "segment point:9999,1: outside the frame"),
        ({"prompt": "sea"}, "prompt 'sea': not stored"),
        ({"checkpoint": "street"}, "not a checkpoint"),
        ({"out": "a.gif"}, "not a video format"),
        ({"out": "old"}, "pass --overwrite"),
    ],
    ids=str,
)
def test_jobs_are_checked_before_any_is_made(change, names, folder, small_checkpoint):
    (folder / "old").mkdir()
    good = GOOD | {"checkpoint": small_checkpoint, "out": "a.mp4"}
    (line,) = Checker(folder).all(manifest(folder, good | change))
    assert line.job is None and names in (line.error or "")
    assert Checker(folder).all(manifest(folder, good))[0].error is None
    (line,) = Checker(folder, overwrite=True).all(manifest(folder, good | {"out": "street"}))
    assert "street: is an input" in (line.error or "")


def test_a_job_is_done_where_its_own_report_is(folder):
    def number_done(*lines: object) -> int:
        return len(done_before(manifest(folder, *lines), folder))

    job = GOOD | {"out": "a.mp4"}
    files, (line,) = JobFiles(folder / "a.mp4"), manifest(folder, job)
    files.video.touch()
    files.report.write_text(json.dumps({"job": line.digest, "seconds": {"read": 1.5, "sample": 2}}))
    assert number_done(job) == 1 and done_before([line], folder)[1].seconds == 3.5
    assert number_done("", GOOD | {"out": "b.mp4"}, job) == 1  # wherever its line is
    assert number_done(job | {"seed": 5}) == 0
    files.video.unlink()
    assert number_done(job) == 0


def test_what_a_killed_process_left_is_replaced(folder, small_checkpoint):
    lines = manifest(folder, GOOD | {"out": "a.mp4", "checkpoint": small_checkpoint})
    files = JobFiles(folder / "a.mp4")
    files.video.touch()
    assert "pass --overwrite" in (Checker(folder).all(lines)[0].error or "")
    files.report.write_text(json.dumps({"job": lines[0].digest}))  # the video was being written
    assert Checker(folder).all(lines)[0].error is None and not done_before(lines, folder)


def test_results_are_settled_once_every_job_has_one(folder):
    jobs = [GOOD | {"out": f"{i}.mp4"} for i in range(3)]
    lines, path = manifest(folder, *jobs), folder / "results.jsonl"
    files = JobFiles(folder / "1.mp4")
    files.video.touch()
    files.report.write_text(json.dumps({"job": lines[1].digest, "seconds": {}}))
    first, second = (Results(folder, (i, 2)) for i in range(2))
    second.path.write_text('{"job": 3, "out": "2.mp4", "sta')  # a process was killed while it wrote
    second = Results(folder, (1, 2))
    second.add(Result(3, "2.mp4", "failed", 0.0, "gone"))
    assert not settle(lines, folder) and not path.exists()
    first.add(Result(1, "0.mp4", "failed", 0.0, "odd"))
    assert settle(lines, folder)
    rows = [json.loads(text) for text in path.read_text().splitlines()]
    assert [(row["job"], row["status"], row["error"]) for row in rows] == [
        (1, "failed", "odd"),
        (2, "done", None),
        (3, "failed", "gone"),
    ]
