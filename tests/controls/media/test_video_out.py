"""Writing: files read back the same, are written atomically, and replace others only with `overwrite`."""

import errno
import logging
import os
from collections import namedtuple
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from gencompositor_jax import files
from gencompositor_jax.controls.media import video_out
from gencompositor_jax.controls.media.video import probe, read_video
from gencompositor_jax.controls.media.video_out import check_video_output, write_image_folder, write_video
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import check_output


def sound_of(path: Path) -> tuple[list[bytes], float, float]:
    """The packets of the sound, and when it begins and ends in seconds after the first picture."""
    with av.open(str(path)) as container:
        picture = container.streams.video[0]
        origin = float((picture.start_time or 0) * (picture.time_base or 0))
        sound = container.streams.audio[0]
        times, packets = [], []
        for packet in container.demux(sound):
            if packet.pts is not None:
                times.append((float(packet.pts), float(packet.duration or 0)))
                packets.append(bytes(packet))
    base = float(sound.time_base or 0)
    return packets, times[0][0] * base - origin, sum(times[-1]) * base - origin


# ---- The picture -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "A.MP4"])
def test_what_is_written_reads_back_nearly_the_same(tmp_path, name, numbered_frames, numbers_of):
    frames = numbered_frames(24)
    write_video(tmp_path / name, frames, 24)
    video = read_video(tmp_path / name)
    assert numbers_of(video.frames) == list(range(24)) and video.fps == pytest.approx(24)
    # 4:2:0 blurs the seam between the halves, nothing else.
    away = np.abs(np.arange(64) - 32) > 3
    assert np.abs(video.frames.astype(int) - frames)[:, :, away].max() <= 8
    info = probe(tmp_path / name)
    assert (info.codec, info.frames, info.has_audio) == ("h264", 24, False)


def test_the_same_frames_are_the_same_bytes(tmp_path):
    """x264 looks 30 frames ahead: shorter clips don't tell."""
    noise = np.random.default_rng(0).integers(0, 256, (160, 240, 3), np.uint8)
    wide = cv2.GaussianBlur(noise, (0, 0), 3)
    frames = np.stack([wide[i % 30 :, 2 * i % 40 :][:128, :192] for i in range(60)])
    written = [tmp_path / f"{number}.mp4" for number in range(3)]
    for path in written:
        write_video(path, frames, 24)
    assert len({path.read_bytes() for path in written}) == 1


def test_colours_and_their_positions_do_not_drift_over_generations(tmp_path):
    """FFmpeg's defaults darken each generation by one level and shift its colours by half a pixel."""
    y, x = np.mgrid[:48, :64]
    first = np.stack([40 + 2.5 * x, 60 + 2.5 * y, 200 - 2.5 * x], -1).astype(np.uint8)[None].repeat(2, 0)
    frames = first
    for generation in range(4):
        write_video(tmp_path / f"{generation}.mp4", frames, 24, crf=1)
        frames = read_video(tmp_path / f"{generation}.mp4").frames
    assert np.abs((frames.astype(float) - first).mean((0, 1, 2))).max() < 0.25
    away = np.s_[:, 4:-4, 4:-4]
    assert np.abs(frames.astype(int) - first)[away].mean() < 1


def test_a_player_that_reads_the_tags_shows_the_colours(tmp_path):
    red = np.broadcast_to(np.array([220, 60, 30], np.uint8), (2, 32, 32, 3))
    write_video(tmp_path / "a.mp4", red, 24)
    with av.open(str(tmp_path / "a.mp4")) as container:
        frame = next(container.decode(video=0))
    y, u, v = (memoryview(plane)[0] for plane in frame.planes)
    assert frame.colorspace == frame.color_range == 1  # BT.709, limited range
    matrix = np.array([[0.2126, 0.7152, 0.0722], [-0.1146, -0.3854, 0.5], [0.5, -0.4542, -0.0458]])
    expected = matrix @ red[0, 0, 0] * np.array([219, 224, 224]) / 255 + np.array([16, 128, 128])
    assert np.abs(np.array([y, u, v]) - expected).max() < 1.5


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(height=st.integers(1, 40), width=st.integers(1, 40))
def test_odd_sizes_keep_every_pixel(tmp_path, height, width):
    y, x = np.mgrid[:height, :width]
    frame = np.stack([4 * x, 4 * y, 128 + 0 * x], -1).astype(np.uint8)
    write_video(tmp_path / "a.mp4", frame[None], 24, overwrite=True)
    back = read_video(tmp_path / "a.mp4").frames[0].astype(int)
    assert back.shape == (height + height % 2, width + width % 2, 3)
    assert np.abs(back[:height, :width] - frame).max() <= 12
    assert np.abs(back[-1] - back[height - 1]).max() <= 6
    assert np.abs(back[:, -1] - back[:, width - 1]).max() <= 6


