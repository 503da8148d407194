"""The command, called as `main(argv)`. What samples here uses a small random model, not the embedded one."""

import json
import os
import shutil
import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image

from gencompositor_jax import arch, checkpoints
from gencompositor_jax.cli import main, rendering
from gencompositor_jax.cli.compose import warnings
from gencompositor_jax.compositor import Compositor
from gencompositor_jax.controls.element.element import Element
from gencompositor_jax.controls.media.video import read_video
from gencompositor_jax.controls.media.video_out import write_image_folder, write_video
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.inference import pipeline
from tests.test_compositor import no_memory

WIDTH, HEIGHT, FRAMES = 96, 64, 6
TRAJECTORY = "20,30 45,34 70,30"


def background_frames(frames: int = FRAMES, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    y, x, t = np.mgrid[:height, :width, :frames].astype(np.float32)
    video = np.stack([120 + 80 * np.sin(x / 9 + t / 3), 120 + 80 * np.cos(y / 7), 90 + x - y], axis=-1)
    return np.ascontiguousarray(video.clip(0, 255).astype(np.uint8).transpose(2, 0, 1, 3))


def element_frames(frames: int = FRAMES, side: int = 24) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    rgba = np.zeros((frames, side, side, 4), np.uint8)
    rgba[..., :3] = (200, 40, 90)
    rgba[..., 3] = np.where(x**2 + y**2 < (side / 2) ** 2, 255, 0)
    return rgba


def on_screen(colour: tuple[int, int, int], screen: tuple[int, int, int]) -> np.ndarray:
    """An element of one colour in the middle of a plain screen, uint8 [T, 48, 48, 3]."""
    frames = np.full((FRAMES, 48, 48, 3), screen, np.uint8)
    frames[:, 14:34, 12:36] = colour
    return frames


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good inputs: a background with nothing special, an element with alpha, a mask."""
    folder = tmp_path_factory.mktemp("media")
    write_video(folder / "background.mp4", background_frames(), 8.0)
    write_image_folder(folder / "element", element_frames())
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[20:40, 30:60] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, where outputs would go."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


Arguments = Callable[..., list[str]]


@pytest.fixture
def compose(media: Path, small_checkpoint: str, here: Path) -> Arguments:
    """The words of a good `compose` of four steps, with some options replaced (None drops one)."""

    def words(command: str = "compose", **changes: str | None) -> list[str]:
        given: dict[str, str | None] = {
            "background": str(media / "background.mp4"),
            "foreground": str(media / "element"),
            "trajectory": TRAJECTORY,
            "checkpoint": small_checkpoint,
            "frames": "5",
            "out": "out.mp4",
        }
        if command == "compose":
            given["steps"] = "4"
        return [command] + [
            f"--{name.replace('_', '-')}" + (f"={value}" if value else "")
            for name, value in (given | changes).items()
            if value is not None
        ]

    return words


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever loads a model here has checked too late."""
    monkeypatch.setattr(rendering, "load", lambda *_, **__: pytest.fail("the model was loaded"))


def refused(argv: list[str], capsys: pytest.CaptureFixture[str], here: Path) -> str:
    """The one line that a refused command says; it has written nothing."""
    before = sorted(here.rglob("*"))
    assert main(argv) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and said.err.startswith("gencompositor: ")
    assert said.out == ""
    assert sorted(here.rglob("*")) == before
    return said.err


# What comes out.


def test_compose_writes_video_sheet_facts_and_project(compose, here, capsys):
    assert main(compose()) == 0
    assert sorted(p.name for p in here.iterdir()) == ["out.json", "out.mp4", "out.png", "out.scene.json"]
    video = read_video(here / "out.mp4")
    assert video.frames.shape == (5, HEIGHT, WIDTH, 3) and video.fps == 8
    facts = json.loads((here / "out.json").read_text())
    assert facts["settings"]["seed"] == 42 and facts["settings"]["steps"] == 4
    assert {"read", "load", "encode", "sample", "decode", "paste back", "write"} <= facts["seconds"].keys()
    assert facts["versions"]["jax"] and facts["device"]
    assert "out.mp4" in capsys.readouterr().out


def test_what_was_sampled_waits_for_the_decoder(compose, here, capsys, monkeypatch):
    """A run without the memory to decode leaves it; the same command goes on from it and clears it away."""
    words = compose(fast="drop-blank,cache:2", weights="int8", out="images")
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "decode", no_memory)
        assert main(words) == 2
    said = capsys.readouterr().err
    assert "too little memory" in said and "images.latents.npz" in said and said.count("\n") == 1
    assert [p.name for p in here.iterdir()] == ["images.latents.npz"]
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "_sample", lambda *_: pytest.fail("sampled again"))
        assert main(words) == 0
    assert "nothing was sampled" in capsys.readouterr().err
    assert sorted(p.name for p in here.iterdir()) == [
        "images",
        "images.json",
        "images.png",
        "images.scene.json",
    ]
    facts = json.loads((here / "images.json").read_text())
    assert facts["settings"]["fast"] == "drop-blank,cache:2" and facts["settings"]["weights"] == "int8"
    scene = json.loads((here / "images.scene.json").read_text())
    assert scene["fast"] == "drop-blank,cache:2" and scene["weights"] == "int8"


