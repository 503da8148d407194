"""Footage as cameras, phones and editors write it: files in data/, and others of the same kinds made here."""

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from gencompositor_jax.controls.media.colour import Tags, colour_of
from gencompositor_jax.controls.media.display import square_size
from gencompositor_jax.controls.media.orientation import Orientation, orientation_of
from gencompositor_jax.controls.media.video import probe, read_video
from gencompositor_jax.controls.media.video_out import write_video

DATA = Path(__file__).parents[1] / "data"
# The patches of the colour cases.
RED, GREEN, BLUE = (200, 40, 40), (40, 180, 40), (40, 40, 200)


def remuxed(source: Path, target: Path, seconds: Fraction = Fraction(0)) -> Path:
    """A copy without re-encoding whose first `seconds` an edit list hides, as a cutter writes it."""
    with av.open(str(source)) as container, av.open(str(target), "w") as output:
        streams = {s.index: output.add_stream_from_template(s) for s in container.streams}
        for packet in container.demux():
            if packet.pts is None or packet.dts is None:
                continue
            shift = round(seconds / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream = streams[packet.stream_index]
            if packet.stream.type == "video" or packet.pts >= 0:
                output.mux(packet)
    return target


def patches(colours: list[tuple[float, ...]], width: int = 32, dtype: Any = np.uint8) -> np.ndarray:
    """One row of patches [32, n width, 3]."""
    return np.repeat(np.array(colours, dtype)[None], 32, 0).repeat(width, 1)


def centres(frame: np.ndarray, count: int) -> np.ndarray:
    """The colours in the middles of `count` patches side by side."""
    height, width = frame.shape[:2]
    return np.array([frame[height // 2, int((i + 0.5) * width / count)] for i in range(count)], int)


def encode(
    path: Path,
    frames: list[av.VideoFrame],
    codec: str,
    pixels: str,
    tags: dict[str, int] | None = None,
    **how: Any,
) -> Path:
    """Pictures of any format as a video; `tags`: attributes of the codec context."""
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream(codec, rate=24, options=how.get("options", {}))
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, pixels
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        for index, frame in enumerate(frames):
            frame.pts, frame.time_base = index, Fraction(1, 24)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


# ---- Edit lists --------------------------------------------------------------------------------------------


def bits(frame: np.ndarray) -> int:
    """The number of a frame in trimmed.mp4: bits of 24 columns at the top left."""
    return sum(1 << bit for bit in range(5) if frame[6, 28 + 24 * bit].mean() > 128)


def test_a_trimmed_clip_begins_with_its_first_visible_frame():
    video = read_video(DATA / "trimmed.mp4")
    assert [bits(frame) for frame in video.frames] == list(range(5, 24))
    for first in (0, 1, 6, 8, 15):
        assert bits(read_video(DATA / "trimmed.mp4", start=first / 24, frames=1).frames[0]) == 5 + first


def test_a_trimmed_clip_of_one_group_of_pictures_is_read_in_step_with_its_sound(
    make_clip, tmp_path, numbers_of
):
    whole = make_clip("whole.mp4", gop=100, sound="aac")
    path = remuxed(whole, tmp_path / "cut.mp4", Fraction(7, 24))
    assert numbers_of(read_video(path).frames) == list(range(7, 24))
    assert numbers_of(read_video(path, start=10 / 24).frames) == list(range(17, 24))
    out = tmp_path / "out.mp4"
    video = read_video(path)
    write_video(out, video.frames, video.fps, audio_from=path)

    def tone(file: Path) -> list[tuple[float, int]]:
        with av.open(str(file)) as container:
            packets = [p for p in container.demux(audio=0) if p.pts is not None and p.pts >= 0]
            return [(round(float(p.pts * p.time_base), 2), p.size) for p in packets]

    assert tone(out)[:10] == tone(path)[:10]


# ---- Alpha of WebM -----------------------------------------------------------------------------------------


def test_alpha_of_a_copied_webm_is_found_whatever_the_case_of_its_tag():
    media = probe(DATA / "alpha_vp9_copied.webm")
    assert media.has_alpha
    alpha = read_video(media, alpha=True).frames[..., 3]
    assert alpha.min() < 8 and alpha.max() > 247 and 0.1 < (alpha > 128).mean() < 0.6


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
@pytest.mark.parametrize("stated", [True, False])
def test_alpha_of_vp8_and_vp9_is_found_by_its_data(make_clip, codec, stated, numbered_frames):
    options = {"auto-alt-ref": "0", "deadline": "realtime"}
    path = make_clip("a.webm", count=4, alpha=True, codec=codec, pixels="yuva420p", options=options)
    if not stated:  # the element AlphaMode of the track, which some writers leave out
        data = path.read_bytes()
        assert data.count(b"\x53\xc0\x81\x01") == 1
        path.write_bytes(data.replace(b"\x53\xc0\x81\x01", b"\x53\xc0\x81\x00"))
    video = read_video(path, alpha=True)
    assert video.frames.shape[-1] == 4
    expected = numbered_frames(4, alpha=True)[..., 3].astype(int)
    assert np.abs(video.frames[..., 3] - expected).mean() < 6


def test_vp9_without_alpha_has_none(make_clip):
    assert not probe(make_clip("a.webm", count=2, codec="libvpx-vp9")).has_alpha


# ---- Colours -----------------------------------------------------------------------------------------------


def test_hlg_is_tone_mapped_to_the_colours_it_was_made_from():
    media = probe(DATA / "hlg_hevc10.mp4")
    found = np.array([read_video(media).frames[0][90, x] for x in range(20, 320, 54)], int)
    expected = [(16,) * 3, (128,) * 3, (255,) * 3, RED, GREEN, BLUE]
    assert np.abs(found - expected).max() <= 4
    assert media.notes == ("is HDR (HLG) and is read tone-mapped to SDR",)


def written(path: Path, rgb16: np.ndarray, transfer: int, primaries: int) -> Path:
    """A still in lossless RGB with tags; R'G'B' uint16 [H, W, 3]."""
    frame = av.VideoFrame.from_ndarray(rgb16, "rgb48le").reformat(format="gbrp16le")
    tags = {"color_trc": transfer, "color_primaries": primaries, "colorspace": 0}
    return encode(path, [frame], "ffv1", "gbrp16le", tags)


def test_pq_is_tone_mapped_by_its_own_peak(tmp_path):
    """Values computed here: SDR white is 203 cd/m2, values below the knee come back, lights stay apart."""

    def pq(light: float) -> float:
        power = (light / 10000) ** 0.1593017578125
        return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375

    def still(name: str, greys: list[float]) -> np.ndarray:
        values = patches([(round(65535 * pq(light)),) * 3 for light in greys], dtype=np.uint16)
        path = written(tmp_path / name, values, 16, 9)
        return centres(read_video(path).frames[0], len(greys))[:, 0]

    dark = 203 * (64 / 255) ** 2.4
    grey = 203 * (128 / 255) ** 2.4
    assert np.abs(still("sdr.mkv", [0, dark, grey, 203]) - [0, 64, 128, 255]).max() <= 2
    found = still("hdr.mkv", [0, dark, grey, 203, 1000, 4000])
    assert np.abs(found[:3] - [0, 64, 128]).max() <= 3
    assert 200 < found[3] < found[4] - 30 < found[5] - 33 and found[5] >= 254


def test_sdr_of_bt2020_has_its_colours_converted(tmp_path):
    """The same light in BT.2020's primaries, by the matrix of ITU-R BT.2087."""
    to_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    colours = np.array([RED, GREEN, BLUE, (128, 128, 128)])
    wide = (to_2020 @ ((colours / 255) ** 2.4).T).T ** (1 / 2.4)
    values = patches([tuple(c) for c in np.rint(wide * 65535)], dtype=np.uint16)
    path = written(tmp_path / "wide.mkv", values, 14, 9)
    assert np.abs(centres(read_video(path).frames[0], 4) - colours).max() <= 3
    assert "BT2020" in probe(path).notes[0]


def test_untagged_hd_is_bt709():
    frame = read_video(DATA / "untagged_hd.mp4").frames[0]
    rows = frame.reshape(-1, 3)
    for colour in (RED, GREEN, BLUE):
        assert (np.abs(rows.astype(int) - colour).max(axis=1) <= 3).mean() > 0.01


@pytest.mark.parametrize(
    ("size", "own", "tags"),
    [
        ((1280, 64), 1, {}),
        ((704, 576), 6, {}),
        ((720, 578), 1, {}),
        ((704, 64), 1, {"colorspace": 1}),  # a tag is stronger than the size
        ((1280, 64), 6, {"colorspace": 6}),
        ((704, 64), 1, {"color_primaries": 1, "color_trc": 1}),  # the matrix that belongs to the primaries
    ],
)
def test_the_matrix_is_the_tags_or_follows_from_the_size(tmp_path, size, own, tags):
    picture = np.resize(patches([RED, GREEN, BLUE], size[0] // 3 + 1)[:1, : size[0]], (size[1], size[0], 3))
    yuv = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24").reformat(
        format="yuv444p", dst_colorspace=own
    )
    yuv.colorspace = 2
    path = encode(tmp_path / "a.mkv", [yuv], "ffv1", "yuv444p", tags)
    assert np.abs(read_video(path).frames[0].astype(int) - picture).max() <= 2


def test_tags_of_the_container_fill_those_that_the_frame_leaves_open():
    untagged = Tags(2, 2, 2)
    found = colour_of(untagged, Tags(1, 1, 1), 64, 48)
    assert found is not None and found.matrix == 1
    found = colour_of(Tags(6, 2, 2), Tags(1, 1, 1), 64, 48)
    assert found is not None and found.matrix == 6
    found = colour_of(Tags(2, 18, 2), untagged, 64, 48)
    assert found == (9, "hlg", "bt2020")
    assert colour_of(Tags(14, 16, 9), untagged, 64, 48) is None  # ICtCp


# ---- Shape and orientation ---------------------------------------------------------------------------------


def extent(frame: np.ndarray) -> tuple[int, int]:
    """(width, height) of what differs from the corner's colour."""
    inside = np.abs(frame.astype(int) - frame[0, 0]).max(axis=-1) > 60
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


def test_pixels_that_are_not_square_are_squared():
    media = probe(DATA / "anamorphic.mp4")
    assert (media.width, media.height) == (284, 160)
    width, height = extent(read_video(media).frames[0])
    assert abs(width - height) <= 2
    assert media.notes == ("its pixels aren't square: 240x160 is read as 284x160",)


def test_a_disc_with_alpha_in_narrow_pixels_is_round_and_has_no_fringe(tmp_path):
    y, x = np.mgrid[:90, :120]
    inside = ((x - 60) / 40) ** 2 + ((y - 45) / 30) ** 2 < 1  # round with pixels of 3:4
    rgba = np.where(inside[..., None], (250, 120, 90, 255), (20, 250, 20, 0)).astype(np.uint8)
    path = encode(tmp_path / "a.mkv", [av.VideoFrame.from_ndarray(rgba, "rgba")], "ffv1", "bgra")
    # Matroska's elements DisplayUnit and MaxBlockAdditionID become DisplayWidth and DisplayHeight, 90 each.
    unused, shown = b"\x54\xb2\x81\x04\x55\xee\x81\x00", b"\x54\xb0\x81\x5a\x54\xba\x81\x5a"
    data = path.read_bytes()
    assert data.count(unused) == 1
    path.write_bytes(data.replace(unused, shown))
    frame = read_video(path, alpha=True).frames[0]
    assert frame.shape == (90, 90, 4)
    width, height = extent(frame[..., 3:])
    assert abs(width - height) <= 2
    assert np.abs(frame[frame[..., 3] > 0][:, :3].astype(int) - (250, 120, 90)).max() <= 3


@pytest.mark.parametrize("aspect", [None, Fraction(0), Fraction(1000), Fraction(1, 900), Fraction(199, 200)])
def test_absurd_and_nearly_square_aspect_ratios_are_square(aspect):
    assert square_size(640, 480, aspect) == (640, 480)


def test_a_mirrored_clip_is_mirrored():
    frame = read_video(DATA / "mirrored.mp4").frames[0]
    corners = [frame[y, x] for y, x in ((45, 80), (45, 240), (135, 80), (135, 240))]
    assert [tuple((c > 128).tolist()) for c in corners] == [
        (False, True, False),  # green, red
        (True, False, False),
        (True, True, False),  # over yellow, blue
        (False, False, True),
    ]


MATRICES = {
    (1, 0, 0, 1): lambda p: p,
    (0, -1, 1, 0): lambda p: np.rot90(p),
    (-1, 0, 0, -1): lambda p: np.rot90(p, 2),
    (0, 1, -1, 0): lambda p: np.rot90(p, 3),
    (-1, 0, 0, 1): lambda p: p[:, ::-1],
    (1, 0, 0, -1): lambda p: p[::-1],
    (0, 1, 1, 0): lambda p: p.swapaxes(0, 1),
    (0, -1, -1, 0): lambda p: np.rot90(p, 2).swapaxes(0, 1),
}


@pytest.mark.parametrize("matrix", MATRICES)
def test_every_display_matrix_of_right_angles(make_clip, matrix):
    path = make_clip("a.mp4", count=2)
    upright = read_video(path).frames
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    a, b, c, d = (65536 * m for m in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    expected = np.stack([MATRICES[matrix](frame) for frame in upright])
    assert np.array_equal(read_video(path).frames, expected)
    assert (probe(path).height, probe(path).width) == expected.shape[1:3]


def test_an_oblique_display_matrix_is_the_nearest_right_angle():
    turn = np.deg2rad(80)
    a, b, c, d = (int(65536 * m) for m in (np.cos(turn), np.sin(turn), -np.sin(turn), np.cos(turn)))
    assert orientation_of(np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], np.int32).tobytes()) == Orientation(
        True, True, False
    )
    assert orientation_of(None) == orientation_of(b"short") == Orientation()


# ---- Fields and slots --------------------------------------------------------------------------------------


def combs(frames: np.ndarray) -> float:
    """How much neighbouring rows differ from the mean of those around them."""
    rows = frames.astype(int).mean(axis=-1)
    return float(np.abs(2 * rows[:, 1:-1] - rows[:, :-2] - rows[:, 2:]).mean())


def test_interlaced_footage_is_deinterlaced(make_clip):
    media = probe(DATA / "interlaced.mp4")
    assert media.notes == ("is interlaced and is read deinterlaced (bwdif)",)
    whole = read_video(media).frames
    assert len(whole) == 20 and combs(whole) < 1  # 6.3 with combs
    for first in (0, 3, 17):
        assert np.array_equal(read_video(media, start=first / 25, frames=2).frames, whole[first : first + 2])


def test_bottom_field_first_is_deinterlaced_from_any_keyframe(tmp_path):
    frames = np.full((40, 64, 96, 3), 30, np.uint8)
    for t, frame in enumerate(frames):
        for field, late in ((1, 0), (0, 1)):  # the bottom field is earlier
            left = 4 + 2 * t + late
            frame[field::2, left : left + 12] = 220
    interlaced = [av.VideoFrame.from_ndarray(frame, "rgb24").reformat(format="yuv420p") for frame in frames]
    options = {"x264-params": "bff=1:keyint=8:bframes=0", "crf": "4"}
    path = encode(tmp_path / "a.mkv", interlaced, "libx264", "yuv420p", options=options)
    media = probe(path)
    assert media.notes and combs(frames) > 3 * combs(read_video(media).frames)
    whole = read_video(media).frames
    for first in (7, 8, 9, 31, 38):
        part = read_video(media, start=first / 24, frames=2).frames
        assert np.array_equal(part, whole[first : first + 2])


def test_empty_slots_of_an_avi_repeat_the_frame_before():
    media = probe(DATA / "null_frames.avi")
    frames = read_video(media).frames
    assert media.frames == len(frames) == 24
    repeated = [i for i in range(1, 24) if np.array_equal(frames[i], frames[i - 1])]
    assert repeated == [1, 5, 10, 15, 20]
    assert np.array_equal(read_video(media, start=5 / 24, frames=2).frames, frames[5:7])


def test_dropped_frames_of_a_capture_keep_the_later_ones_in_their_places(
    tmp_path, numbered_frames, numbers_of
):
    """A camera that falls behind leaves slots empty, several in a row."""
    dropped = (3, 4, 5, 11)
    with av.open(str(tmp_path / "a.avi"), "w") as output:
        stream: Any = output.add_stream("mpeg4", rate=24, options={"b": "4M"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index, frame in enumerate(numbered_frames(16)):
            if index not in dropped:
                picture = av.VideoFrame.from_ndarray(frame, "rgb24")
                picture.pts, picture.time_base = index, Fraction(1, 24)
                output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    expected = [0, 1, 2, 2, 2, 2, 6, 7, 8, 9, 10, 10, 12, 13, 14, 15]
    assert numbers_of(read_video(tmp_path / "a.avi").frames) == expected
    assert numbers_of(read_video(tmp_path / "a.avi", fps=12).frames) == expected[::2]


@pytest.mark.parametrize("sound", [True, False])
def test_a_varying_rate_with_sound_is_read_in_step(tmp_path, numbered_frames, numbers_of, caplog, sound):
    """A phone in the dark: 30 frames per second, then 10. Without sound the frames are kept."""
    stamps = [*range(0, 400, 33), *range(400, 1600, 100)]
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("ffv1", rate=1000)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        if sound:
            tone: Any = output.add_stream("pcm_s16le", rate=8000, layout="mono")
        for stamp, frame in zip(stamps, numbered_frames(len(stamps)), strict=True):
            picture = av.VideoFrame.from_ndarray(frame, "rgb24")
            picture.pts, picture.time_base = stamp, Fraction(1, 1000)
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
        if sound:
            block = av.AudioFrame.from_ndarray(np.zeros((1, 12800), np.int16), "s16", layout="mono")
            block.sample_rate, block.pts = 8000, 0
            output.mux([*tone.encode(block), *tone.encode(None)])
    video = read_video(path)
    assert ("in step with its sound" in caplog.text) == sound
    found = numbers_of(video.frames)
    if not sound:
        assert found == list(range(len(stamps)))
        return
    for i, number in enumerate(found):
        instant = 1000 * i / video.fps
        assert abs(stamps[number] - instant) <= min(abs(s - instant) for s in stamps) + 2
    assert abs(len(found) / video.fps - 1.6) < 0.1


def test_joined_transport_streams_are_read_one_after_the_other(make_clip, tmp_path, numbers_of):
    parts = [make_clip(f"{i}.ts", count=12 + i, gop=6, sound="mp2").read_bytes() for i in range(2)]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(parts))
    video = read_video(path)
    assert numbers_of(video.frames) == [*range(12), *range(13)] and video.fps == pytest.approx(24)
    assert numbers_of(read_video(path, start=14 / 24, frames=3).frames) == [2, 3, 4]
    write_video(tmp_path / "out.mp4", video.frames, video.fps, audio_from=path)
    assert read_video(tmp_path / "out.mp4").frames.shape == video.frames.shape
