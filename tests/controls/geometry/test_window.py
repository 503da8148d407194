import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gencompositor_jax.controls.element.element import Element
from gencompositor_jax.controls.geometry.path import Path
from gencompositor_jax.controls.geometry.placement import paste_of, trajectory_to_mask
from gencompositor_jax.controls.geometry.view import identity_view, make_view
from gencompositor_jax.controls.geometry.window import cut, put_back, shift, window_around
from gencompositor_jax.errors import InputError

NATIVE, MODEL = (360, 640), (64, 96)


def walk(frames: int = 5, scale: float = 0.6, rotation: float = 0.0) -> Path:
    xy = np.linspace((-40.0, 30.0), (700.0, 330.0), frames)
    return Path(xy, np.full(frames, scale), np.full(frames, rotation))


def card(frames: int = 5, height: int = 122, width: int = 177) -> Element:
    return Element(np.full((frames, height, width, 4), 255, np.uint8), "card")


@given(st.floats(0.01, 8), st.floats(-90, 90), st.sampled_from(["center", "bottom"]), st.floats(0.2, 1))
@settings(max_examples=60, deadline=None)
def test_window_stays_in_the_background(scale: float, rotation: float, anchor: str, fill: float) -> None:
    path = walk(scale=scale, rotation=rotation)
    window = window_around(path, anchor, (122, 177), NATIVE, MODEL, fill)  # type: ignore[arg-type]
    (height, width), (x, y) = window.size, window.origins.T
    assert (x >= 0).all() and (x + width <= NATIVE[1]).all()
    assert (y >= 0).all() and (y + height <= NATIVE[0]).all()
    assert MODEL[0] <= height <= NATIVE[0] and MODEL[1] <= width <= NATIVE[1]


@pytest.mark.parametrize("anchor", ["center", "bottom"])
@pytest.mark.parametrize("rotation", [0.0, 40.0])
def test_the_element_fills_its_fraction_and_is_centred(anchor: str, rotation: float) -> None:
    path = Path(np.array([(320.0, 180.0)]), np.array([0.6]), np.array([rotation]))
    window = window_around(path, anchor, (122, 177), NATIVE, MODEL, 0.5)  # type: ignore[arg-type]
    view = make_view(window.size, MODEL)
    mask = trajectory_to_mask(card(1), shift(path, window), anchor, view)  # type: ignore[arg-type]
    rows, columns = np.nonzero(mask[0])
    extent = np.array([np.ptp(rows) + 1, np.ptp(columns) + 1])
    assert (extent <= np.array(MODEL) * 0.5 + 1).all()
    if rotation == 0:
        assert (extent >= np.array(MODEL) * 0.5 - 1.5).any()
    np.testing.assert_allclose([rows.mean(), columns.mean()], [31.5, 47.5], atol=1)


def test_cropping_commutes_with_placement() -> None:
    """The element placed in the window is a crop of the element placed in the background."""
    path = walk()
    window = window_around(path, "center", (122, 177), NATIVE, MODEL)
    whole = paste_of(card(), path, "center", identity_view(NATIVE))
    inside = paste_of(card(), shift(path, window), "center", identity_view(window.size))
    np.testing.assert_allclose(cut(whole, window).astype(int), inside, atol=6)  # the warp's 1/32 pixel grid
    assert inside[..., 3].any(axis=(1, 2)).tolist() == whole[..., 3].any(axis=(1, 2)).tolist()


def test_put_back_changes_only_the_window() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, *NATIVE, 3), dtype=np.uint8)
    window = window_around(walk(), "center", (122, 177), NATIVE, MODEL)
    parts = cut(frames, window)
    np.testing.assert_array_equal(put_back(frames, parts, window), frames)
    out = put_back(frames, 255 - parts, window)
    changed = (out != frames).any(axis=-1)
    assert changed.sum() == 5 * window.size[0] * window.size[1]
    np.testing.assert_array_equal(cut(out, window), 255 - parts)


def test_a_large_element_gets_the_whole_background() -> None:
    window = window_around(walk(scale=3.0), "center", (122, 177), NATIVE, MODEL)
    assert window.size == NATIVE and not window.origins.any()


@pytest.mark.parametrize("fill", [0.0, -1.0, 1.5, float("nan")])
def test_bad_fill(fill: float) -> None:
    with pytest.raises(InputError, match="fill"):
        window_around(walk(), "center", (122, 177), NATIVE, MODEL, fill)