def test_a_file_in_the_place_of_the_latents_stays(compose, here, capsys, no_model):
    (here / "out.latents.npz").write_text("mine")
    assert "out.latents.npz: not a file of latents" in refused(compose(overwrite=""), capsys, here)
    assert (here / "out.latents.npz").read_text() == "mine"


def test_a_run_that_was_interrupted_while_it_wrote_says_how_to_resume(compose, here, capsys, no_model):
    for name in ("out.mp4", "out.latents.npz"):
        (here / name).touch()
    assert "by an interrupted run: pass --continue to resume" in refused(compose(), capsys, here)


def test_compiled_programs_are_exact(compose, here, capsys, no_model):
    assert "pass one of the two" in refused(compose(fast="cache:2", compiled="programs"), capsys, here)


def test_project_file_makes_the_same_again(compose, here, small_checkpoint):
    """Images keep every bit, so the two runs can be compared exactly; the background is outside the mask."""
    first = compose(out="first", seed="5", scale="0.8,1.2", rotation="0,30", anchor="bottom", feather="1")
    assert main(first) == 0
    scene = json.loads((here / "first.scene.json").read_text())
    assert scene["seed"] == 5 and scene["layers"][0]["scales"] == [0.8, 1.2]
    assert main(["compose", "--project", "first.scene.json", "--out", "second"]) == 0
    one, two = (read_video(here / name).frames for name in ("first", "second"))
    np.testing.assert_array_equal(one, two)
    assert main(["compose", "--project", "first.scene.json", "--seed", "6", "--out", "third"]) == 0
    assert (read_video(here / "third").frames != one).any()
    assert json.loads((here / "third.scene.json").read_text())["seed"] == 6


def test_pixels_outside_the_mask_are_the_inputs(compose, here, media):
    assert main(compose(out="images")) == 0
    result, given = read_video(here / "images").frames, read_video(media / "background.mp4").frames[:5]
    changed = (result != given).any(axis=(0, 3))
    assert changed[20:44, 10:80].any()
    assert not changed[:, 90:].any() and not changed[:8].any() and not changed[56:].any()


def test_several_layers_by_a_project_file(compose, here):
    assert main(compose("preview", out="one.mp4")) == 0
    scene = json.loads((here / "one.scene.json").read_text())
    scene["layers"].append(scene["layers"][0] | {"trajectory": [{"x": 80, "y": 50}]})
    Path("both.json").write_text(json.dumps(scene))
    assert main(["compose", "--project", "both.json", "--steps=4", "--out", "two"]) == 0
    assert len(json.loads((here / "two.json").read_text())["settings"]["windows"]) == 2
    one, two = read_video("two").frames, read_video(scene["background"]["path"]).frames[:5]
    assert (one != two)[:, 48:52, 78:82].any() and (one != two)[:, 28:32, 20:70].any()


def test_no_paste_back_writes_the_models_frames(compose, here):
    assert main(compose(no_paste_back="")) == 0
    assert read_video(here / "out.mp4").frames.shape == (5, 32, 48, 3)


