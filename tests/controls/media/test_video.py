"""Reading: every container returns the frames at the times asked for; what is no video is refused."""

import os
import struct
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from gencompositor_jax.controls.media import decoding, first_frames, inputs, video
from gencompositor_jax.controls.media.video import probe, read_video
from gencompositor_jax.errors import InputError

LOSSLESS: dict[str, Any] = {"codec": "ffv1", "pixels": "bgr0"}
OPAQUE: dict[str, dict[str, Any]] = {
    "h264.mp4": {"gop": 8},
    "h264.ts": {"gop": 8},
    "h264_b_frames.avi": {"gop": 8},
    "raw.h264": {"gop": 8},
    "hevc.mkv": {"codec": "libx265", "options": {"x265-params": "log-level=none"}},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"b": "2M"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "vp8.webm": {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "12", "b": "1M"}},
    "prores.mov": {"codec": "prores_ks", "pixels": "yuv422p10le"},
    "wmv2.wmv": {"codec": "wmv2", "options": {"b": "1M"}},
}
ALPHA: dict[str, dict[str, Any]] = {
    "prores4444.mov": {"codec": "prores_ks", "pixels": "yuva444p10le", "options": {"profile": "4444"}},
    "qtrle.mov": {"codec": "qtrle", "pixels": "argb"},
    "ffv1.mkv": {"codec": "ffv1", "pixels": "bgra"},
    "png.mov": {"codec": "png", "pixels": "rgba"},
    "vp9.webm": {"codec": "libvpx-vp9", "pixels": "yuva420p", "options": {"deadline": "realtime"}},
}


def has_encoder(name: str) -> bool:
    try:
        av.Codec(name, "w")
    except ValueError:
        return False
    return True


def refusal(path: object, **how: object) -> str:
    """The message that reading a path raises: one line that begins with the name."""
    with pytest.raises(InputError) as error:
        read_video(path, **how)  # type: ignore[arg-type]
    message = str(error.value)
    assert "\n" not in message and str(path) in message
    return message


# ---- What is read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPAQUE)
def test_every_container_gives_all_its_frames_in_order(make_clip, name, numbers_of):
    if not has_encoder(str(OPAQUE[name].get("codec", "libx264"))):
        pytest.skip("this FFmpeg has no such encoder")
    path = make_clip(name, **OPAQUE[name])
    info, video = probe(path), read_video(path, alpha=True)
    assert (info.width, info.height, info.frames) == (64, 48, 24)
    assert not info.has_alpha and not info.has_audio
    assert video.frames.shape == (24, 48, 64, 3) and video.frames.dtype == np.uint8
    assert numbers_of(video.frames) == list(range(24))
    if name != "raw.h264":  # a bare stream has no rate
        assert info.fps == video.fps == pytest.approx(24, abs=0.01)


def test_a_lossless_clip_is_read_to_the_bit(make_clip, numbered_frames):
    assert np.array_equal(read_video(make_clip("a.mkv", **LOSSLESS)).frames, numbered_frames(24))


@pytest.mark.parametrize("name", ALPHA)
def test_alpha_survives(make_clip, name, numbered_frames, numbers_of):
    if not has_encoder(str(ALPHA[name]["codec"])):
        pytest.skip("this FFmpeg has no such encoder")
    path = make_clip(name, count=6, alpha=True, **ALPHA[name])
    assert probe(path).has_alpha
    video = read_video(path, alpha=True)
    expected = numbered_frames(6, alpha=True)
    assert video.frames.shape == expected.shape
    assert np.abs(video.frames[..., 3].astype(int) - expected[..., 3]).mean() < 4
    assert numbers_of(video.frames) == list(range(6))
    assert read_video(path).frames.shape[-1] == 3


@pytest.mark.parametrize("size", [(47, 63), (1, 1), (2, 300)])
def test_odd_sizes(make_clip, size):
    assert read_video(make_clip("a.mkv", count=3, size=size, **LOSSLESS)).frames.shape == (3, *size, 3)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_a_trim_gives_the_frames_of_the_whole(make_clip, name):
    """From any keyframe, with B frames, and without presentation time stamps."""
    path = make_clip(name, count=30, gop=7, options={"bf": "2"})
    whole = read_video(path).frames
    for first in range(30):
        part = read_video(path, start=first / 24, frames=min(3, 30 - first)).frames
        assert np.array_equal(part, whole[first : first + 3])


