"""Pictures: the sheet shows the right frames in the right cells, the overlay changes only what it should."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gencompositor_jax.controls.media.sheet import SHEET_WIDTH, contact_sheet, overlay, write_png
from gencompositor_jax.errors import InputError


def flat_frames(count: int, height: int, width: int, channel: int = 0) -> np.ndarray:
    """Frame t is one colour, 5 t + 40 in one channel."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[..., channel] = (5 * np.arange(count) + 40)[:, None, None]
    return frames


def shown(line: np.ndarray, channel: int) -> list[int]:
    """The frame numbers met on one row of pixels through a sheet, from left to right."""
    others = np.delete(line.astype(int), channel, axis=-1).max(-1)
    values = line[(others < 4) & (line[:, channel] >= 40), channel].astype(int)
    changes = np.flatnonzero(np.diff(values, prepend=-1))
    return ((values[changes] - 40) / 5).round().astype(int).tolist()


@pytest.mark.parametrize(("height", "width"), [(64, 96), (480, 720), (720, 1280), (1080, 1080)])
def test_rows_show_their_frames_in_order(height, width):
    rows = [("input", flat_frames(9, height, width, 0)), ("result", flat_frames(9, height, width, 2))]
    sheet = contact_sheet(rows)
    assert sheet.dtype == np.uint8 and 0.9 * SHEET_WIDTH <= sheet.shape[1] <= 1.1 * SHEET_WIDTH
    for channel, share in ((0, 0.33), (2, 0.75)):
        assert shown(sheet[round(sheet.shape[0] * share)], channel) == [0, 2, 4, 6, 8]


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(
        st.tuples(st.integers(1, 7), st.integers(1, 90), st.integers(1, 90)), min_size=1, max_size=3
    ),
    times=st.integers(1, 6),
)
def test_any_mixture_of_clips_makes_a_sheet(sizes, times):
    sheet = contact_sheet([("a clip", flat_frames(*size)) for size in sizes], times)
    assert sheet.ndim == 3 and sheet.min() < 60  # the labels are there


def test_clips_of_different_lengths_are_numbered_each():
    """Lengths 9 and 5 need a caption under each row; the first and last frame of both are shown."""
    clips = flat_frames(9, 60, 90, 0), flat_frames(5, 60, 90, 2)
    sheet = contact_sheet([("a", clips[0]), ("b", clips[1])])
    same = contact_sheet([("a", clips[0]), ("b", clips[0])])
    assert sheet.shape[0] > same.shape[0]
    assert shown(sheet[round(sheet.shape[0] * 0.25)], 0) == [0, 2, 4, 6, 8]
    assert shown(sheet[round(sheet.shape[0] * 0.7)], 2) == [0, 1, 2, 3, 4]


def test_proportions_are_kept():
    sheet = contact_sheet([("a", flat_frames(2, 100, 300))], times=2)
    inside = (sheet[..., 0] >= 40) & (sheet[..., 1] < 4) & (sheet[..., 2] < 4)
    rows = np.flatnonzero(inside.any(1))
    columns = np.flatnonzero(inside[:, : sheet.shape[1] // 2 + 20].any(0))
    assert (columns[-1] - columns[0]) / (rows[-1] - rows[0]) == pytest.approx(3, rel=0.03)


def test_a_sheet_without_frames_raises_value_error():
    with pytest.raises(ValueError, match="at least one row"):
        contact_sheet([])
    with pytest.raises(ValueError, match="masks: frames must be uint8"):
        contact_sheet([("masks", np.zeros((3, 4, 4, 1), bool))])


def test_the_overlay_touches_the_mask_and_nothing_else():
    frames = np.random.default_rng(0).integers(0, 256, (3, 40, 60, 3), np.uint8)
    mask = np.zeros((3, 40, 60), bool)
    mask[:, 10:20, 30:50] = True
    before = frames.copy()
    drawn = overlay(frames, mask)
    assert np.array_equal(frames, before)
    assert np.array_equal(drawn[~mask], frames[~mask])
    assert (drawn[mask] != frames[mask]).any(-1).all()
    assert (drawn[:, 10, 30:50] == 255).all()  # the outline lies inside


def test_the_trajectory_is_drawn_where_the_element_is():
    frames, mask = np.full((3, 90, 120, 3), 90, np.uint8), np.zeros((3, 90, 120), bool)
    path = np.array([[20.0, 30.0], [60.0, 40.0], [100.0, 70.0]])
    drawn = overlay(frames, mask, path)
    for t, (x, y) in enumerate(path.astype(int)):
        assert drawn[t, y, x, 0] > 200 and drawn[t, y, x, 2] < 60  # the yellow dot
    x, y = path[0].astype(int)
    assert drawn[2, y, x, 2] > 200 > drawn[2, y, x, 0]  # the path so far is cyan
    assert np.array_equal(drawn[:, :20], frames[:, :20])
    both = overlay(frames, mask, np.stack([path, path[::-1]]))
    assert (both != drawn).any() and both[0, 70, 100, 0] > 200


def test_points_far_outside_are_accepted():
    frames, mask = np.zeros((2, 30, 40, 3), np.uint8), np.zeros((2, 30, 40), bool)
    overlay(frames, mask, np.array([[-1e9, 5.0], [1e9, 5.0]]))
    assert np.array_equal(overlay(frames, mask, np.full((2, 2), -500.0)), frames)


def test_an_overlay_of_another_size_raises_value_error():
    with pytest.raises(ValueError, match="differ"):
        overlay(np.zeros((2, 30, 40, 3), np.uint8), np.zeros((2, 40, 30), bool))


def test_pictures_are_written_atomically_and_not_over_others(tmp_path):
    path = tmp_path / "sheet.png"
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    write_png(path, picture)
    with pytest.raises(InputError, match="--overwrite"):
        write_png(path, picture[:5])
    assert np.array_equal(np.asarray(Image.open(path)), picture)
    write_png(path, picture[:5], overwrite=True)
    assert np.asarray(Image.open(path)).shape == (5, 30, 3)
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]