def test_the_element_keeps_its_own_pixels_unless_the_models_are_asked_for(compose, here):
    shares, frames = {}, {}
    for how in ("element", "model"):
        assert main(compose(out=how, detail=how)) == 0
        facts = json.loads((here / f"{how}.json").read_text())
        assert facts["settings"]["detail"] == how
        (shares[how],) = facts["transferred"]
        frames[how] = read_video(here / how).frames
    assert shares == {"element": 1.0, "model": 0.0}
    assert (frames["element"] != frames["model"]).any()


@pytest.mark.parametrize(
    ("alpha", "detail", "said"), [(120, "element", 1), (120, "auto", 0), (130, "element", 0)]
)
def test_an_element_too_soft_for_its_own_pixels_is_named(alpha, detail, said):
    element = Element(np.full((9, 8, 8, 4), alpha, np.uint8), "smoke.mov")
    shots = [SimpleNamespace(path=None, element=element)]
    stage = SimpleNamespace(shots=shots, arch=arch.linear(), is_long=False)
    scene = SimpleNamespace(layers=(element,), sampling=SamplingOptions(detail=detail))
    assert [text for text in warnings(scene, arch.linear(), stage) if "smoke.mov" in text] == said * [
        "--detail element: smoke.mov is nowhere half opaque, so the model draws it"
    ]


def test_preview_loads_no_model_and_draws_the_mask(compose, here, media, no_model):
    assert main(compose("preview", out="images")) == 0
    drawn, given = read_video(here / "images").frames, read_video(media / "background.mp4").frames[:5]
    changed = (drawn != given).any(axis=-1)
    assert changed[:, 30, 20:70].any() and changed.mean() < 0.6
    assert sorted(p.name for p in here.iterdir()) == [
        "images",
        "images.json",
        "images.png",
        "images.scene.json",
    ]


def test_the_mask_grows_as_told(compose, here, no_model):
    def masked(out: str, **settings: str) -> float:
        assert main(compose("preview", out=out, **settings)) == 0
        with_mask = read_video(here / out).frames.astype(int)
        return float((with_mask != read_video(here / "plain").frames).any(axis=-1).mean())

    assert main(compose("preview", out="plain", sigma="0.3", tau="1")) == 0
    small, large = masked("small", sigma="1", tau="0.5"), masked("large", sigma="5", tau="0.01")
    assert 0 < small < large
    scene = json.loads((here / "large.scene.json").read_text())
    assert (scene["sigma"], scene["tau"], scene["latent_mask"]) == (5.0, 0.01, None)


def test_remove_changes_only_what_the_mask_covers(media, here, small_checkpoint, capsys):
    words = ["remove", "--background", str(media / "background.mp4"), "--mask", str(media / "mask.png")]
    words += ["--checkpoint", small_checkpoint, "--steps=4", "--out=images", "--detail=element"]
    assert main(words) == 0
    assert capsys.readouterr().err.count("a removal has no element") == 1
    assert json.loads((here / "images.json").read_text())["transferred"] == [0.0]
    result, given = read_video(here / "images").frames, read_video(media / "background.mp4").frames
    changed = (result != given).any(axis=(0, 3))
    assert changed[22:38, 32:58].mean() > 0.9 and not changed[:10].any() and not changed[:, :15].any()


def test_demo_composes_inputs_of_its_own(here, small_checkpoint, monkeypatch, capsys):
    monkeypatch.setattr(checkpoints.format, "packaged", lambda: Path(small_checkpoint))
    assert main(["demo", "--out-dir", "demo", "--steps=4"]) == 0
    made = sorted(p.name for p in (here / "demo").iterdir())
    beside = ["composite.json", "composite.mp4", "composite.png", "composite.scene.json"]
    assert made == ["background.mp4", *beside, "element"]
    assert "demo/composite.png" in capsys.readouterr().out
    assert main(["demo", "--out-dir", "demo", "--steps=4"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["demo", "--out-dir", "demo", "--steps=4", "--overwrite"]) == 0


def test_existing_output_is_replaced_when_asked(compose, here):
    Path("out.png").write_text("mine")
    assert main(compose("preview", overwrite="")) == 0
    assert Image.open("out.png").size[0] > 0


def test_interrupted_leaves_nothing(compose, here, monkeypatch, capsys):
    def slow(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Compositor, "render", slow)
    assert main(compose()) == 130
    assert list(here.iterdir()) == []
    assert "interrupted" in capsys.readouterr().err


def test_allowed_but_surprising_is_said(compose, here, capsys, monkeypatch, no_model):
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rendering, "load", stop)
    # 9 frames of a model trained for 5, from a background resampled to more frames.
    main(compose(steps="7", frames="9", fps="16", trajectory="track:30,30", extend="loop"))
    said = capsys.readouterr().err
    assert "9 frames: sampled in windows of the 5" in said and "--steps 7" in said


