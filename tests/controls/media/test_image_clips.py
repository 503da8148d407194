"""Image sequences and images with several frames: order, gaps, patterns, animations, formats."""

import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from gencompositor_jax.cli.outputs import Outputs
from gencompositor_jax.controls.media.numbering import in_order
from gencompositor_jax.controls.media.video import probe, read_video
from gencompositor_jax.errors import InputError

DATA = Path(__file__).parents[1] / "data"


def bar(rgba: np.ndarray) -> int:
    """The left edge of the bar in the animations."""
    return int(np.flatnonzero((rgba == (60, 0, 90, 255)).all(axis=-1).any(axis=0))[0])


def order(*names: str) -> list[str]:
    return [path.name for path in in_order([Path(name) for name in names]).files]


# ---- Numbers -----------------------------------------------------------------------------------------------


def test_a_gap_is_held_named_and_refused_on_request(caplog):
    media = probe(DATA / "gap")
    assert "the numbers 3 to 5 are missing" in caplog.text
    assert media.frames == 12
    frames = read_video(media, alpha=True).frames
    for held in (3, 4, 5):
        assert np.array_equal(frames[held], frames[2])
    sixth = read_video(DATA / "gap" / "f_0006.png", alpha=True).frames[0]
    assert np.array_equal(frames[6], sixth)
    with pytest.raises(InputError, match="the numbers 3 to 5 are missing: .*--gaps hold"):
        probe(DATA / "gap", gaps="error")


@pytest.mark.parametrize(
    ("names", "expected", "missing"),
    [
        (
            ["f_7", "f_-4", "f_-3", "f_-1", "f_-2"],
            ["f_-4", "f_-3", "f_-2", "f_-1", *["f_-1"] * 7, "f_7"],
            "0 to 6",
        ),
        (["-2", "-1", "0"], ["-2", "-1", "0"], ""),
        (["shot-2", "shot-10", "shot-4", "shot-6", "shot-8"], None, ""),  # a hyphen, and on twos
        (["a1_9", "a1_10", "a02_1", "a10_1"], ["a1_9", "a1_10", "a02_1", "a10_1"], ""),
        (["1001", "1045", "2290"], ["1001", "1045", "2290"], ""),  # no sequence: a selection
        (
            ["f_1", "f_2", "f_4", "f_5", "f_8"],
            ["f_1", "f_2", "f_2", "f_4", "f_5", "f_5", "f_5", "f_8"],
            "3, 6 to 7",
        ),
        (["title", "f_1", "f_3"], ["f_1", "f_3", "title"], ""),
    ],
)
def test_numbers(names, expected, missing):
    found = in_order([Path(f"{name}.png") for name in names])
    if expected is None:
        expected = sorted(names, key=lambda name: int(name.rpartition("-")[2]))
    assert [path.stem for path in found.files] == expected
    assert found.missing == missing


def test_a_gap_that_is_none_is_refused_at_once():
    with pytest.raises(InputError, match="f_2.png: the next number, 1000000002, is 1,000,000,000 later"):
        order("f_0.png", "f_1.png", "f_2.png", "f_1000000002.png")


def test_a_second_file_with_the_same_number_is_left_out(tmp_path, caplog):
    for number in range(5):
        Image.new("RGB", (6, 4), (number, 0, 0)).save(tmp_path / f"f_{number:04d}.png")
    Image.new("RGB", (6, 4), "white").save(tmp_path / "f_0003.jpg")
    media = probe(tmp_path)
    assert media.frames == 5 and "f_0003.jpg left out" in caplog.text
    assert read_video(media).frames[:, 0, 0, 0].tolist() == list(range(5))


@pytest.mark.parametrize("pattern", ["f_%04d.png", "f_####.png", "f_%d.png", "f_#.png"])
def test_a_pattern_names_the_files_of_one_sequence(tmp_path, pattern):
    for number in range(3):
        Image.new("L", (6, 4), 10 * number).save(tmp_path / f"f_{number:04d}.png")
        Image.new("L", (6, 4), 200).save(tmp_path / f"mask_{number:04d}.png")
    assert read_video(tmp_path / pattern).frames[:, 0, 0, 0].tolist() == [0, 10, 20]
    with pytest.raises(InputError, match="no file in .* has such a name"):
        probe(tmp_path / "g_####.png")
    with pytest.raises(InputError, match="no such file or folder"):
        probe(tmp_path / "missing" / pattern)


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path):
    Image.new("L", (6, 4), 77).save(tmp_path / "take#2.png")
    assert read_video(tmp_path / "take#2.png").frames[0, 0, 0, 0] == 77


# ---- Animations --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.webp", "a_apng.png"])
def test_an_animation_moves(name):
    media = probe(DATA / name)
    assert media.frames == 10 and media.has_alpha and media.fps == pytest.approx(1000 / 41)
    frames = read_video(media, alpha=True).frames
    lefts = [bar(frame) for frame in frames]
    assert np.diff(lefts).tolist() == [5] * 9
    assert [bar(frame) for frame in read_video(media, fps=24, alpha=True).frames] == lefts
    half = read_video(media, fps=1000 / 82, alpha=True).frames
    assert [bar(frame) for frame in half] == lefts[::2]


def stills(count: int = 4, size: tuple[int, int] = (8, 6)) -> list[Image.Image]:
    return [Image.new("RGBA", size, (10 + 40 * i, 20, 30, 255 if i % 2 else 128)) for i in range(count)]