@pytest.mark.parametrize(
    "rate", [Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(15, 2)]
)
def test_rates_are_exact(tmp_path, rate, numbered_frames):
    write_video(tmp_path / "a.mp4", numbered_frames(10), float(rate))
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].average_rate == rate


@pytest.mark.parametrize("alpha", [False, True])
def test_image_folders_are_exact(tmp_path, alpha, numbered_frames):
    frames = numbered_frames(12, alpha=alpha)
    write_image_folder(tmp_path / "shots", frames)
    assert sorted(os.listdir(tmp_path / "shots"))[::11] == ["00000.png", "00011.png"]
    assert np.array_equal(read_video(tmp_path / "shots", alpha=True).frames, frames)


def test_frames_of_another_type_raise_value_error(tmp_path):
    for frames in (np.zeros((2, 4, 4), np.uint8), np.zeros((2, 4, 4, 3)), np.zeros((0, 4, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match="frames must be uint8"):
            write_video(tmp_path / "a.mp4", frames, 24)


# ---- The sound ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target"), [("s.mp4", "o.mp4"), ("s.mp4", "o.mkv"), ("s.ts", "o.mov"), ("s.mkv", "o.mp4")]
)
def test_sound_is_copied_and_ends_with_the_picture(
    make_clip, tmp_path, source, target, numbered_frames, numbers_of
):
    path = make_clip(source, count=48, sound="aac")
    write_video(tmp_path / target, numbered_frames(24), 24, audio_from=path)
    packets, begin, end = sound_of(tmp_path / target)
    kept, *_ = sound_of(path)
    assert probe(tmp_path / target).has_audio
    assert numbers_of(read_video(tmp_path / target).frames) == list(range(24))
    assert abs(begin) < 0.03 and abs(end - 1) < 0.03
    if not source.endswith("ts"):  # a transport stream repeats its header in each packet
        assert packets == kept[: len(packets)] and len(packets) < len(kept)


def test_sound_of_a_trimmed_background_starts_at_the_trim(make_clip, tmp_path, numbered_frames):
    path = make_clip("s.mp4", count=48, sound="aac")
    write_video(tmp_path / "o.mp4", numbered_frames(12), 24, audio_from=path, audio_start=1.0)
    packets, begin, end = sound_of(tmp_path / "o.mp4")
    kept, *_ = sound_of(path)
    first = kept.index(packets[0])
    assert packets == kept[first : first + len(packets)]
    assert (first * 1024 - 1024) / 48000 == pytest.approx(1.0, abs=0.03)
    assert abs(begin) < 0.03 and abs(end - 0.5) < 0.03


def test_sound_that_does_not_fit_is_left_out_with_a_warning(make_clip, tmp_path, caplog, numbered_frames):
    path = make_clip("s.mkv", sound="libopus")
    with caplog.at_level(logging.WARNING):
        write_video(tmp_path / "o.mov", numbered_frames(24), 24, audio_from=path)
    assert "s.mkv: its sound (opus) is not supported" in caplog.text
    info = probe(tmp_path / "o.mov")
    assert (info.frames, info.has_audio) == (24, False)


def test_a_background_without_sound(make_clip, tmp_path, numbered_frames):
    write_image_folder(tmp_path / "shots", numbered_frames(3))
    for source in (make_clip("s.mp4"), tmp_path / "shots", tmp_path / "shots" / "00000.png"):
        write_video(tmp_path / "o.mp4", numbered_frames(3), 24, audio_from=source, overwrite=True)
        assert not probe(tmp_path / "o.mp4").has_audio


# ---- What is refused, and what stays -----------------------------------------------------------------------


def test_existing_files_are_kept_without_overwrite(tmp_path, numbered_frames):
    path, folder = tmp_path / "a.mp4", tmp_path / "shots"
    path.write_text("precious")
    write_image_folder(folder, numbered_frames(5))
    with pytest.raises(InputError, match="a.mp4: exists: pass --overwrite"):
        write_video(path, numbered_frames(2), 24)
    with pytest.raises(InputError, match="shots: exists: pass --overwrite"):
        write_image_folder(folder, numbered_frames(2))
    assert path.read_text() == "precious" and len(list(folder.iterdir())) == 5
    write_video(path, numbered_frames(2), 24, overwrite=True)
    write_image_folder(folder, numbered_frames(2), overwrite=True)
    assert probe(path).frames == probe(folder).frames == 2
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "shots"]