def test_a_clip_longer_than_the_models(compose, here, media):
    """All six frames of the background: in windows, in pieces, with all files beside the video."""
    assert main(compose(frames=None, out="images", steps="1")) == 0
    result, given = read_video(here / "images").frames, read_video(media / "background.mp4").frames
    assert len(result) == 6 and (result != given).any() and (result == given).any()
    facts = json.loads(Path("images.json").read_text())
    assert facts["settings"]["frames"] == 6 and len(facts["transferred"]) == 1
    assert Image.open("images.png").size[0] > 0 and not Path("images.latents.npz").exists()
    assert main(compose("preview", frames=None, out="drawn")) == 0
    assert len(read_video(here / "drawn").frames) == 6


def test_it_runs_as_a_module_and_a_wrong_path_needs_no_jax():
    root = Path(__file__).parents[2]
    code = (
        "import sys; from gencompositor_jax.cli import main; "
        "code = main(['compose', '--background=nowhere.mp4', '--foreground=x', '--trajectory=1,1']); "
        "assert 'jax' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.returncode == 2 and "nowhere.mp4" in done.stderr
    help_me = [sys.executable, "-m", "gencompositor_jax", "--help"]
    done = subprocess.run(help_me, capture_output=True, text=True, cwd=root)
    assert done.returncode == 0
    assert all(name in done.stdout for name in ("compose", "preview", "remove", "demo"))


# What doesn't.


def cut_short(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])


def damage(path: Path) -> None:
    """Overwrites the middle of the picture data."""
    data = bytearray(path.read_bytes())
    at = data.index(b"mdat")
    data[at + 40 : at + 2000] = bytes(len(data[at + 40 : at + 2000]))
    path.write_bytes(data)


def sound_only(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))


def gigantic_png(path: Path) -> None:
    """A valid header that claims 60000 x 60000 pixels."""
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    )


def make_bad(kind: str, media: Path, folder: Path) -> str:
    """The path of one bad clip, outside the current folder."""
    path = folder / f"{kind}.mp4"
    match kind:
        case "missing":
            pass
        case "empty":
            path.touch()
        case "no video":
            path.write_text("this is a letter, not a video\n" * 50)
        case "truncated" | "corrupt":
            write_video(path, np.random.default_rng(0).integers(0, 255, (12, 64, 96, 3), np.uint8), 8.0)
            (cut_short if kind == "truncated" else damage)(path)
        case "no frames":
            with av.open(str(path), "w") as container:
                stream = container.add_stream("libx264", rate=8)
                stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        case "sound only":
            path = folder / "sound.wav"
            sound_only(path)
        case "empty folder":
            path = folder / "images"
            path.mkdir()
        case "playlist":
            path = folder / "list.m3u8"
            path.write_text("#EXTM3U\n#EXTINF:10,\nhttp://example.com/secret.ts\n")
        case "hidden playlist":
            path.write_text("#EXTM3U\n#EXTINF:10,\n/etc/passwd\n")
        case "url":
            return "https://example.com/video.mp4"
        case "absurd":
            path = folder / "huge.png"
            gigantic_png(path)
        case "short":
            write_video(path, on_screen((200, 40, 90), (255, 255, 255))[:3], 8.0)
    return str(path)


