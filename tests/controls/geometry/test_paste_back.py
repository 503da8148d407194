import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gencompositor_jax.controls.geometry.paste_back import feather_weight, paste_back
from gencompositor_jax.controls.geometry.view import identity_view, make_view
from gencompositor_jax.errors import InputError


def scene(view_native: tuple[int, int], model: tuple[int, int], seed: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    native = rng.integers(0, 256, (2, *view_native, 3), dtype=np.uint8)
    generated = rng.integers(0, 256, (2, *model, 3), dtype=np.uint8)
    mask = np.zeros((2, *model), bool)
    y, x = rng.integers(0, model[0] - 4), rng.integers(0, model[1] - 4)
    mask[:, y : y + rng.integers(2, 30), x : x + rng.integers(2, 30)] = True
    mask[1] &= rng.random(model) > 0.3
    return native, generated, mask


@given(st.integers(20, 200), st.integers(20, 200), st.floats(0, 9), st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_outside_the_mask_is_the_input(height: int, width: int, feather: float, seed: int) -> None:
    view = make_view((height, width), (48, 64))
    native, generated, mask = scene(view.native, view.model, seed)
    before = native.copy()
    out, inside = paste_back(native, generated, mask, view, feather)
    np.testing.assert_array_equal(out[~inside], native[~inside])
    np.testing.assert_array_equal(native, before)


def test_inside_is_the_result() -> None:
    """A hard cut at the same size copies the result; one over all of the frame is never feathered."""
    view = identity_view((48, 64))
    native, generated, mask = scene((48, 64), (48, 64), 3)
    out, inside = paste_back(native, generated, mask, view, 0.0)
    np.testing.assert_array_equal(inside, mask)
    np.testing.assert_array_equal(out[mask], generated[mask])
    out, inside = paste_back(native, generated, np.ones_like(mask), view, 8.0)
    assert inside.all()
    np.testing.assert_array_equal(out, generated)


def test_mask_keeps_position_and_size() -> None:
    view = make_view((540, 960), (64, 96))
    mask = np.zeros((1, 64, 96), bool)
    mask[0, 20:40, 30:60] = True
    _, inside = paste_back(
        np.zeros((1, 540, 960, 3), np.uint8), np.zeros((1, 64, 96, 3), np.uint8), mask, view, 1
    )
    rows, columns = np.nonzero(inside[0])
    assert (columns.min(), columns.max()) == (300, 599)  # ten native pixels for each of the model's
    assert (rows.min(), rows.max()) == (150, 349)  # five rows of padding above the content
    assert inside.sum() > 0.99 * 300 * 200


def test_padding_does_not_come_back() -> None:
    view = make_view((54, 96), (64, 96))
    mask = np.zeros((1, 64, 96), bool)
    mask[0, :5] = True
    native, generated, _ = scene((54, 96), (64, 96), 0)
    out, inside = paste_back(native[:1], generated[:1], mask, view, 2.0)
    assert not inside.any()
    np.testing.assert_array_equal(out, native[:1])


def test_feather_lies_inside_and_rises() -> None:
    inside = np.zeros((60, 80), bool)
    inside[10:60, 20:60] = True  # it touches the lower edge
    weight = feather_weight(inside, 8.0)
    assert (weight[~inside] == 0).all() and weight.max() == 1
    assert (weight[inside] > 0).all()
    profile = weight[40, 20:41]
    assert (np.diff(profile) >= 0).all() and (profile[8:] == 1).all() and 0.3 < profile[4] < 0.7
    assert (weight[59, 28:52] == 1).all()  # the frame's edge is no border


def test_feather_is_measured_in_model_pixels() -> None:
    native = np.zeros((1, 640, 960, 3), np.uint8)
    mask = np.zeros((1, 64, 96), bool)
    mask[0, :, 30:] = True
    out, _ = paste_back(
        native, np.full((1, 64, 96, 3), 200, np.uint8), mask, make_view((640, 960), (64, 96)), 3.0
    )
    profile = out[0, 300, 300:, 0]
    assert profile[25] < 200 and (profile[31:] == 200).all() and abs(int(profile[15]) - 100) < 8


def test_a_smooth_result_is_enlarged_smoothly() -> None:
    x = np.linspace(0, 255, 96)
    generated = np.broadcast_to(x[None, None, :, None], (1, 64, 96, 3)).round().astype(np.uint8)
    native = np.zeros((1, 640, 960, 3), np.uint8)
    out, _ = paste_back(native, generated, np.ones((1, 64, 96), bool), make_view((640, 960), (64, 96)), 0.0)
    steps = np.diff(out[0, 300, 10:-10, 0].astype(int))
    assert steps.min() >= 0 and steps.max() <= 1  # nearest sampling steps by 2 or 3


@pytest.mark.parametrize("feather", [-1.0, float("nan"), float("inf")])
def test_bad_feather(feather: float) -> None:
    view = identity_view((48, 64))
    native, generated, mask = scene((48, 64), (48, 64), 0)
    with pytest.raises(InputError, match="feather"):
        paste_back(native, generated, mask, view, feather)