def test_only_what_was_asked_for_is_decoded(make_clip, monkeypatch):
    path = make_clip("a.mp4", count=48, gop=8)
    decoded = []
    convert = decoding.pixels_of

    def counted(frame, *how):
        decoded.append(frame.pts)
        return convert(frame, *how)

    monkeypatch.setattr(decoding, "pixels_of", counted)
    read_video(path, start=1, frames=3)
    assert len(decoded) == 3


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fps=st.floats(1.5, 90),
    start=st.floats(0, 0.9),
    length=st.none() | st.floats(0.05, 2),
)
def test_resampling_takes_the_frame_nearest_in_time(
    tmp_path, fps, start, length, numbered_frames, numbers_of, write_clip
):
    path = tmp_path / "a.mkv"
    if not path.exists():
        write_clip(path, numbered_frames(12, 16, 24), fps=12, **LOSSLESS)
    end = None if length is None else start + length
    video = read_video(path, fps=fps, start=start, end=end)
    stop = min(1.0, end or 1.0)
    assert len(video.frames) == pytest.approx((stop - start) * fps, abs=1.01)
    if abs(fps - 12) > 0.01:
        assert video.fps == fps
        for i, number in enumerate(numbers_of(video.frames)):
            moment = start + i / fps
            assert abs(number / 12 - moment) <= min(abs(k / 12 - moment) for k in range(12)) + 0.004


def test_the_rate_is_kept_unless_another_is_asked_for(make_clip, numbers_of):
    path = make_clip("a.mp4", fps=Fraction(24000, 1001))
    assert read_video(path).fps == pytest.approx(24000 / 1001)
    assert numbers_of(read_video(path, fps=23.976).frames) == list(range(24))
    doubled = read_video(path, fps=2 * 24000 / 1001, frames=8)
    assert numbers_of(doubled.frames) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_varying_rate_is_read_by_its_times(tmp_path, numbered_frames, numbers_of):
    path = tmp_path / "vfr.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=1000)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        for stamp, frame in zip((0, 100, 200, 600, 1000), numbered_frames(5), strict=True):
            picture = av.VideoFrame.from_ndarray(frame, "rgb24")
            picture.pts, picture.time_base = stamp, Fraction(1, 1000)
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    assert len(read_video(path).frames) == 5
    assert 3 < probe(path).fps < 6
    assert numbers_of(read_video(path, fps=10, end=1).frames) == [0, 1, 2, 2, 2, 3, 3, 3, 3, 4]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_distant_frames_are_those_of_the_whole(make_clip, monkeypatch, name):
    path = make_clip(name, count=58, gop=10, options={"bf": "2"})
    whole = read_video(path).frames
    converted = []
    monkeypatch.setattr(decoding, "_FAR", 5)
    frames_of = decoding.frames_of

    def counted(*arguments):
        for frame in frames_of(*arguments):
            converted.append(frame.pts)
            yield frame

    monkeypatch.setattr(decoding, "frames_of", counted)
    for wanted in ([0, 27, 53], [12, 13, 34, 57], [3, 9, 21, 50, 51]):
        converted.clear()
        frames = decoding.decode(probe(path), np.array(wanted), alpha=False)
        assert np.array_equal(frames, whole[wanted])
        assert name == "a.avi" or len(converted) < 0.7 * wanted[-1]  # keyframes were jumped to


EXACT_IN_DECORD: dict[str, dict[str, Any]] = {
    "gbrp.mkv": {"codec": "libx264rgb", "pixels": "rgb24"},
    "bgr0.mkv": LOSSLESS,
    "rgb24.mov": {"codec": "png", "pixels": "rgb24"},
    "gray.mkv": {"codec": "ffv1", "pixels": "gray"},
    "yuv444p.mp4": {"pixels": "yuv444p"},
    "yuvj444p.mov": {"codec": "mjpeg", "pixels": "yuvj444p"},
}