@pytest.mark.parametrize("option", ["background", "foreground"])
@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("missing", "no such file"),
        ("empty", "empty"),
        ("no video", "no video.mp4"),
        ("truncated", "truncated.mp4"),
        ("corrupt", "corrupt.mp4"),
        ("no frames", "no frames.mp4"),
        ("sound only", "sound.wav"),
        ("empty folder", "no images"),
        ("playlist", "playlist"),
        ("hidden playlist", "playlist"),
        ("url", "is an address"),
        ("absurd", "scale it down"),
        ("short", "has 3 frames"),
    ],
)
def test_bad_clips(option, kind, says, compose, media, here, capsys, no_model, tmp_path_factory):
    path = make_bad(kind, media, tmp_path_factory.mktemp("bad"))
    assert says in refused(compose(**{option: path}), capsys, here)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(compose, media, here, capsys, no_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("bad") / "locked.mp4"
    shutil.copy(media / "background.mp4", path)
    path.chmod(0)
    assert "permissions" in refused(compose(background=str(path)), capsys, here)


@pytest.mark.parametrize(
    ("colour", "screen", "key", "says"),
    [
        ((255, 255, 255), (255, 255, 255), None, "white"),  # nothing there
        ((252, 252, 250), (255, 255, 255), None, "--key"),  # nearly white on white
        ((200, 40, 90), (255, 255, 255), "green", "green"),  # the wrong key
        ((200, 40, 90), (255, 255, 255), "alpha", "alpha"),
        ((200, 40, 90), (255, 255, 255), "mauve", "mauve"),
    ],
)
def test_elements_that_cannot_be_found(
    colour, screen, key, says, compose, here, capsys, no_model, tmp_path_factory
):
    path = tmp_path_factory.mktemp("bad") / "element.mp4"
    write_video(path, on_screen(colour, screen), 8.0)
    assert says in refused(compose(foreground=str(path), key=key), capsys, here)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"trajectory": " "}, "trajectory"),
        ({"trajectory": "nan,20 30,40"}, "nan"),
        ({"trajectory": "10,20 30"}, "'30'"),
        ({"trajectory": "500,300 700,400"}, "96x64"),
        ({"trajectory": "nowhere.txt"}, "nowhere.txt"),
        ({"trajectory": "track:500,20"}, "500"),
        ({"scale": "nan"}, "--scale"),
        ({"scale": "-1"}, "scale"),
        ({"scale": "0"}, "scale"),
        ({"scale": "1,big"}, "big"),
        ({"scale": "1e9"}, "must be at most 1000000"),
        ({"scale": "0.001"}, "larger --scale"),
        ({"rotation": "inf"}, "--rotation"),
        ({"frames": "1000000"}, "latents need"),
        ({"frames": "0"}, "frames"),
        ({"frames": "9"}, "--frames"),  # six are there
        ({"fps": "0"}, "fps"),
        ({"fps": "nan"}, "fps"),
        ({"start": "-1"}, "start"),
        ({"start": "100"}, "start"),
        ({"end": "nan"}, "end"),
        ({"steps": "0"}, "steps"),
        ({"steps": "many"}, "--steps"),
        ({"seed": "-1"}, "seed"),
        ({"feather": "-1"}, "feather"),
        ({"feather": "nan"}, "feather"),
        ({"solver": "euler"}, "--solver"),
        ({"sigma": "0"}, "--sigma"),
        ({"sigma": "nan"}, "--sigma"),
        ({"tau": "1.5"}, "--tau"),
        ({"latent_mask": "all"}, "--latent-mask"),
        ({"tiles": "released"}, "no tiles"),
        ({"fast": "often"}, "fast: 'often'; pass drop-blank, cache:N"),
        ({"fast": "cache:4", "steps": "2"}, "2 steps has none to skip"),
        ({"weights": "int4"}, "--weights"),
        ({"anchor": "left"}, "--anchor"),
        ({"checkpoint": "nowhere"}, "nowhere"),
        ({"foreground": None}, "--foreground"),
        ({"trajectory": None}, "--trajectory"),
        ({"project": "scene.json"}, "--background"),
        ({"colour": "red"}, "--colour"),
        ({"out": "nowhere/out.mp4"}, "nowhere"),
        ({"out": "out.avi"}, ".mp4"),
    ],
    ids=lambda value: " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else None,
)
def test_bad_arguments(changes, says, compose, here, capsys, no_model):
    assert says in refused(compose(**changes), capsys, here)


