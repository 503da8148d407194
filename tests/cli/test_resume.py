"""`compose --continue`, and project files that reproduce a result."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gencompositor_jax import checkpoints
from gencompositor_jax.cli import main, rendering
from gencompositor_jax.controls.media import deep_images
from gencompositor_jax.controls.media.video import read_video
from gencompositor_jax.controls.media.whole import is_whole

HEIGHT, WIDTH = 48, 72
Call = Callable[..., int]


@pytest.fixture
def plate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with 12 images of 16 bits, numbered from 1001, and an element."""
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).integers(0, 65536, (12, HEIGHT, WIDTH, 3), np.uint16)
    for number, pixels in enumerate(noise, 1001):
        (tmp_path / f"plate.{number}.png").write_bytes(deep_images.coded(".png", pixels))
    element = np.zeros((14, 14, 4), np.uint8)
    element[2:12, 2:12] = (200, 40, 90, 255)
    Image.fromarray(element).save("bird.png")
    return tmp_path


@pytest.fixture
def compose(plate: Path, small_checkpoint: str) -> Call:
    """Composites frames 1003 to 1007; options replace those of the call."""

    def call(*more: str, out: str = "out/comp.####.png", chosen: str = "1003-1007") -> int:
        Path(out).parent.mkdir(exist_ok=True)
        return main(
            [
                *("compose", "--background", "plate.####.png", "--foreground", "bird.png"),
                *("--trajectory", "20,20 50,28", "--checkpoint", small_checkpoint, "--steps", "2"),
                *("--range", chosen, "--out", out, *more),
            ]
        )

    return call


def images(folder: str = "out") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(folder).glob("*.1*.png"))}


@pytest.mark.parametrize("out", ["out/comp.####.png", "out/comp.mkv"])
def test_a_project_file_reproduces_a_result_bit_for_bit(compose, out, capfd, small_checkpoint):
    codec = ["--codec", "ffv1"] if out.endswith("mkv") else []
    assert compose(*codec, out=out) == 0
    assert main(["compose", "--project", "out/comp.scene.json", "--out", out.replace("out/", "again/")]) == 2
    Path("again").mkdir()
    assert main(["compose", "--project", "out/comp.scene.json", "--out", out.replace("out/", "again/")]) == 0
    assert "was made" not in capfd.readouterr().err
    one, two = ({p.name: p.read_bytes() for p in Path(f).glob("comp.*[gv]")} for f in ("out", "again"))
    assert one == two and len(one) == (6 if "#" in out else 2)  # with the contact sheet
    record = json.loads(Path("out/comp.scene.json").read_text())["record"]
    assert record["weights"] == checkpoints.weights_hash(Path(small_checkpoint))
    assert record["frames"] == [1003, 1007] and record["size"] == [WIDTH, HEIGHT] and record["fps"] == 24
    assert record["plate"] == record["result"] == {"depth": "16", "colour": "sRGB"}
    assert record["versions"]["jax"] and record["device"].startswith("1 x ")


def test_h264_is_the_same_file_again(compose):
    assert compose(out="out/a.mp4") == 0 and compose(out="out/b.mp4") == 0
    assert Path("out/a.mp4").read_bytes() == Path("out/b.mp4").read_bytes()
    record = json.loads(Path("out/a.scene.json").read_text())["record"]
    assert record["result"] == {"depth": "8", "colour": "sRGB"} and record["plate"]["depth"] == "16"
    assert len(read_video("out/a.mp4").frames) == 5