@pytest.fixture
def decord_reads(monkeypatch):
    """With decord chosen, the paths that it opens."""
    decord = pytest.importorskip("decord")
    monkeypatch.setenv(decoding.DECODER, "decord")
    opened: list[str] = []
    reader = decord.VideoReader
    monkeypatch.setattr(decord, "VideoReader", lambda path, **how: opened.append(path) or reader(path, **how))
    return opened


@pytest.mark.parametrize("name", EXACT_IN_DECORD)
def test_decord_returns_the_bits_of_pyav_where_it_is_used(make_clip, monkeypatch, decord_reads, name):
    path = make_clip(name, count=58, gop=10, **EXACT_IN_DECORD[name])
    assert probe(path).pixel_format == Path(name).stem
    by_decord = read_video(path, fps=0.9).frames
    assert len(decord_reads) == 1
    monkeypatch.setenv(decoding.DECODER, "pyav")
    assert np.array_equal(read_video(path, fps=0.9).frames, by_decord)
    assert len(decord_reads) == 1


def test_decord_is_not_used_where_its_bits_differ(make_clip, decord_reads):
    assert {Path(name).stem for name in EXACT_IN_DECORD} == decoding._DECORD_FORMATS
    subsampled = make_clip("a.mp4", count=58, gop=10)
    read_video(subsampled, fps=0.9)
    read_video(make_clip("b.mkv", count=58, **LOSSLESS))  # all frames: nothing to jump over
    assert not decord_reads


def test_a_decoder_that_is_unknown_or_missing_is_named(make_clip, monkeypatch):
    path = make_clip("a.mkv", count=58, **LOSSLESS)
    monkeypatch.setenv(decoding.DECODER, "ffmpeg")
    with pytest.raises(InputError, match="GENCOMPOSITOR_DECODER=ffmpeg: unknown; set pyav or decord"):
        read_video(path)
    monkeypatch.setenv(decoding.DECODER, "decord")
    monkeypatch.setitem(sys.modules, "decord", None)
    with pytest.raises(InputError, match=r"pip install 'gencompositor-jax\[decord\]'"):
        read_video(path, fps=0.9)


@pytest.mark.parametrize("turns", range(4))
def test_rotation_in_the_header_is_respected(make_clip, turns):
    """Phones write portrait clips as landscape frames with a rotation matrix."""
    path = make_clip("a.mp4", count=2)
    upright = read_video(path).frames
    quarters = [(1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0)]  # counter-clockwise
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    a, b, c, d = (65536 * m for m in quarters[turns])
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    expected = np.rot90(upright, turns, axes=(1, 2))
    assert np.array_equal(read_video(path).frames, expected)
    assert (probe(path).height, probe(path).width) == expected.shape[1:3]


def test_a_name_that_looks_like_a_protocol_is_still_a_file(make_clip, monkeypatch):
    path = make_clip("a.mp4", count=2)
    monkeypatch.chdir(path.parent)
    path.rename("take:2.mp4")
    assert len(read_video("take:2.mp4").frames) == 2


# ---- Folders of images -------------------------------------------------------------------------------------


def write_images(folder: Path, frames: np.ndarray, name: str = "frame_{}.png") -> Path:
    folder.mkdir()
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / name.format(index))
    return folder


def test_images_are_frames_in_the_order_of_their_numbers(tmp_path, numbered_frames, numbers_of):
    folder = write_images(tmp_path / "shots", numbered_frames(12))
    (folder / "notes.txt").write_text("not a frame")
    (folder / ".hidden.png").write_bytes(b"nor this")
    video = read_video(folder)
    assert np.array_equal(video.frames, numbered_frames(12)) and video.fps == 24
    info = probe(folder)
    assert (info.width, info.height, info.frames, info.codec) == (64, 48, 12, "images")
    part = read_video(folder, fps=6, start=1, frames=4)
    assert numbers_of(part.frames) == [6, 7, 8, 9] and part.fps == 6


def test_images_keep_their_alpha(tmp_path, numbered_frames):
    frames = numbered_frames(3, alpha=True)
    folder = write_images(tmp_path / "shots", frames)
    assert probe(folder).has_alpha
    assert np.array_equal(read_video(folder, alpha=True).frames, frames)
    assert np.array_equal(read_video(folder).frames, frames[..., :3])


