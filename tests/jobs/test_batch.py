"""Batches with a small random model, by the command."""

import json
import signal
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gencompositor_jax.cli import main
from gencompositor_jax.compositor import Compositor
from gencompositor_jax.controls.footage import scene_stage
from gencompositor_jax.controls.media import exr
from gencompositor_jax.controls.media.video import read_video
from gencompositor_jax.controls.media.video_out import write_image_folder
from gencompositor_jax.controls.scene import read_scene
from gencompositor_jax.errors import InputError
from gencompositor_jax.inference import pipeline
from gencompositor_jax.jobs import batch, groups
from gencompositor_jax.jobs.batch import Batch
from gencompositor_jax.jobs.checking import Checker
from gencompositor_jax.jobs.manifest import read_manifest
from gencompositor_jax.jobs.results import Result, Results
from tests.test_compositor import TRAJECTORY, disc, scenery


@pytest.fixture
def folder(tmp_path, small_checkpoint) -> Path:
    """Three backgrounds and an element."""
    for i in range(3):
        write_image_folder(tmp_path / f"street{i}", scenery(seed=i))
    write_image_folder(tmp_path / "bird", disc())
    return tmp_path


def jobs(checkpoint: str, count: int, **fields: Any) -> list[dict[str, Any]]:
    common = {"foreground": "bird", "trajectory": [list(point) for point in TRAJECTORY], "steps": 2}
    return [
        {
            "out": f"{i}",
            "background": f"street{i % 3}",
            "checkpoint": checkpoint,
            "seed": i,
            **common,
            **fields,
        }
        for i in range(count)
    ]


def run(folder: Path, *lines: object, options: tuple[str, ...] = ()) -> int:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / "jobs.jsonl").write_text("\n".join(texts))
    words = ["batch", "--manifest", str(folder / "jobs.jsonl"), "--out", str(folder / "out"), *options]
    return main(words)


def results(folder: Path) -> dict[int, Any]:
    rows = [json.loads(text) for text in (folder / "out" / "results.jsonl").read_text().splitlines()]
    return {row["job"]: row for row in rows}


def test_a_batch_makes_what_compose_makes_and_resumes(folder, small_checkpoint, monkeypatch, capsys):
    """Two calls of two clips by one program; what is broken fails alone."""
    three = jobs(small_checkpoint, 3)
    gone = three[0] | {"out": "gone", "background": "gone"}
    programs: Any = pipeline.advance
    programs.clear_cache()
    assert run(folder, *three, gone, "{", options=("--clips", "2")) == 1
    assert programs._cache_size() == 1
    said = capsys.readouterr()
    assert "5 jobs, 0 done before, 2 can't be made" in said.out and "3 of 5 jobs done, 2 failed" in said.out
    found = results(folder)
    assert [found[i]["status"] for i in (1, 2, 3, 4, 5)] == ["done"] * 3 + ["failed"] * 2
    assert "no such file" in found[4]["error"] and "line 5" in found[5]["error"]
    scene = read_scene(folder / "out" / "2.scene.json")
    compositor = Compositor.load(small_checkpoint)
    alone = compositor.render(scene_stage(scene, compositor.arch), scene.sampling)
    made = read_video(folder / "out" / "2").frames.astype(int)
    assert scene.sampling.seed == 2 and np.abs(made - alone.frames).max() <= 1

    monkeypatch.setattr(Compositor, "sample", lambda *_, **__: pytest.fail("made again"))
    write_image_folder(folder / "gone", scenery())
    assert run(folder, *three) == 0
    with monkeypatch.context() as patch:
        patch.setattr(Compositor, "load", lambda *_, **__: pytest.fail("nothing is left"))
        assert run(folder, *three) == 0
    assert [row["status"] for row in results(folder).values()] == ["done"] * 3


def test_a_job_is_done_if_its_result_is_whole_and_of_these_weights(folder, small_checkpoint, monkeypatch):
    three, made, before = jobs(small_checkpoint, 3), list[int](), Compositor.sample
    assert run(folder, *three) == 0

    def sample(self, *arguments, seeds, **more):
        made.extend(seeds)
        return before(self, *arguments, seeds=seeds, **more)

    monkeypatch.setattr(Compositor, "sample", sample)
    next((folder / "out" / "0").iterdir()).write_bytes(b"cut off")
    project = folder / "out" / "2.scene.json"
    scene = json.loads(project.read_text())
    project.write_text(json.dumps(scene | {"record": scene["record"] | {"weights": "0" * 64}}))
    assert run(folder, *three) == 0 and made == [0, 2]
    assert run(folder, *three) == 0 and made == [0, 2]


