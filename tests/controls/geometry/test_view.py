import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gencompositor_jax.controls.geometry.view import (
    from_model,
    identity_view,
    make_view,
    mask_to_model,
    points_to_model,
    to_model,
)
from gencompositor_jax.errors import InputError

sides = st.integers(8, 300)


@given(sides, sides, sides, sides)
@settings(max_examples=200, deadline=None)
def test_content_fits_is_centred_and_keeps_the_aspect(nh: int, nw: int, mh: int, mw: int) -> None:
    try:
        view = make_view((nh, nw), (mh, mw))
    except InputError:
        assert max(nh / nw, nw / nh) >= 2 * min(mh, mw)  # less than half a model pixel would be left
        return
    (ch, cw), (top, left) = view.content, view.origin
    assert ch == mh or cw == mw  # as large as possible
    assert 0 <= top == (mh - ch) // 2 and 0 <= left == (mw - cw) // 2
    assert abs(ch - cw * nh / nw) <= 0.5 + 1e-6 or abs(cw - ch * nw / nh) <= 0.5 + 1e-6


@given(sides, sides)
@settings(max_examples=100, deadline=None)
def test_edges_of_the_background_map_to_edges_of_the_content(nh: int, nw: int) -> None:
    view = make_view((nh, nw), (64, 96))
    (ch, cw), (top, left) = view.content, view.origin
    corners = points_to_model(np.array([[-0.5, -0.5], [nw - 0.5, nh - 0.5]]), view)
    np.testing.assert_allclose(
        corners, [[left - 0.5, top - 0.5], [left + cw - 0.5, top + ch - 0.5]], atol=1e-6
    )


def test_points_and_pixels_agree() -> None:
    """A bright square in the background is found in the model's frame where its centre is mapped to."""
    native = np.zeros((1, 360, 640, 3), np.uint8)
    native[0, 100:140, 400:460] = 255
    view = make_view((360, 640), (64, 96))
    seen = to_model(native, view)[0, ..., 0].astype(float)
    rows, columns = np.mgrid[:64, :96]
    found = [(columns * seen).sum() / seen.sum(), (rows * seen).sum() / seen.sum()]
    np.testing.assert_allclose(found, points_to_model(np.array([429.5, 119.5]), view), atol=0.02)


def test_padding_repeats_the_edge() -> None:
    rng = np.random.default_rng(0)
    native = rng.integers(0, 256, (2, 54, 96, 3), dtype=np.uint8)
    view = make_view((54, 96), (64, 96))
    seen = to_model(native, view)
    assert view.origin == (5, 0)
    np.testing.assert_array_equal(seen[:, 5:59], native)
    np.testing.assert_array_equal(seen[:, :5], np.repeat(native[:, :1], 5, axis=1))
    np.testing.assert_array_equal(seen[:, 59:], np.repeat(native[:, -1:], 5, axis=1))
    np.testing.assert_array_equal(from_model(seen, view), native)


def test_a_smooth_picture_survives_the_model_size() -> None:
    y, x = np.mgrid[:360, :640]
    native = (
        np.stack([127 + 100 * np.sin(x / 60), 127 + 100 * np.cos(y / 60), (x + y) / 4], axis=-1)[None]
        .round()
        .astype(np.uint8)
    )
    back = from_model(to_model(native, make_view((360, 640), (128, 192))), make_view((360, 640), (128, 192)))
    assert np.abs(back.astype(int) - native)[:, 8:-8, 8:-8].max() <= 3


def test_shrinking_averages() -> None:
    """Noise shrunk ten times loses its contrast tenfold, as a mean of 100 pixels does."""
    native = np.random.default_rng(0).integers(0, 256, (1, 640, 960, 3), dtype=np.uint8)
    seen = to_model(native, make_view((640, 960), (64, 96))).astype(float)
    assert abs(seen.mean() - native.mean()) < 0.5 and seen.std() / native.std() < 0.11


def test_masks_keep_thin_parts() -> None:
    mask = np.zeros((1, 640, 960), bool)
    mask[0, 300] = True
    seen = mask_to_model(mask, make_view((640, 960), (64, 96)))
    assert seen[0, 30].all() and seen.sum() == 96


def test_identity_changes_nothing() -> None:
    frames = np.random.default_rng(1).integers(0, 256, (2, 33, 47, 4), dtype=np.uint8)
    view = identity_view((33, 47))
    np.testing.assert_array_equal(to_model(frames, view), frames)
    np.testing.assert_array_equal(view.matrix, [[1, 0, 0], [0, 1, 0]])


def test_bad_sizes() -> None:
    with pytest.raises(InputError, match="too narrow"):
        make_view((4000, 4), (64, 96))
    with pytest.raises(InputError, match="positive"):
        make_view((0, 100), (64, 96))