def interrupted(monkeypatch, compose: Call, frames: int, **how: str) -> None:
    """A run that ends while it writes a frame."""
    made, before = 0, deep_images.coded

    def coded(*arguments):
        nonlocal made
        made += 1
        if made > frames:
            raise KeyboardInterrupt
        return before(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(deep_images, "coded", coded)
        assert compose(**how) == 130


def test_an_interrupted_run_goes_on(compose, monkeypatch, capfd):
    assert compose() == 0
    whole = images()
    interrupted(monkeypatch, compose, 3, out="next/comp.####.png")
    assert list(images("next")) == ["comp.1003.png", "comp.1004.png", "comp.1005.png"]
    assert compose(out="next/comp.####.png") == 2
    assert "by an interrupted run: pass --continue to resume" in capfd.readouterr().err
    Path("next/comp.1004.png").write_bytes(whole["comp.1004.png"][:-200])  # a copy that was cut off
    kept = Path("next/comp.1003.png").stat()
    assert compose("--continue", out="next/comp.####.png") == 0
    assert images("next") == whole
    assert Path("next/comp.1003.png").stat().st_mtime_ns == kept.st_mtime_ns
    assert "nothing was sampled" in capfd.readouterr().err  # the latents were there
    assert json.loads(Path("next/comp.json").read_text())["plate"]["kept"] == 2
    monkeypatch.setattr(rendering, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    assert compose("--continue", out="next/comp.####.png") == 0
    assert "is there and whole" in capfd.readouterr().out


def test_sigterm_removes_temporary_files(compose, monkeypatch):
    def end(*_):
        assert not list(Path("out").glob("comp.1*"))
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="143"):
        patch.setattr(deep_images, "coded", end)
        compose()
    assert signal.getsignal(signal.SIGTERM) == before
    assert sorted(path.name for path in Path("out").iterdir()) == ["comp.latents.npz", "comp.scene.json"]


def test_frames_of_a_long_clip_are_made_again_bit_for_bit(compose):
    layer = ("--layer", "long/edit.####.png")
    assert compose(*layer, out="long/comp.####.png", chosen="1001-1012") == 0
    whole = images("long")
    assert len(whole) == 24
    for name in ("comp.1002", "edit.1007", "comp.1008", "comp.1012"):
        Path(f"long/{name}.png").unlink()
    assert compose("--continue", *layer, out="long/comp.####.png", chosen="1001-1012") == 0
    assert images("long") == whole


def test_files_of_another_scene_or_model_are_not_mixed(compose, capfd):
    assert compose() == 0
    Path("out/comp.1005.png").unlink()
    assert compose("--continue", "--seed", "7") == 2
    assert "is of another scene (sampling): pass --overwrite" in capfd.readouterr().err
    project = Path("out/comp.scene.json")
    changed = json.loads(project.read_text())
    changed["record"]["versions"]["jax"] = "0.1"
    changed["record"]["weights"] = "0" * 64
    project.write_text(json.dumps(changed))
    assert compose("--continue") == 2
    assert "its images were made by other weights (SHA-256 000000000000, now" in capfd.readouterr().err
    assert main(["compose", "--project", str(project), "--out", "a.####.png"]) == 0
    said = capfd.readouterr().err
    assert "made by other weights" in said and "made by jax 0.1, now" in said
    assert compose("--continue", "--overwrite") == 2


def test_a_removal_has_a_project_file_and_goes_on(plate, small_checkpoint, monkeypatch):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[12:30, 20:44] = 255
    Image.fromarray(mask).save("mask.png")
    words = ["--range", "1003-1007", "--checkpoint", small_checkpoint, "--steps", "2"]

    def remove(*more: str, out: str = "out/comp.####.png") -> int:
        Path(out).parent.mkdir(exist_ok=True)
        given = ["--background", "plate.####.png", "--mask", "mask.png", "--out", out]
        return main(["remove", *given, *words, *more])

    interrupted(monkeypatch, remove, 2)
    assert remove("--continue") == 0 and len(images()) == 5
    Path("again").mkdir()
    assert main(["compose", "--project", "out/comp.scene.json", "--out", "again/comp.####.png"]) == 0
    assert images("again") == images()


def test_a_video_is_made_anew_or_left(compose, capfd, monkeypatch):
    assert compose("--continue", out="out/a.mp4") == 0  # nothing was begun
    assert compose(out="out/a.mp4") == 2
    monkeypatch.setattr(rendering, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    assert compose("--continue", out="out/a.mp4") == 0
    assert "is there and whole" in capfd.readouterr().out
    Path("out/a.scene.json").unlink()
    assert compose("--continue", out="out/a.mp4") == 2
    assert "there is no out/a.scene.json, which would say what made it" in capfd.readouterr().err


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [3, 4])
def test_whole_images(tmp_path, suffix, kind, channels):
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, channels)).astype(kind)
    path, data = tmp_path / f"a{suffix}", deep_images.coded(suffix, pixels)
    path.write_bytes(data)
    assert is_whole(path, (30, 20)) and not is_whole(path, (20, 30))
    for broken in (data[: len(data) // 2], data[:10], b"", b"\0" * len(data)):
        path.write_bytes(broken)
        assert not is_whole(path, (30, 20))
    assert not is_whole(tmp_path / "none.png", (30, 20))


def test_whole_exr_images(tmp_path):
    exr = pytest.importorskip("OpenEXR")
    from gencompositor_jax.controls.media.exr import write

    assert exr is not None
    path = tmp_path / "a.exr"
    write(path, {name: np.ones((20, 30), np.float16) for name in "RGB"}, {})
    assert is_whole(path, (30, 20))
    path.write_bytes(path.read_bytes()[:-40])
    assert not is_whole(path, (30, 20))
