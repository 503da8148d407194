import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gencompositor_jax.controls.geometry.curves import arc_path, interpolate
from tests.parity.released_controls import released_points

coordinates = st.floats(-200, 1500, allow_nan=False)
point_lists = st.lists(st.tuples(coordinates, coordinates), min_size=2, max_size=8).map(np.array)


def length(points: np.ndarray) -> float:
    return float(np.hypot(*np.diff(points, axis=0).T).sum())


@given(point_lists)
@settings(max_examples=100, deadline=None)
def test_curve_runs_from_the_first_to_the_last_point_through_all(points: np.ndarray) -> None:
    assume(length(points) > 1)
    fine, shares = arc_path(points, np.linspace(0, 1, 2000))
    np.testing.assert_allclose(fine[[0, -1]], points[[0, -1]], atol=1e-5)
    assert shares[0] == 0 and shares[-1] == pytest.approx(1) and (np.diff(shares) >= 0).all()
    step = length(fine) / 1999
    for point, share in zip(points, shares, strict=True):
        np.testing.assert_allclose(fine[round(share * 1999)], point, atol=1.1 * step + 1e-3)


@given(point_lists)
@settings(max_examples=100, deadline=None)
def test_speed_is_constant(points: np.ndarray) -> None:
    """Equal times cover equal arc lengths."""
    assume(length(points) > 1)
    fine, _ = arc_path(points, np.linspace(0, 1, 4001))
    along = np.append(0, np.cumsum(np.hypot(*np.diff(fine, axis=0).T)))
    np.testing.assert_allclose(along / along[-1], np.linspace(0, 1, 4001), atol=2e-3)


@given(point_lists)
@settings(max_examples=100, deadline=None)
def test_curve_does_not_overshoot(points: np.ndarray) -> None:
    assume(length(points) > 1)
    fine, _ = arc_path(points, np.linspace(0, 1, 500))
    assert (fine >= points.min(axis=0) - 1e-6).all() and (fine <= points.max(axis=0) + 1e-6).all()


def test_points_on_a_line_are_evenly_spaced() -> None:
    xy, _ = arc_path(np.array([(0.0, 0.0), (30.0, 40.0)]), np.linspace(0, 1, 6))
    np.testing.assert_allclose(xy, np.linspace((0, 0), (30, 40), 6), atol=1e-6)


def test_repeated_and_standing_points() -> None:
    xy, shares = arc_path(np.array([(5.0, 5.0), (5.0, 5.0), (9.0, 5.0), (9.0, 5.0)]), np.linspace(0, 1, 5))
    np.testing.assert_allclose(xy, [(5, 5), (6, 5), (7, 5), (8, 5), (9, 5)], atol=1e-6)
    np.testing.assert_allclose(shares, [0, 0, 1, 1])
    xy, shares = arc_path(np.array([(5.0, 5.0)] * 3), np.linspace(0, 1, 4))
    np.testing.assert_array_equal(xy, [(5, 5)] * 4)
    np.testing.assert_array_equal(shares, [0, 0.5, 1])


def test_one_frame_is_the_first_point() -> None:
    np.testing.assert_array_equal(
        arc_path(np.array([(1.0, 2.0), (9.0, 9.0)]), np.linspace(0, 1, 1))[0], [(1, 2)]
    )


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-9, 9)), min_size=1, max_size=7))
@settings(max_examples=100, deadline=None)
def test_interpolation_passes_its_keys_and_stays_between_them(keys: list[tuple[float, float]]) -> None:
    times, values = np.array(sorted(keys)).T
    assume((np.diff(times) > 1e-3).all())
    np.testing.assert_allclose(interpolate(times, values, times), values, atol=1e-9)
    fine = np.linspace(0, 1, 301)
    out = interpolate(times, values, fine)
    assert (out[fine <= times[0]] == values[0]).all()
    np.testing.assert_allclose(out[fine >= times[-1]], values[-1], atol=1e-9)
    for a, b, low, high in zip(times, times[1:], values, values[1:], strict=False):
        between = out[(fine >= a) & (fine <= b)]
        assert (between >= min(low, high) - 1e-9).all() and (between <= max(low, high) + 1e-9).all()


def test_more_clicks_than_frames_keep_their_curve() -> None:
    """150 clicks on a circle for 49 frames: the release keeps the last segment only, we keep the circle."""
    angle = np.linspace(0, 2 * np.pi, 150)
    clicks = np.stack([300 + 100 * np.cos(angle), 200 + 100 * np.sin(angle)], axis=1)
    xy, _ = arc_path(clicks, np.linspace(0, 1, 49))
    np.testing.assert_allclose(np.hypot(*(xy - (300, 200)).T), 100, atol=0.2)
    np.testing.assert_allclose(np.hypot(*np.diff(xy, axis=0).T), 2 * np.pi * 100 / 48, rtol=0.01)
    released = released_points(clicks.astype(int), 49)
    assert len(released) == 49 and np.ptp(released, axis=0).max() < 10
