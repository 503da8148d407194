"""Planes of video frames: samples come back bit for bit, and only what is inside a mask changes."""

import av
import numpy as np
import pytest

from gencompositor_jax.controls.media.codecs import CODINGS, check_codec
from gencompositor_jax.controls.media.colour import Tags
from gencompositor_jax.controls.media.encoding import encoder
from gencompositor_jax.controls.media.planes import (
    Planes,
    box_around,
    frame_of,
    layout_of,
    planes_of,
    to_rgb,
    with_rgb,
)
from gencompositor_jax.controls.media.timecode import later, timecode_of
from gencompositor_jax.errors import InputError

LAYOUTS = (
    "yuv420p",
    "yuvj420p",
    "yuv422p10le",
    "yuv420p10le",
    "yuv444p12le",
    "bgr0",
    "gbrp10le",
    "gbrp12le",
    "rgb48le",
    "yuva444p10le",
)
HLG = Tags(9, 18, 9)


def planes(name: str, width: int = 37, height: int = 29) -> Planes:
    """A frame of noise."""
    rng, frame = np.random.default_rng(0), av.VideoFrame(width, height, name)
    for plane in frame.planes:
        noise = rng.integers(0, 256, plane.buffer_size).astype(np.uint8)
        if (bits := frame.format.components[0].bits) > 8:
            noise = (noise.view("<u2") & ((1 << bits) - 1)).view(np.uint8)
        plane.update(noise.tobytes())
    layout = layout_of(frame, 9)
    assert layout is not None
    return planes_of(frame, layout)


@pytest.mark.parametrize("name", LAYOUTS)
def test_ffv1_keeps_every_sample_and_what_it_means(tmp_path, name):
    given = planes(name)
    full = given.layout.full
    size, path = (37, 29), tmp_path / "a.mkv"
    with encoder(path, CODINGS["ffv1"], size, 24000 / 1001, tags=HLG, full_range=full) as put:
        for _ in range(2):
            put(frame_of(given))
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        assert container.streams.video[0].average_rate == pytest.approx(24000 / 1001, abs=1e-9)
    layout = layout_of(frames[1], 9)
    assert layout is not None and layout.bits == given.layout.bits and layout.full == full
    found = planes_of(frames[1], layout)
    assert len(frames) == 2 and (int(frames[0].color_trc), int(frames[0].color_primaries)) == (18, 9)
    assert all(np.array_equal(a, b) for a, b in zip(given.samples, found.samples, strict=True))


@pytest.mark.parametrize("name", LAYOUTS)
def test_only_samples_whose_pixels_are_all_inside_change(name):
    given = planes(name)
    inside = np.zeros((29, 37), bool)
    inside[7:18, 9:30] = True
    box = box_around(inside)
    assert box is not None
    values, kept = to_rgb(given, box), np.ones(inside[box].shape, np.float32)
    same, clipped = with_rgb(given, box, values, inside[box], kept)
    assert not clipped.any()
    assert all(np.array_equal(a, b) for a, b in zip(given.samples, same.samples, strict=True))
    new, _ = with_rgb(given, box, 0.3 + 0.2 * values, inside[box], kept)
    for index, (old, made) in enumerate(zip(given.samples, new.samples, strict=True)):
        across, down = given.layout.steps if index in (1, 2) else (1, 1)
        changed = np.repeat(np.repeat(old != made, down, axis=0), across, axis=1)[:29, :37]
        assert not changed[~inside].any()
        assert changed.any() == (index < 3)


@pytest.mark.parametrize("name", ["yuv420p10le", "yuv422p10le", "yuv444p12le"])
def test_an_opaque_colour_replaces_the_chroma_too(name):
    given, colour = planes(name, 48, 32), np.array([0.8, 0.3, 0.1], np.float32)
    inside = np.zeros((32, 48), bool)
    inside[6:26, 8:40] = True
    box = box_around(inside)
    assert box is not None
    values = np.where(inside[box][..., None], colour, to_rgb(given, box))
    made, _ = with_rgb(given, box, values, inside[box], (~inside[box]).astype(np.float32))
    assert np.abs(to_rgb(made)[10:22, 12:36] - colour).max() < 3 / 1023


@pytest.mark.parametrize("codec", [name for name in CODINGS if name != "ffv1"])
def test_codecs_have_the_colours_the_rate_and_the_time_code(tmp_path, codec):
    y, x = np.mgrid[:130, :258]
    rgb = np.stack([x / 300, y / 150, 0.5 + 0 * x], axis=-1)
    frame = av.VideoFrame.from_ndarray((rgb * 65535).astype(np.uint16), "rgb48le")
    path = tmp_path / f"a{CODINGS[codec].containers[0]}"
    with encoder(path, CODINGS[codec], (258, 130), 30000 / 1001, tags=HLG, timecode="00:59:59;28") as put:
        for _ in range(2):
            put(frame)
    assert timecode_of(path, 4, 30000 / 1001) == "01:00:00;02"
    with av.open(str(path)) as container:
        found = list(container.decode(video=0))
    first = found[0]
    assert len(found) == 2 and (int(first.color_trc), int(first.color_primaries)) == (18, 9)
    layout = layout_of(first, int(first.colorspace))
    assert layout is not None and layout.bits >= (CODINGS[codec].bits or 0)
    assert np.abs(to_rgb(planes_of(first, layout))[:130, :258] - rgb).mean() < 0.004


def test_odd_sizes_are_padded_for_subsampled_chroma(tmp_path):
    frame = frame_of(planes("gbrp10le", 35, 21))
    with encoder(tmp_path / "a.mp4", CODINGS["h264-10"], (35, 21), 25.0) as put:
        put(frame)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert [(f.width, f.height) for f in container.decode(video=0)] == [(36, 22)]


def test_a_codec_needs_its_container():
    check_codec("ffv1", "a.MKV", (32, 32))
    with pytest.raises(InputError, match=r"a.mp4: --codec prores-4444 is written to .mov: name it so"):
        check_codec("prores-4444", "a.mp4", (32, 32))
    with pytest.raises(InputError, match="dnxhr-444: needs frames of 256x120 pixels or more"):
        check_codec("dnxhr-444", "a.mov", (320, 90))


@pytest.mark.parametrize(
    ("first", "frames", "fps", "expected"),
    [
        ("00:00:59;29", 1, 29.97, "00:01:00;02"),
        ("00:09:59;29", 1, 29.97, "00:10:00;00"),
        ("00:00:59;59", 1, 59.94, "00:01:00;04"),
        ("00:00:00;00", 107892, 29.97, "01:00:00;00"),
        ("23:59:59;29", 1, 29.97, "00:00:00;00"),
        ("10:59:59:20", 10, 25.0, "11:00:00:05"),
        ("no time code", 1, 25.0, None),
    ],
)
def test_time_codes_count_frames_and_drop_numbers(first, frames, fps, expected):
    assert later(first, frames, fps) == expected


def test_drop_frame_keeps_up_with_the_clock():
    """Against a count of all numbers but the dropped ones."""
    numbers = (
        (minute, second, frame)
        for minute in range(21)
        for second in range(60)
        for frame in range(30)
        if not (minute % 10 and second == 0 and frame < 2)
    )
    for index, (minute, second, frame) in enumerate(numbers):
        if index % 7 == 0 or frame < 3:
            assert later("00:00:00;00", index, 29.97) == f"00:{minute:02}:{second:02};{frame:02}"
