"""Easing of a layer and of key frames, and layers that are there in some frames only."""

import numpy as np
import pytest

from gencompositor_jax.controls.geometry.easing import ease
from gencompositor_jax.controls.geometry.path import resolve_path
from gencompositor_jax.controls.geometry.trajectory import Keyframe, Trajectory, from_json, from_points
from gencompositor_jax.errors import InputError

SIZE = (720, 480)
SLOPES = {"linear": (1, 1), "ease-in": (0, 1), "ease-out": (1, 0), "ease-in-out": (0, 0)}


@pytest.mark.parametrize("kind", SLOPES)
def test_an_easing_is_the_bezier_curve_with_handles_of_a_third(kind):
    s, (first, last) = np.linspace(0, 1, 1001), SLOPES[kind]
    handles = first / 3, 1 - last / 3
    bezier = 3 * (1 - s) ** 2 * s * handles[0] + 3 * (1 - s) * s**2 * handles[1] + s**3
    np.testing.assert_allclose(ease(kind, s), bezier, atol=1e-12)


def keys(*values: tuple[float, float, str | None]) -> Trajectory:
    made = [{"x": x, "y": 2 * x, "time": time, "easing": easing} for x, time, easing in values]
    return from_json(made, "here")


def test_each_key_frame_says_how_it_goes_on():
    trajectory = keys((0, 0, "linear"), (100, 0.25, "hold"), (200, 0.5, "ease-in-out"), (0, 1, "hold"))
    xy = resolve_path(trajectory, 9, SIZE).xy
    np.testing.assert_allclose(xy[:, 0], [0, 50, 100, 100, 200, 168.75, 100, 31.25, 0])
    np.testing.assert_allclose(xy[:, 1], 2 * xy[:, 0])


def test_without_an_easing_a_segment_is_the_smooth_curve():
    points = (0, 0.0), (80, 0.25), (100, 0.5), (300, 1.0)
    smooth = resolve_path(keys(*[(x, t, None) for x, t in points]), 17, SIZE).xy
    mixed = resolve_path(keys(*[(x, t, "linear" if t == 0.25 else None) for x, t in points]), 17, SIZE).xy
    outside = np.r_[0:5, 8:17]
    np.testing.assert_array_equal(mixed[outside], smooth[outside])
    np.testing.assert_allclose(mixed[4:9, 0], np.linspace(80, 100, 5))
    assert abs(mixed - smooth).max() > 1


def test_scale_and_rotation_ease_from_key_to_key():
    trajectory = Trajectory(
        (
            Keyframe(0, 0, 0.0, scale=1, easing="hold"),
            Keyframe(9, 9, 0.5, rotation=90, easing="linear"),
            Keyframe(9, 9, 1.0, scale=3, rotation=0),
        ),
        timing="time",
    )
    path = resolve_path(trajectory, 5, SIZE)
    np.testing.assert_allclose(path.scale, [1, 1, 1, 1, 3])  # the key in between has no scale
    np.testing.assert_allclose(path.rotation, [90, 90, 90, 45, 0])


@pytest.mark.parametrize("timing", ["arc", "frames", "time"])
def test_the_easing_of_a_layer_is_of_its_time(timing):
    points = np.linspace((0, 0), (300, 90), 7)
    made = from_points(points, timing="frames" if timing == "frames" else "arc")
    if timing == "time":
        made = keys(*[(x, i / 6, "linear") for i, (x, _) in enumerate(points)])
    even = resolve_path(made, 5, SIZE, (1.0, 2.0))
    eased = resolve_path(made, 5, SIZE, (1.0, 2.0), easing="ease-in-out")
    np.testing.assert_allclose(even.xy[:, 0], np.linspace(0, 300, 5), atol=1e-6)
    np.testing.assert_allclose(eased.xy[:, 0], 300 * ease("ease-in-out", np.linspace(0, 1, 5)), atol=1e-6)
    np.testing.assert_allclose(eased.scale, 1 + ease("ease-in-out", np.linspace(0, 1, 5)), atol=1e-6)


def test_an_easing_of_key_frames_without_times_is_refused():
    with pytest.raises(InputError, match="has an easing, timing is 'arc': give the key frames times"):
        from_json([{"x": 1, "y": 2, "easing": "hold"}], "here")
    with pytest.raises(InputError, match=r"keyframes\[0\].easing: 'fast'; choose one of linear, ease-in"):
        from_json([{"x": 1, "y": 2, "time": 0, "easing": "fast"}], "here")