def test_an_animation_keeps_its_rhythm(tmp_path):
    first, *others = stills()
    first.save(tmp_path / "a.png", save_all=True, append_images=others, duration=[40, 80, 40, 120])
    video = read_video(tmp_path / "a.png")
    assert video.fps == 25
    assert ((video.frames[:, 0, 0, 0] - 10) // 40).tolist() == [0, 1, 1, 2, 3, 3, 3]


def test_the_stand_in_of_an_apng_is_no_frame(tmp_path):
    first, *others = stills()
    first.save(tmp_path / "a.png", save_all=True, append_images=others, duration=50, default_image=True)
    assert ((read_video(tmp_path / "a.png").frames[:, 0, 0, 0] - 10) // 40).tolist() == [1, 2, 3]


def test_pages_of_a_tiff_are_frames_without_its_thumbnails(tmp_path):
    first, *others = stills()
    thumbnail = first.resize((2, 2))
    first.save(tmp_path / "a.tif", save_all=True, append_images=[thumbnail, *others])
    video = read_video(tmp_path / "a.tif", fps=10, alpha=True)
    assert video.fps == 10 and video.frames[:, 0, 0, 0].tolist() == [10, 50, 90, 130]
    assert read_video(tmp_path / "a.tif", fps=10, start=0.2).frames[:, 0, 0, 0].tolist() == [90, 130]


@pytest.mark.parametrize("suffix", [".avif", ".tga"])
def test_avif_and_targa_keep_their_alpha(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Image.new("RGBA", (8, 6), (200, 90, 60, 100)).save(path)
    assert probe(path).has_alpha
    pixel = read_video(path, alpha=True).frames[0, 3, 3].astype(int)
    assert np.abs(pixel - (200, 90, 60, 100)).max() <= 2


# ---- Float and linear --------------------------------------------------------------------------------------


def write_exr(path: Path, linear: np.ndarray, kind: str) -> None:
    """Float32 [H, W, 3] as an EXR of half or single floats."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(linear, np.float32), "gbrpf32le")
    with av.open(str(path), "w", format="image2", options={"update": "1"}) as output:
        stream = output.add_stream("exr", rate=24, options={"format": kind})
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "gbrpf32le"  # type: ignore[union-attr]
        output.mux(stream.encode(frame))  # type: ignore[union-attr]
        output.mux(stream.encode(None))  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["half", "float"])
def test_an_exr_is_linear_and_gets_the_curve_of_srgb(tmp_path, kind):
    for number in range(3):
        linear = np.zeros((4, 6, 3))
        linear[...] = (0.2158605, 1.0, 4.0)
        linear[:, 3:] = (0.0, 0.001, number / 2)
        write_exr(tmp_path / f"name_{1001 + number}.exr", linear, kind)
    frames = read_video(tmp_path / "name_####.exr").frames
    assert frames.shape == (3, 4, 6, 3)
    assert frames[:, 0, 0].tolist() == [[128, 255, 255]] * 3
    assert frames[:, 0, 5].tolist() == [[0, 3, 0], [0, 3, 188], [0, 3, 255]]


def test_a_damaged_exr_is_named(tmp_path):
    (tmp_path / "a.exr").write_bytes(b"\x76\x2f\x31\x01" + bytes(200))
    with pytest.raises(InputError, match="a.exr: .*export it again"):
        probe(tmp_path / "a.exr")


@pytest.mark.parametrize("head", [b"PK\x03\x04", b"\x1f\x8b\x08", b"Rar!\x1a\x07"])
def test_archives_are_named(tmp_path, head):
    (tmp_path / "clip.mov").write_bytes(head + bytes(4000))
    with pytest.raises(InputError, match="is an archive, not a video: unpack it"):
        probe(tmp_path / "clip.mov")


@pytest.mark.parametrize("suffix", [".png", ".avif"])
def test_hdr_images_are_tone_mapped(tmp_path, suffix):
    """PQ values of 203 cd/m2 and of the light of SDR's 128; PNG states them by cICP, AVIF by nclx."""
    path = tmp_path / f"a{suffix}"
    picture = np.full((16, 32, 3), 148, np.uint8)
    picture[:, 16:] = 105
    image = Image.fromarray(picture)
    if suffix == ".png":
        image.save(path)
        data = path.read_bytes()
        chunk = b"cICP" + bytes([9, 16, 0, 1])
        stated = (4).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4)
        path.write_bytes(data[:33] + stated + data[33:])
    else:
        image.save(path, quality=100, subsampling="4:4:4")
        data = bytearray(path.read_bytes())
        at = data.index(b"colrnclx")
        data[at + 8 : at + 12] = bytes([0, 9, 0, 16])
        path.write_bytes(data)
    media = probe(path)
    assert media.notes == ("is HDR (PQ) and is read tone-mapped to SDR",)
    frame = read_video(media).frames[0].astype(int)
    assert np.abs(frame[8, 24] - 128).max() <= 3  # below the knee
    assert 220 <= frame[8, 8].min() <= frame[8, 8].max() <= 238  # white, with room for 1000 cd/m2


@pytest.mark.parametrize("names", ["comp.%04d.png", "shot2_%03d.png", "%04d.png", "v1.2_%d_a.png"])
def test_a_contact_sheet_among_the_images_of_a_result_is_no_frame(tmp_path, names, caplog):
    """By the names that results have; an image of the same size without a number stays a frame."""
    for number in range(7, 10):
        Image.new("RGB", (8, 6), (number, 0, 0)).save(tmp_path / (names % number))
    sheet = Path(Outputs(str(tmp_path / names)).sheet)
    Image.new("RGB", (30, 20)).save(sheet)
    found = probe(tmp_path)
    assert found.frames == 3 and found.width == 8
    assert found.notes == (f"{sheet.name} left out: it is the contact sheet of these images",)
    Image.new("RGB", (8, 6)).save(sheet)
    assert probe(tmp_path).frames == 4 and not probe(tmp_path).notes