def test_images_of_every_mode(tmp_path):
    Image.fromarray(np.full((4, 6), 32768, np.uint16)).save(tmp_path / "0.png")
    Image.fromarray(np.full((4, 6), 128, np.uint8)).save(tmp_path / "1.png")
    Image.new("RGB", (6, 4), (128,) * 3).quantize(2).save(tmp_path / "2.png")
    turned = Image.new("RGB", (4, 6), (128,) * 3)
    exif = turned.getexif()
    exif[0x0112] = 6  # lies on its side
    turned.save(tmp_path / "3.jpg", exif=exif)
    frames = read_video(tmp_path).frames
    assert frames.shape == (4, 4, 6, 3)
    assert np.abs(frames.astype(int) - 128).max() <= 2


def test_one_image_is_a_clip_of_one_frame(tmp_path):
    Image.new("RGB", (6, 4), "red").save(tmp_path / "logo.png")
    assert read_video(tmp_path / "logo.png").frames.shape == (1, 4, 6, 3)


def test_what_is_probed_is_not_probed_again(make_clip, tmp_path, monkeypatch, numbered_frames):
    paths = make_clip("a.mp4", count=5), write_images(tmp_path / "shots", numbered_frames(5))
    expected = [read_video(path, start=0.1).frames for path in paths]
    probed = [probe(path) for path in paths]
    monkeypatch.setattr(video, "local_path", lambda path: pytest.fail(f"{path} is probed again"))
    for media, frames in zip(probed, expected, strict=True):
        assert probe(media) is media
        assert np.array_equal(read_video(media, start=0.1).frames, frames)


# ---- What is refused ---------------------------------------------------------------------------------------


def test_a_short_clip_is_refused_with_its_length_and_the_remedy(make_clip, tmp_path, numbered_frames):
    path = make_clip("a.mp4")
    assert "has 24 frames, 49 are needed: pass --frames 24" in refusal(path, frames=49)
    assert "has 12 frames from 0.5 s" in refusal(path, frames=13, start=0.5)
    assert "has 8 frames at 8 fps" in refusal(path, frames=9, fps=8)
    folder = write_images(tmp_path / "shots", numbered_frames(3))
    assert "has 3 frames" in refusal(folder, frames=4)


@pytest.mark.parametrize(
    "how",
    [
        {"fps": 0.0},
        {"fps": float("nan")},
        {"start": -1.0},
        {"start": float("nan")},
        {"start": 1.0, "end": 1.0},
        {"end": float("nan")},
        {"frames": 0},
        {"start": 5.0},
    ],
)
def test_arguments_out_of_range(make_clip, how):
    with pytest.raises(InputError, match="|".join(how)):
        read_video(make_clip("a.mp4"), **how)


@pytest.mark.parametrize(
    "name",
    [
        "http://example.com/a.mp4",
        "https://example.com/a.m3u8",
        "rtsp://camera/1",
        "data:video/mp4;base64,AAAA",
        "concat:a.mp4|b.mp4",
        "file:a.mp4",
        "pipe:0",
    ],
)
def test_addresses_are_refused(name):
    assert "only local files" in refusal(name)


def test_missing_empty_and_strange_files(tmp_path):
    assert f"no such file or folder in {tmp_path}" in refusal(tmp_path / "missing" / "a.mp4")
    (tmp_path / "empty.mp4").touch()
    assert "0 bytes" in refusal(tmp_path / "empty.mp4")
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(50_000))
    assert "not a video" in refusal(tmp_path / "noise.mp4")
    (tmp_path / "notes.txt").write_text("frame by frame\n" * 100)
    assert "not a video" in refusal(tmp_path / "notes.txt")
    assert "device" in refusal("/dev/zero")
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "pipe" in refusal(tmp_path / "pipe.mp4")
    with pytest.raises(InputError):
        read_video("")


@pytest.mark.parametrize(
    "content",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile a.ts\n",
        "\ufeff  ffconcat version 1.0\nfile a.ts\n",
        '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
        "[playlist]\nFile1=a.ts\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 5004 RTP/AVP 96\n",
    ],
)
def test_playlists_are_refused_under_any_name(make_clip, content):
    path = make_clip("a.ts").with_name("clip.mp4")
    path.write_text(content)
    assert "playlist" in refusal(path)


