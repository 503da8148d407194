from typing import NamedTuple

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gencompositor_jax.controls.element.element import Element
from gencompositor_jax.controls.geometry.path import Path
from gencompositor_jax.controls.geometry.placement import (
    Anchor,
    centred_foreground,
    paste_of,
    paste_over,
    trajectory_to_mask,
    warp,
)
from gencompositor_jax.controls.geometry.view import View, identity_view, make_view, points_to_model
from gencompositor_jax.errors import InputError
from tests.parity.released_controls import released_mask

SIZE = (120, 200)  # the background's


def ellipse(frames: int = 3, height: int = 40, width: int = 60) -> Element:
    """An orange ellipse that touches all four sides of its canvas; transparent pixels hide pure blue."""
    y, x = np.mgrid[:height, :width]
    inside = ((x - (width - 1) / 2) / (width / 2)) ** 2 + ((y - (height - 1) / 2) / (height / 2)) ** 2 <= 1
    rgba = np.where(inside[..., None], (250, 140, 20, 255), (0, 0, 255, 0))
    return Element(np.repeat(rgba[None].astype(np.uint8), frames, axis=0), "ellipse")


def path(xy: list[tuple[float, float]], scale: float = 1.0, rotation: float = 0.0) -> Path:
    return Path(np.array(xy, np.float64), np.full(len(xy), scale), np.full(len(xy), rotation))


def centroid(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean(), rows.mean()])


class Placed(NamedTuple):
    mask: np.ndarray
    foreground: np.ndarray
    paste: np.ndarray


def place(element: Element, path: Path, anchor: Anchor, view: View) -> Placed:
    mask = trajectory_to_mask(element, path, anchor, view)
    return Placed(mask, centred_foreground(element, path, view), paste_of(element, path, anchor, view))


@given(st.floats(60, 140), st.floats(40, 80), st.floats(0.3, 0.9), st.floats(-180, 180))
@settings(max_examples=60, deadline=None)
def test_silhouette_follows_the_path_at_the_right_size(
    x: float, y: float, scale: float, rotation: float
) -> None:
    element = ellipse(1)
    placed = place(element, path([(x, y)], scale, rotation), "center", identity_view(SIZE))
    np.testing.assert_allclose(centroid(placed.mask[0]), (x, y), atol=0.35)
    expected = (element.frames[0, ..., 3] > 0).sum() * scale**2
    assert abs(placed.paste[..., 3].sum() / 255 / expected - 1) < 0.01
    outline = np.pi * 50 * scale
    assert abs(placed.mask.sum() - expected) < 0.3 * outline  # a pixel of the outline is in or out


@given(st.floats(0.35, 1.3), st.floats(-180, 180), st.sampled_from(["center", "bottom"]))
@settings(max_examples=40, deadline=None)
def test_mask_and_foreground_agree_in_size(scale: float, rotation: float, anchor: str) -> None:
    """The foreground is the silhouette moved to the centre: same extent and area in any view."""
    view = make_view(SIZE, (64, 96))
    placed = place(ellipse(1), path([(100, 60)], scale, rotation), anchor, view)  # type: ignore[arg-type]
    shown = (255 - placed.foreground[0, ..., 2].astype(float)) / (255 - 20)  # the blue channel is coverage
    assert abs(shown.sum() / (placed.paste[0, ..., 3] / 255).sum() - 1) < 0.02 or anchor == "bottom"
    np.testing.assert_allclose(centroid(shown > 0.5), (47.5, 31.5), atol=0.35)
    if anchor == "center":
        for axis in (0, 1):
            extent = [np.ptp(np.nonzero(m)[axis]) for m in (shown > 0.5, placed.mask[0])]
            assert abs(extent[0] - extent[1]) <= 1


def test_view_scales_path_and_element_alike() -> None:
    view = make_view((480, 640), (64, 96))
    placed = place(ellipse(2), path([(200, 100), (400.5, 300)], 3.0), "center", view)
    for t, point in enumerate([(200, 100), (400.5, 300)]):
        np.testing.assert_allclose(centroid(placed.mask[t]), points_to_model(np.array(point), view), atol=0.2)
    assert abs(placed.mask[0].sum() / (np.pi * 20 * 30 * (3 * 64 / 480) ** 2) - 1) < 0.04


def test_bottom_stands_on_the_point() -> None:
    placed = place(ellipse(1), path([(100, 90)], 0.5), "bottom", identity_view(SIZE))
    rows, columns = np.nonzero(placed.mask[0])
    assert rows.max() in (89, 90) and abs(columns.mean() - 100) < 0.3
    assert abs(rows.min() - 70) <= 1


def test_rotates_counter_clockwise() -> None:
    frames = np.zeros((1, 41, 41, 4), np.uint8)
    frames[0, 18:23, 20:, 3] = 255  # a bar pointing right
    placed = place(Element(frames, "bar"), path([(100, 60)], rotation=90), "center", identity_view(SIZE))
    x, y = centroid(placed.mask[0])
    assert abs(x - 100) < 0.5 and y < 52  # it points up now


def test_subpixel_positions_move_the_coverage() -> None:
    """A step of a quarter pixel shifts the centre of coverage by a quarter pixel."""
    xs = [100 + i / 4 for i in range(5)]
    placed = place(ellipse(5), path([(x, 60) for x in xs], 0.7), "center", identity_view(SIZE))
    weight = placed.paste[..., 3].astype(float)
    centres = (weight * np.arange(SIZE[1])).sum(axis=(1, 2)) / weight.sum(axis=(1, 2))
    np.testing.assert_allclose(centres, xs, atol=0.05)


