"""Nuke's animation curves, by the published description of their format."""

import numpy as np
import pytest

from gencompositor_jax.controls.keyframes.nuke_curve import evaluate, parse_curve
from gencompositor_jax.errors import InputError


def values(text, *frames):
    return evaluate(parse_curve(text), np.array(frames, float)).tolist()


def test_frames_that_are_not_stated_go_on():
    assert [key.frame for key in parse_curve("curve 5 6 x10 7 8 x20 9 10")] == [0, 1, 10, 19, 20, 21]
    assert [key.frame for key in parse_curve("curve i x1001 1 2 3")] == [1001, 1002, 1003]
    assert [key.frame for key in parse_curve("curve x1 0 x4 1 2")] == [1, 4, 7]


def test_linear_and_constant_keys():
    assert values("curve L x0 0 x4 8 K x8 2 x9 5", -3, 1, 4, 6, 8, 8.9, 9, 20) == [
        *(0, 2, 8, 5, 2, 2),
        *(5, 5),
    ]
    assert values("3.5", 1, 1000) == [3.5, 3.5]


def test_slopes_make_a_bezier_curve():
    """Hermite: y = (s^3 - 2 s^2 + s) 4 m0 + (s^3 - s^2) 4 m1 over four frames with values 0."""
    s = np.array([0.25, 0.5, 0.75])
    expected = (s**3 - 2 * s**2 + s) * 4 * 2 + (s**3 - s**2) * 4 * -1
    np.testing.assert_allclose(values("curve C x0 0 t2 x4 0 s-1", 1, 2, 3), expected)
    np.testing.assert_allclose(values("curve C x0 0 s2 x4 0 s-1", 1, 2, 3), expected)  # s serves for both


def test_longer_handles():
    """A handle keeps the curve at its key's value for longer."""
    short, long = (values(f"curve C x0 0 s0 x8 8 s0{more}", 2, 4, 6) for more in ("", " u1.5"))
    assert short == pytest.approx([8 * (3 / 16 - 2 / 64), 4, 8 * (1 - 3 / 16 + 2 / 64)])
    assert long[1] > 4
    even = values("curve C x0 0 s0 v1.5 x8 8 s0 u1.5", 2, 4, 6)
    assert even[1] == pytest.approx(4, abs=1e-3) and even[0] < short[0] and even[2] > short[2]


def test_smooth_keys_do_not_overshoot_and_cubic_ones_are_a_spline():
    text = "curve {}x0 0 x4 8 x8 8 x12 0"
    fine = np.linspace(0, 12, 97)
    assert max(values(text.format(""), *fine)) == pytest.approx(8)
    assert max(values(text.format("R "), *fine)) > 8
    spline = values(text.format("C "), *fine)
    assert np.abs(np.diff(spline, 3)).max() < 0.02  # no jump of the second derivative
    for kind in ("", "R ", "C "):
        assert values(text.format(kind), 0, 4, 8, 12) == [0, 8, 8, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frame*2", "'frame.2' is an expression: bake it"),
        ("curve(frame)*2 x1 3", "in a curve: bake it"),
        ("parent.Tracker1.translate", "is an expression"),
        ("curve", "a curve without keys"),
        ("curve s3 x1 2", "before the first key"),
        ("curve x5 1 x3 2", "frame 3 after 5 in a curve: frames must increase"),
        ("curve x1 0 x1e8 2", "frames beyond"),
        ("curve x1 0 x2 1e300", "'1e300' in a curve is too large"),
        ("curve x1 nan", "'nan' in a curve"),
    ],
)
def test_other_texts_are_refused(text, message):
    with pytest.raises(InputError, match=message):
        parse_curve(text)