def test_jobs_write_at_the_plates_depth(folder, small_checkpoint, capsys):
    """A codec, a sequence in another colour, the edit as a layer and the element; wrong ones are refused."""
    pytest.importorskip("OpenEXR")
    ffv1, light, bad, video = jobs(small_checkpoint, 4)
    lines = (
        ffv1 | {"out": "a/comp.mkv", "codec": "ffv1", "save_element": True, "layer": True},
        light
        | {"out": "b/comp.####.exr", "output_colour": "linear", "exr_layers": True}
        | {"layer": "b/edit.####.exr"},
        bad | {"out": "c.####.exr"},
        video | {"out": "d.mp4", "output_colour": "PQ"},
    )
    assert run(folder, *lines) == 1
    said = capsys.readouterr().err
    assert "EXR has linear light, sRGB is encoded" in said and "--output-colour PQ" in said
    out = folder / "out"
    for name in ("comp.mkv", "comp.json", "comp.scene.json", "comp.layer.mov", "comp.element.mov"):
        assert (out / "a" / name).is_file()
    plate, made = read_video(folder / "street0").frames, read_video(out / "a" / "comp.mkv").frames
    assert (np.asarray(plate)[:, 0] == np.asarray(made)[:, 0]).all()  # far from the element
    assert read_scene(out / "a" / "comp.scene.json").codec == "ffv1"
    images, edits = sorted((out / "b").glob("comp.*.exr")), sorted((out / "b").glob("edit.*.exr"))
    assert len(images) == len(edits) == len(plate)
    assert "mask.A" in exr.read(images[0]).channels
    record = read_scene(out / "b" / "comp.scene.json").record
    assert record is not None and (record.result.depth, record.result.colour) == ("half", "linear")
    images[1].unlink()  # so that the result isn't whole
    assert run(folder, *lines) == 1 and images[1].exists()
    assert "4 jobs, 1 done before" in capsys.readouterr().out


@pytest.mark.parametrize("read", ["out/street1", "out/street1/#####.png"])
def test_no_line_replaces_what_another_one_reads(folder, small_checkpoint, capsys, read):
    (folder / "out").mkdir()
    for name in ("street1", "bird"):
        (folder / name).rename(folder / "out" / name)
    one, two, three = jobs(small_checkpoint, 3, foreground="out/bird")
    lines = one | {"out": "street1"}, two | {"background": read}, three | {"out": "bird"}
    assert run(folder, *lines, options=("--overwrite",)) == 1
    said = capsys.readouterr().err
    assert "line 1: out: " in said and "line 2 reads it: write elsewhere" in said
    assert "out/bird: is an input of this run" in said
    assert results(folder)[2]["status"] == "done"