def test_a_checkpoint_that_is_none(compose, here, capsys, no_model, tmp_path_factory, small_checkpoint):
    folder = tmp_path_factory.mktemp("bad") / "checkpoint"
    shutil.copytree(small_checkpoint, folder)
    facts = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(
        json.dumps(facts | {"arch": facts["arch"] | {"layout": None, "heads": 3}})
    )
    assert "arch: layout: null" in refused(compose(checkpoint=str(folder)), capsys, here)
    (folder / "model.json").unlink()
    assert "not a checkpoint" in refused(compose(checkpoint=str(folder)), capsys, here)


def test_a_checkpoint_of_another_architecture(compose, here, capsys, tmp_path_factory, small_checkpoint):
    """Its facts say one width, its arrays have another: refused with the list, nothing is sampled."""
    folder = tmp_path_factory.mktemp("bad") / "checkpoint"
    shutil.copytree(small_checkpoint, folder)
    facts = json.loads((folder / "model.json").read_text())
    for stack in ("backbone", "branch"):
        facts["arch"][stack]["num_heads"] = 2
    (folder / "model.json").write_text(json.dumps(facts))
    assert "do not fit" in refused(compose(checkpoint=str(folder)), capsys, here)
    (folder / "manifest.json").unlink()  # nothing to compare with but the architecture
    assert "do not fit" in refused(compose(checkpoint=str(folder)), capsys, here)


@pytest.mark.parametrize("name", ["out.mp4", "out.png", "out.json", "out.scene.json"])
def test_existing_output_is_kept(name, compose, here, capsys, no_model):
    Path(name).write_text("mine")
    assert "--overwrite" in refused(compose(), capsys, here)
    assert Path(name).read_text() == "mine"


def test_no_room_on_the_disk(compose, here, capsys, no_model, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 0))
    assert "disk" in refused(compose(), capsys, here)


def test_bad_project_files(here, capsys, no_model, compose):
    assert main(compose("preview", out="good.mp4")) == 0
    good = json.loads(Path("good.scene.json").read_text())
    capsys.readouterr()
    cases = [
        (good | {"sead": 3}, "sead"),
        (good | {"version": 99}, "version"),
        (good | {"layers": []}, "layers"),
        (good | {"background": {"path": "nowhere.mp4"}}, "nowhere.mp4"),
    ]
    for value, says in cases:
        Path("bad.json").write_text(json.dumps(value))
        assert says in refused(["compose", "--project=bad.json", "--out=x.mp4"], capsys, here)


# What looks bad and is not.


@pytest.mark.parametrize("trajectory", ["96,30 20,30", "0,0 96,64", "-10,30 106,30"])
def test_points_at_and_beyond_the_border_are_fine(trajectory, compose, here, no_model):
    assert main(compose("preview", trajectory=trajectory)) == 0


def test_more_points_than_frames_are_fine(compose, here, no_model):
    points = np.linspace([10, 20], [80, 40], 150)
    Path("points.txt").write_text("".join(f"{x:.2f},{y:.2f}\n" for x, y in points))
    assert main(compose("preview", trajectory="points.txt")) == 0
    path = json.loads(Path("out.scene.json").read_text())["layers"][0]["trajectory"]["keyframes"]
    assert len(path) == 150


def test_odd_sizes_are_fine(compose, here, media, no_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd") / "images"
    write_image_folder(folder, background_frames(height=63, width=95))
    assert main(compose("preview", background=str(folder), out="drawn")) == 0
    assert read_video("drawn").frames.shape == (5, 63, 95, 3)


@pytest.mark.parametrize(
    "words", [["batch", "--manifest", "j.jsonl", "--out", ""], ["serve", "--folder", ""]]
)
def test_an_empty_value_is_no_folder(words, capsys):
    """An unset variable of a shell: as a path it would be the current folder."""
    assert main(words) == 2
    assert f"{words[-2]}: is empty" in capsys.readouterr().err