def test_a_folder_with_anything_else_in_it_is_never_replaced(tmp_path, numbered_frames):
    write_image_folder(tmp_path / "shots", numbered_frames(2))
    (tmp_path / "shots" / "thesis.tex").touch()
    with pytest.raises(InputError, match="holds more than numbered PNG images"):
        write_image_folder(tmp_path / "shots", numbered_frames(2), overwrite=True)
    assert (tmp_path / "shots" / "thesis.tex").exists()


def test_invalid_outputs_are_refused(tmp_path):
    with pytest.raises(InputError, match="there is no folder .*missing"):
        check_output(tmp_path / "missing" / "a.mp4", overwrite=False)
    with pytest.raises(InputError, match="local files"):
        check_output("rtmp://example.com/live", overwrite=False)
    with pytest.raises(InputError, match="device"):
        check_output("/dev/null", overwrite=True)
    with pytest.raises(InputError, match=r"a.gif: not a video format .* use .mp4, .mov, .mkv"):
        check_video_output(tmp_path / "a.gif", overwrite=False)
    check_video_output(tmp_path / "a.mp4", overwrite=False)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_protected_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="may not be written to"):
        check_output(tmp_path / "a.mp4", overwrite=False)


def test_a_nearly_full_disk_is_refused_before_the_work(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage(10**12, 10**12, 10**6))
    with pytest.raises(InputError, match="a.mp4: the disk is full: free 64 MiB"):
        check_output(tmp_path / "a.mp4", overwrite=False)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fills_up_leaves_what_was_there_and_nothing_else(
    tmp_path, monkeypatch, code, numbered_frames
):
    path = tmp_path / "a.mp4"
    path.write_text("precious")
    picture_of = video_out._picture

    def run_out(frame, index, rate):
        if index == 20:
            raise OSError(code, os.strerror(code))
        return picture_of(frame, index, rate)

    monkeypatch.setattr(video_out, "_picture", run_out)
    with pytest.raises(InputError, match="disk is full" if code == errno.ENOSPC else "can't be written"):
        write_video(path, numbered_frames(24), 24, overwrite=True)
    assert os.listdir(tmp_path) == ["a.mp4"] and path.read_text() == "precious"


def test_real_lack_of_space(tmp_path):
    """A limit on the size of files stands in for a full disk."""
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    noise = np.random.default_rng(0).integers(0, 256, (8, 96, 96, 3), np.uint8)
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        for write, name in ((write_video, "a.mp4"), (write_video, "a.mkv"), (write_image_folder, "shots")):
            arguments = (24,) if write is write_video else ()
            with pytest.raises(InputError, match=f"{name}: the disk is full"):
                write(tmp_path / name, noise, *arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not os.listdir(tmp_path)


def test_written_images_open_elsewhere(tmp_path, numbered_frames):
    write_image_folder(tmp_path / "shots", numbered_frames(1))
    with Image.open(tmp_path / "shots" / "00000.png") as image:
        assert (image.format, image.size, image.mode) == ("PNG", (64, 48), "RGB")