def made_of(folder: Path, *lines: Any) -> list[Result]:
    (folder / "jobs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "out").mkdir()
    found: list[Result] = []
    checker = Checker(folder / "out")
    checked = checker.all(read_manifest(folder / "jobs.jsonl"))
    Batch(checked, checker, found.append, clips=2).run()
    return sorted(found, key=lambda result: result.job)


class Fake:
    """A compositor that paints, of no weights; some seeds fail."""

    source, weights, arch, model, mesh = "fake", None, None, None, None
    calls: list[list[int]]

    def __init__(self, arch: Any, broken: int = -1) -> None:
        self.calls, self.broken, self.loaded, self.arch = [], broken, 0, arch

    def load(self, *_: Any, **__: Any) -> "Fake":
        self.loaded += 1
        return self

    def sample(self, arch: Any, given: Any, options: Any, *, seeds: Any, layer: int, **_: Any) -> np.ndarray:
        self.calls.append([layer, *seeds])
        if self.broken in seeds:
            raise RuntimeError("no luck")
        return np.stack(
            [
                np.full((*clip.mask.shape[:3], 3), seed + 100 * layer, np.uint8)
                for clip, seed in zip(given, seeds, strict=True)
            ]
        )


@pytest.fixture
def fake(monkeypatch, small_model):
    """Puts a `Fake` in the place of the compositor."""

    def install(broken: int = -1) -> Fake:
        made = Fake(small_model.arch, broken)
        monkeypatch.setattr(Batch, "_compositor", lambda self, group: made.load())
        monkeypatch.setattr(batch, "facts_of", lambda *_: {"seconds": {}})
        monkeypatch.setattr(batch, "record_of", lambda *_: None)
        return made

    return install


def test_shapes_are_groups_and_layers_are_in_order(folder, small_checkpoint, fake):
    compositor = fake()
    lines = jobs(small_checkpoint, 5)
    lines[1]["steps"] = 4
    scene = {
        "version": 1,
        "background": {"path": "street0"},
        "checkpoint": small_checkpoint,
        "seed": 9,
        "steps": 2,
    }
    layer = {"foreground": "bird", "trajectory": [{"x": 30, "y": 30}]}
    (folder / "two.json").write_text(json.dumps(scene | {"layers": [layer, layer]}))
    lines.append({"out": "two", "project": "two.json", "detail": "model"})
    assert [result.status for result in made_of(folder, *lines)] == ["done"] * 6
    assert compositor.loaded == 3  # groups
    assert sorted(compositor.calls) == [[0, 0, 2], [0, 1], [0, 3, 4], [0, 9], [1, 9]]
    assert (read_video(folder / "out" / "two").frames == 109).any()  # the second layer on top


def test_one_failing_job_stops_no_other(folder, small_checkpoint, fake, monkeypatch):
    compositor = fake(broken=1)
    lines = [*jobs(small_checkpoint, 4), jobs(small_checkpoint, 5)[4] | {"background": "vanishing"}]
    write_image_folder(folder / "vanishing", scenery())
    group = groups.grouped

    def grouped(*args: Any) -> Any:
        for image in (folder / "vanishing").iterdir():  # once all is checked
            image.unlink()
        return group(*args)

    monkeypatch.setattr(batch, "grouped", grouped)
    found = made_of(folder, *lines)
    assert [result.status for result in found] == ["done", "failed", "done", "done", "failed"]
    assert found[1].error == "RuntimeError: no luck" and "is damaged" in (found[4].error or "")
    assert [0, 0] in compositor.calls and [0, 1] in compositor.calls  # one by one, after the call of both


def test_sigterm_finishes_what_is_in_hand(folder, small_checkpoint, fake, monkeypatch, capsys):
    compositor, lines, two = fake(), jobs(small_checkpoint, 6), ("--clips", "2")
    sample = compositor.sample

    def last(*args: Any, **how: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return sample(*args, **how)

    with monkeypatch.context() as patch:
        patch.setattr(compositor, "sample", last)
        assert run(folder, *lines, options=two) == 1
    assert "2 of 6 jobs done, 0 failed, 4 left" in capsys.readouterr().out
    assert {number: row["status"] for number, row in results(folder).items()} == {1: "done", 2: "done"}
    assert run(folder, *lines, options=two) == 0
    assert sorted(compositor.calls) == [[0, 0, 1], [0, 2, 3], [0, 4, 5]]


def test_on_a_full_disk_jobs_fail_before_they_are_made(folder, small_checkpoint, fake, monkeypatch):
    compositor = fake()
    monkeypatch.setattr("gencompositor_jax.files.MIN_FREE", 2**62)
    assert run(folder, *jobs(small_checkpoint, 2)) == 1
    assert all("free space" in row["error"] for row in results(folder).values())
    assert compositor.calls == []
    monkeypatch.setattr(Results, "add", no_space)
    assert run(folder, *jobs(small_checkpoint, 2)) == 2  # not even that can be recorded


def no_space(*_: Any) -> None:
    raise InputError("results.jsonl: can't be written (no space left on device)")


def test_each_host_takes_its_share(folder, small_checkpoint, fake, capsys):
    compositor, lines = fake(), jobs(small_checkpoint, 5)
    for i in range(2):
        several = ("--processes", "2", "--process", str(i), "--clips", "1")
        assert run(folder, *lines, options=several) == 0
        assert f"{3 - i} of {3 - i} jobs of this process done" in capsys.readouterr().out
        assert (folder / "out" / "results.jsonl").exists() == (i == 1)
    assert sorted(compositor.calls) == [[0, seed] for seed in range(5)]
    assert [row["status"] for row in results(folder).values()] == ["done"] * 5


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (("--clips", "0"), "--clips 0"),
        (("--mesh", "tensor=3"), "mesh"),
        (("--mesh", "data"), "--mesh data"),
        (("--mesh", "foo=2"), "--mesh foo: unknown axis"),
        (("--processes", "2"), "pass both"),
        (("--coordinator", "127.0.0.1:9900"), "--processes and --process: missing"),
        (("--coordinator-timeout", "0"), "--coordinator-timeout 0"),
        (("--processes", "2", "--process", "2"), "numbered from 0"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_one_line(options, names, folder, small_checkpoint, capsys):
    assert run(folder, *jobs(small_checkpoint, 1), options=options) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("gencompositor: ") and names in error


def test_more_clips_of_a_small_network_than_of_a_large_one(small_model):
    from gencompositor_jax.arch import released

    def mesh(platform: str, rows: int) -> Any:
        devices = np.array([types.SimpleNamespace(platform=platform)] * rows)
        return types.SimpleNamespace(devices=devices, shape={"data": rows, "fsdp": 1})

    assert groups.clips_per_call(released(), mesh("tpu", 4), 1000) == 4
    assert groups.clips_per_call(small_model.arch, mesh("tpu", 1), 1000) == groups.MOST
    assert groups.clips_per_call(small_model.arch, mesh("gpu", 1), 9) == 2  # in five calls, not two
    assert groups.clips_per_call(small_model.arch, mesh("gpu", 4), 9) == 4
    assert groups.clips_per_call(small_model.arch, mesh("cpu", 2), 1000) == 2


def test_clips_longer_than_the_models_are_made_between_the_others(folder, small_checkpoint):
    """Of the length of their background; those shorter than the model's are held and cut."""
    write_image_folder(folder / "street1", scenery(9, seed=1), overwrite=True)
    write_image_folder(folder / "street2", scenery(3, seed=2), overwrite=True)
    assert run(folder, *jobs(small_checkpoint, 3, extend="loop", steps=1)) == 0
    lengths = [len(read_video(folder / "out" / str(i)).frames) for i in range(3)]
    assert lengths == [5, 9, 3]
    report = json.loads((folder / "out" / "1.json").read_text())
    assert report["settings"]["frames"] == 9 and report["settings"]["model_frames"] == 5
    assert not list((folder / "out").glob("*.npz"))  # what would resume a killed one
