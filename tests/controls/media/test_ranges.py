"""Ranges of frames in the plate's own numbers."""

import numpy as np
import pytest
from PIL import Image

from gencompositor_jax.controls.media.ranges import parse_range, seconds_of
from gencompositor_jax.controls.media.video import open_video, probe
from gencompositor_jax.errors import InputError


def write_images(folder, numbers):
    """Images of the grey of their number."""
    folder.mkdir()
    for number in numbers:
        Image.fromarray(np.full((6, 8, 3), number % 256, np.uint8)).save(folder / f"plate.{number:04d}.png")
    return folder


def frames_in(media, chosen, fps=None):
    start, end = seconds_of(media, chosen, fps)
    found = open_video(media, start=start, end=end, fps=fps)
    return found, np.asarray(found.frames)


@pytest.mark.parametrize("fps", [None, 23.976, 59.94, 240.0])
def test_the_range_of_a_sequence_is_in_the_numbers_of_its_files(tmp_path, fps):
    media = probe(write_images(tmp_path / "plate", range(1001, 1251)))
    for first, last in ((1001, 1250), (1003, 1003), (1100, 1148), (1250, 1250)):
        found, pixels = frames_in(media, (first, last), fps)
        assert pixels[:, 0, 0, 0].tolist() == [n % 256 for n in range(first, last + 1)]
        assert found.first == first and found.start == pytest.approx((first - 1001) / (fps or 24))


def test_every_second_number_and_missing_ones(tmp_path):
    twos = probe(write_images(tmp_path / "twos", range(1001, 1021, 2)))
    assert frames_in(twos, (1004, 1009))[1][:, 0, 0, 0].tolist() == [1005 % 256, 1007 % 256, 1009 % 256]
    with pytest.raises(InputError, match="1004-1004, .* has only every 2. number"):
        seconds_of(twos, (1004, 1004), None)
    gap = probe(write_images(tmp_path / "gap", [-2, -1, 0, 3, 4]))  # 1 and 2 repeat 0
    assert frames_in(gap, (-1, 3))[1][:, 0, 0, 0].tolist() == [255, 0, 0, 0, 3]
    uneven = probe(write_images(tmp_path / "uneven", [1, 4, 9, 11]))
    with pytest.raises(InputError, match="aren't evenly spaced: use start and end"):
        seconds_of(uneven, (1, 4), None)


@pytest.mark.parametrize("fps", [None, 12.0])
def test_the_range_of_a_video_counts_from_0(make_clip, numbers_of, fps):
    media = probe(make_clip("a.mkv", codec="ffv1", pixels="bgr0"))
    for first, last in ((0, 23), (6, 11), (22, 23)):
        found, pixels = frames_in(media, (first, last), fps)
        assert numbers_of(pixels) == list(range(first, last + 1))[:: 1 if fps is None else 2]
        assert found.first == first


@pytest.mark.parametrize("chosen", [(1000, 1004), (1003, 1006), (4, 5)])
def test_frames_that_a_plate_lacks(tmp_path, chosen):
    media = probe(write_images(tmp_path / "plate", range(1001, 1006)))
    with pytest.raises(InputError, match=f"range: {chosen[0]}-{chosen[1]}, .* frames 1001 to 1005"):
        seconds_of(media, chosen, None)


def test_ranges_as_text():
    assert parse_range("1001-1049") == (1001, 1049) and parse_range("-5--2") == (-5, -2)
    for text in ("", "1001", "1001-", "a-b", "1.5-2", "1-99999999999", "1:2"):
        with pytest.raises(InputError, match="--range .*: pass the first and the last frame"):
            parse_range(text)
    with pytest.raises(InputError, match="--range: 9-3: the last frame is before the first"):
        parse_range("9-3")
