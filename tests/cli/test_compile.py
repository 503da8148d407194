"""`gencompositor compile`, and what runs from it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gencompositor_jax.cli import main, parse, rendering
from gencompositor_jax.compositor import Compositor
from gencompositor_jax.controls.media.video import read_video
from gencompositor_jax.controls.media.video_out import write_image_folder
from gencompositor_jax.errors import InputError
from gencompositor_jax.inference import pipeline
from gencompositor_jax.inference.programs import Programs

FRAMES, HEIGHT, WIDTH = 5, 32, 48


@pytest.fixture(scope="module")
def programs(small_checkpoint, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("compiled") / "programs"
    assert main(["compile", "--checkpoint", small_checkpoint, "--steps", "4", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    frames = np.random.default_rng(0).integers(0, 255, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)
    write_image_folder(folder / "background", frames)
    element = np.zeros((FRAMES, 12, 12, 4), np.uint8)
    element[:, 2:10, 2:10] = (200, 40, 90, 255)
    write_image_folder(folder / "element", element)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10:20, 10:30] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    return folder


def compose(media: Path, checkpoint: str, out: Path, *more: str) -> list[str]:
    what = ["--background", str(media / "background"), "--foreground", str(media / "element")]
    how = ["--trajectory", "12,16 36,16", "--checkpoint", checkpoint, "--steps", "4", "--out", str(out)]
    return ["compose", *what, *how, *more]


@pytest.fixture
def nothing_compiles(monkeypatch):
    """Whoever calls a jitted part of a pass would compile it."""

    def stop(name):
        def program(*_, **__):
            pytest.fail(f"{name} was compiled")

        program.__name__ = name
        return program

    for name in ("start", "encode", "advance", "decode"):
        monkeypatch.setattr(pipeline, name, stop(name))


def test_compose_with_programs_makes_the_same(media, small_checkpoint, programs, tmp_path):
    assert main(compose(media, small_checkpoint, tmp_path / "jit")) == 0
    assert main(compose(media, small_checkpoint, tmp_path / "aot", "--compiled", str(programs))) == 0
    one, two = (read_video(tmp_path / name).frames for name in ("jit", "aot"))
    np.testing.assert_array_equal(one, two)


def test_compose_and_remove_compile_nothing(media, small_checkpoint, programs, tmp_path, nothing_compiles):
    with_programs = ["--compiled", str(programs), "--sigma", "3"]
    assert main(compose(media, small_checkpoint, tmp_path / "a", *with_programs)) == 0
    words = ["remove", "--background", str(media / "background"), "--mask", str(media / "mask.png")]
    words += ["--checkpoint", small_checkpoint, "--steps", "4", "--out", str(tmp_path / "b")]
    assert main([*words, *with_programs]) == 0


def test_other_steps_and_frames_are_refused_before_the_model_loads(
    media, small_checkpoint, programs, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(rendering, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    given = compose(media, small_checkpoint, tmp_path / "out", "--compiled", str(programs))
    for option, value, says in (
        ("--steps", "20", "made for steps_per_call=1, not 2"),
        ("--frames", "1", "made for frames=5, not 1"),
        ("--weights", "int8", "made for weights=None, not int8"),
        ("--fast", "drop-blank", "pass one of the two"),
    ):
        assert main([*given, option, value]) == 2
        assert says in capsys.readouterr().err
    given[-1] = str(tmp_path)
    assert main(given) == 2
    assert "has no programs.json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_guided_pass_has_programs_of_its_own(small_model, programs, tmp_path):
    model = dataclasses.replace(small_model, prompts={"night": np.ones_like(small_model.arrays["null_text"])})
    Compositor(model).compile(tmp_path / "guided", steps=4, prompt="night")
    guided, plain = Programs.load(tmp_path / "guided"), Programs.load(programs)
    assert guided.made_for["guided"] and not plain.made_for["guided"]
    same = plain.executables.keys() & guided.executables.keys()
    assert sorted(plain.signatures[key].name for key in same) == ["decode", "encode", "start"]


def test_an_existing_folder_is_refused_before_the_model_loads(programs, monkeypatch, capsys):
    monkeypatch.setattr(rendering, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    assert main(["compile", "--out", str(programs)]) == 2
    assert "exists: pass --overwrite" in capsys.readouterr().err
    assert main(["compile", "--out", str(programs / "new"), "--frames", "0"]) == 2
    assert main(["compile", "--out", str(programs / "new"), "--prompt", "no such"]) == 2
    assert main(["compile", "--out", str(programs / "new"), "--steps", "0"]) == 2


def test_the_command_line_parses():
    args = parse(["compile", "--checkpoint", "c", "--frames", "9", "--guidance", "1", "--out", "d"])
    assert (args.checkpoint, args.frames, args.guidance, args.steps) == ("c", 9, 1.0, None)
    assert parse(["compose", "--compiled", "d"]).compiled == "d"


@pytest.mark.slow
def test_a_long_clip_has_programs_of_its_own(small_model, programs, tmp_path):
    """And those of one window are refused for it before anything runs."""
    Compositor(small_model).compile(tmp_path / "long", steps=1, frames=9)
    made = Programs.load(tmp_path / "long")
    names = {signature.name for signature in made.signatures.values()}
    assert names == {"start", "block_noise", "encode_chunk", "predict", "solve", "decode_chunk"}
    background = np.random.default_rng(0).integers(0, 255, (9, HEIGHT, WIDTH, 3), dtype=np.uint8)
    element = np.full((9, 8, 8, 4), 255, np.uint8)
    given = background, element, [(12, 16), (36, 16)]
    compiled = Compositor(small_model, programs=made).compose(*given, frames=9, steps=1)
    plain = Compositor(small_model).compose(*given, frames=9, steps=1)
    assert np.abs(np.asarray(compiled.raw).astype(int) - np.asarray(plain.raw)).max() <= 1
    with pytest.raises(InputError, match="compile --frames 9"):
        Compositor(small_model, programs=Programs.load(programs)).compose(*given, frames=9, steps=4)
