import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gencompositor_jax.data_pipelines.foreground_fit import element_box, fit_foreground


def with_box(side: int, top: int, left: int, height: int, width: int, frames: int = 2) -> np.ndarray:
    """A dark rectangle in the last frame, smaller by two rows in those before."""
    out = np.full((frames, side, side, 3), 255, np.uint8)
    out[:, top : top + max(1, height - 2), left : left + width] = (10, 60, 120)
    out[-1, top : top + height, left : left + width] = (10, 60, 120)
    return out


def test_a_small_element_keeps_its_pixels_at_the_release_s_size():
    square = with_box(576, 200, 150, 288, 300)  # exactly half high: not taller
    fitted = fit_foreground(square, (480, 720))
    np.testing.assert_array_equal(fitted[:, :, 120:600], square[:, 48:528, 48:528])
    assert (fitted[:, :, :120] == 255).all() and (fitted[:, :, 600:] == 255).all()


def test_a_tall_element_is_shrunk_to_the_height():
    fitted = fit_foreground(with_box(576, 120, 250, 290, 60), (480, 720))
    top, left, height, width = element_box(fitted) or (0, 0, 0, 0)
    assert (top, height) == (100, pytest.approx(290 * 480 / 576, abs=2))
    assert (left, width) == (pytest.approx(120 + 250 * 480 / 576, abs=2), pytest.approx(50, abs=2))


def test_a_wide_flat_element_is_not_cropped():
    box = element_box(fit_foreground(with_box(576, 260, 10, 40, 556), (480, 720)))
    assert box is not None and box[3] == pytest.approx(556 * 480 / 576, abs=2)


def test_white_stays_white():
    assert (fit_foreground(np.full((3, 72, 72, 3), 253, np.uint8), (64, 96)) >= 253).all()
    assert element_box(np.full((3, 72, 72, 3), 251, np.uint8)) is None


@given(
    side=st.integers(24, 120),
    size=st.tuples(st.integers(8, 100), st.integers(8, 100)),
    corners=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_the_element_stays_complete_and_centred_at_one_scale(side, size, corners):
    height, width = (side // 3 + int(p * (side - side // 3)) for p in corners[:2])
    top, left = int(corners[2] * (side - height)), int(corners[3] * (side - width))
    square = with_box(side, top, left, height, width)
    fitted = fit_foreground(square, size)
    assert fitted.shape == (2, *size, 3) and fitted.dtype == np.uint8
    box = element_box(fitted)
    assert box is not None
    # One of two scales, about the centre; what averaging and cubic overshoot leave within 2 pixels.
    short = min(size)
    offsets = []
    for scale in (short / side, short / round(side * 480 / 576)):
        expected = [
            size[0] / 2 + (top - side / 2) * scale,
            size[1] / 2 + (left - side / 2) * scale,
            height * scale,
            width * scale,
        ]
        offsets.append(max(abs(a - b) for a, b in zip(box, expected, strict=True)))
    assert min(offsets) <= 2 + 2 * short / side