def test_playlist_demuxers_are_refused_even_unrecognised(make_clip, monkeypatch):
    """The second check: what FFmpeg detects as a playlist is refused even if the first check missed it."""
    path = make_clip("a.ts").with_name("clip.mp4")
    path.write_text("ffconcat version 1.0\nfile a.ts\n")
    monkeypatch.setattr(inputs, "_refuse_other_kinds", lambda path: None)
    assert "playlist" in refusal(path)


@pytest.mark.parametrize("cover", [False, True])
def test_sound_alone_is_refused(tmp_path, cover):
    """To FFmpeg a song's cover art is a video stream."""
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=48000, layout="mono")
        block = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", layout="mono")
        block.sample_rate = 48000
        packets = []
        if cover:
            picture = output.add_stream("png", rate=1)
            picture.width, picture.height, picture.pix_fmt = 32, 32, "rgb24"
            picture.disposition = Disposition.attached_pic.value  # type: ignore[assignment]  # PyAV 17 reads it so
            packets = picture.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24"))
        output.mux([*packets, *stream.encode(block), *stream.encode(None)])
    with av.open(str(path)) as container:
        assert len(container.streams.video) == cover
    assert "only sound" in refusal(path)


def test_a_cut_copy_is_refused(make_clip, write_clip):
    """The index is first in the file, so the header still announces every frame."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 48, 64, 3), np.uint8)
    for name, how in {
        "a.mp4": {"header_options": {"movflags": "faststart"}},
        "a.mkv": {},
        "a.avi": {},
    }.items():
        path = write_clip(make_clip(name).with_name(name), noise, gop=6, **how)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
        assert "in its header are there" in refusal(path)
    path = write_clip(path.with_name("late.mp4"), noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert "not a video that can be read" in refusal(path)


def test_damage_is_found_and_frames_before_it_can_be_read(tmp_path, write_clip):
    noise = np.random.default_rng(0).integers(0, 256, (24, 48, 64, 3), np.uint8)
    path = write_clip(tmp_path / "a.mp4", noise, options={"bf": "0"})
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][12]
        at, size = packet.pos or 0, packet.size
    data = bytearray(path.read_bytes())
    data[at + size // 3 : at + 2 * size // 3] = np.random.default_rng(1).bytes(size // 3)
    path.write_bytes(data)
    assert "damaged at frame 12 of 24" in refusal(path)
    assert "damaged at frame 12" in refusal(path, start=0.3)
    assert len(read_video(path, frames=12).frames) == 12


def test_absurd_sizes_are_refused_before_anything_is_allocated(make_clip, tmp_path, monkeypatch):
    wide = make_clip("wide.mkv", count=1, size=(2, 9000), **LOSSLESS)
    monkeypatch.setattr(first_frames, "frames_of", lambda *_: pytest.fail("decoded"))
    assert "9000x2" in refusal(wide) and "8192" in refusal(wide)
    monkeypatch.undo()
    path = make_clip("long.mp4")
    monkeypatch.setattr(inputs, "MAX_BYTES", 10 * 48 * 64 * 3)
    monkeypatch.setattr(decoding, "_by_pyav", lambda *_: pytest.fail("decoded"))
    assert "24 frames of 64x48 need" in refusal(path) and "--frames 10" in refusal(path)
    Image.new("1", (9000, 2)).save(tmp_path / "wide.png")
    assert "9000x2" in refusal(tmp_path / "wide.png")


def test_bad_folders(tmp_path, numbered_frames):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").touch()
    assert "no images in this folder (1 other entries)" in refusal(empty)
    mixed = write_images(tmp_path / "mixed", numbered_frames(2))
    Image.new("RGB", (10, 10)).save(mixed / "frame_10.png")
    with pytest.raises(InputError, match="frame_10.png: is 10x10, but frame_0.png is 64x48"):
        read_video(mixed)
    broken = write_images(tmp_path / "broken", numbered_frames(3))
    victim = broken / "frame_1.png"
    victim.write_bytes(victim.read_bytes()[:150])
    with pytest.raises(InputError, match="frame_1.png: is damaged"):
        read_video(broken)
    victim.write_text("no image at all")
    with pytest.raises(InputError, match="frame_1.png: is not an image"):
        read_video(broken)