def test_shrinking_keeps_coverage_and_averages_detail() -> None:
    """One-pixel stripes shrunk 7.3 times become their mean, and total coverage is that of the area."""
    frames = np.zeros((300, 300, 4), np.float32)
    frames[:, ::2] = 255
    shrink = 1 / 7.3
    matrix = np.array([[shrink, 0, 10.0], [0, shrink, 7.0]])
    out, (rows, columns) = warp(frames, matrix, (64, 96))
    assert (rows, columns) == (slice(6, 50), slice(9, 53))
    assert abs(out[..., 3].sum() / 255 / (300 * 150 * shrink**2) - 1) < 0.02
    inner = out[6:34, 7:37, 3]
    assert abs(inner.mean() - 127.5) < 2 and inner.std() < 12  # point sampling gives 0 and 255


def test_hidden_colour_does_not_bleed() -> None:
    placed = place(ellipse(1), path([(100.4, 60.3)], 0.4, 33), "center", identity_view(SIZE))
    seen = placed.paste[0][placed.paste[0, ..., 3] > 8]
    assert np.abs(seen[:, :3].astype(int) - [250, 140, 20]).max() <= 12
    assert (placed.foreground[0, ..., 0] >= 240).all()  # orange and white, never the hidden blue


@pytest.mark.parametrize("point", [(-15, 60), (215, 60), (100, -12), (200, 120), (0, 0), (199, 119)])
def test_clipped_at_the_edges(point: tuple[float, float]) -> None:
    """The visible part is that of a larger frame."""
    element, margin = ellipse(1), 60
    large = (SIZE[0] + 2 * margin, SIZE[1] + 2 * margin)
    placed = place(element, path([point]), "center", identity_view(SIZE))
    moved = (point[0] + margin, point[1] + margin)
    whole = place(element, path([moved]), "center", identity_view(large)).mask
    np.testing.assert_array_equal(placed.mask[0], whole[0, margin:-margin, margin:-margin])
    assert 0 < placed.mask.sum() < whole.sum()


def test_may_enter_and_leave_but_not_stay_out() -> None:
    view = identity_view(SIZE)
    placed = place(ellipse(3), path([(-500, 60), (100, 60), (1e6, 60)]), "center", view)
    assert [bool(m.any()) for m in placed.mask] == [False, True, False]
    assert (placed.foreground[0] != 255).any()  # the network still sees it
    with pytest.raises(InputError, match="outside the 200x120 background in every frame"):
        place(ellipse(2), path([(-500, 60), (300, 60)]), "center", view)


def test_padding_is_not_the_background() -> None:
    """An element that only touches the rows that pad the background in the model's frame is outside."""
    view = make_view((100, 300), (64, 96))  # content 32 rows high, 16 of padding above and below
    with pytest.raises(InputError, match="outside the 300x100"):
        place(ellipse(1), path([(150, -25)], 0.9), "center", view)


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (30.0, "more than 8 frames; it fits"),
        (0.01, "pass a larger --scale"),
        (1e-300, "larger --scale"),
    ],
)
def test_absurd_scales(scale: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        place(ellipse(1), path([(100, 60)], scale), "center", identity_view(SIZE))


@pytest.mark.parametrize("scale", [np.nan, np.inf, -1.0, 0.0])
def test_impossible_scales(scale: float) -> None:
    with pytest.raises(InputError, match="finite"):
        place(ellipse(1), path([(100, 60)], scale), "center", identity_view(SIZE))


def test_larger_than_the_frame_is_clipped() -> None:
    placed = place(ellipse(1), path([(100, 60)], 6.0), "center", identity_view(SIZE))
    assert placed.mask.all()
    assert (placed.foreground == [250, 140, 20]).all()


def test_lengths_must_agree() -> None:
    with pytest.raises(InputError, match="3 frames for a path of 2; pass --frames 3"):
        place(ellipse(3), path([(100, 60)] * 2), "center", identity_view(SIZE))


def test_unknown_anchor() -> None:
    with pytest.raises(InputError, match="'top'"):
        place(ellipse(1), path([(100, 60)]), "top", identity_view(SIZE))  # type: ignore[arg-type]


def test_paste_over_mixes_by_alpha() -> None:
    background = np.full((1, 2, 3, 3), 100, np.uint8)
    layer = np.zeros((1, 2, 3, 4), np.uint8)
    layer[0, 0, 0] = (200, 0, 100, 255)
    layer[0, 0, 1] = (200, 0, 100, 51)
    out = paste_over(background, layer)
    np.testing.assert_array_equal(out[0, 0, :2], [[200, 0, 100], [120, 80, 100]])
    assert (out[0, 1] == 100).all() and (background == 100).all()


def test_released_mask_of_a_single_pixel() -> None:
    """The release's script divides by the zero area here; its application keeps the one pixel."""
    foreground = np.full((1, 20, 20, 3), 255, np.uint8)
    foreground[0, 4, 5] = 0
    assert released_mask(foreground, np.array([[30, 40]]), SIZE, (0.5,)).sum() == 1


def test_released_mask_and_ours_agree_on_a_whole_element() -> None:
    """At scale 1 and whole pixels both rules cover the same pixels, but for the outline."""
    element = ellipse(1)
    frame = np.full((1, 80, 100, 3), 255, np.uint8)
    frame[0, 20:60, 20:80] = np.where(element.frames[0, ..., 3:] > 0, element.frames[0, ..., :3], 255)
    released = released_mask(frame, np.array([[100, 60]]), SIZE)
    ours = place(element, path([(99.5, 59.5)]), "center", identity_view(SIZE)).mask
    kernel = np.ones((3, 3), np.uint8)
    assert not (released & ~cv2.dilate(ours[0].astype(np.uint8), kernel).astype(bool)).any()
    assert (released != ours).sum() < 0.01 * ours.sum()
