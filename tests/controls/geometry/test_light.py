"""The light of a clip: sums over frames, and what they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gencompositor_jax.controls.geometry import light

TOKEN, COUNT, SIZE = 8, 6, (48, 64)
Y, X = np.mgrid[: SIZE[0], : SIZE[1]] - np.array([23.5, 31.5])[:, None, None]


def clip(alpha: int = 255) -> tuple[np.ndarray, ...]:
    """The scene, the element with alpha, what a model draws that changes nothing, and the mask: a disc in the
    middle of a bright scene.
    """
    rng = np.random.default_rng(0)
    seen = rng.integers(120, 180, (COUNT, *SIZE, 3)).astype(np.uint8)
    disc = np.broadcast_to((alpha * (np.hypot(Y, X) < 9)).astype(np.uint8), (COUNT, *SIZE))[..., None]
    colours = rng.integers(60, 160, (COUNT, *SIZE, 3)).astype(np.uint8)
    inside = np.broadcast_to(np.hypot(Y, X) < 17, (COUNT, *SIZE))
    drawn = np.where(disc > 0, colours, seen)
    return seen, np.concatenate([colours, disc], axis=-1), drawn, inside


def found(seen: np.ndarray, paste: np.ndarray, drawn: np.ndarray, inside: np.ndarray) -> light.Light:
    result = light.light_of(light.measure(seen, paste, drawn, inside, TOKEN), TOKEN)
    assert result is not None
    return result


@given(st.floats(0.2, 5), st.integers(0, 999))
def test_gamma_is_the_one_with_the_mean(gamma, seed):
    x, weight = np.arange(1, 256) / 255, np.random.default_rng(seed).dirichlet(np.full(255, 0.2))
    own = light._gamma(x, weight @ x**gamma, weight)
    np.testing.assert_allclose(weight @ x**own, weight @ x**gamma, atol=1e-4)


def test_a_model_that_changes_nothing_has_no_light():
    own = found(*clip())
    np.testing.assert_allclose(own.offset, 0, atol=1e-3)
    np.testing.assert_allclose(own.gamma, 1, atol=1e-2)
    assert own.error == pytest.approx(0, abs=1e-9) and own.slight == light.SLIGHT[0]


@pytest.mark.parametrize("factor", [0.6, 1.4])
def test_a_model_that_lights_the_whole_element_is_believed(factor):
    seen, paste, drawn, inside = clip()
    lit = np.where(paste[..., 3:] > 0, np.clip(factor * drawn, 0, 255), drawn).astype(np.uint8)
    own = found(seen, paste, lit, inside)
    expected = (factor - 1) * paste[paste[..., 3] > 0][:, :3].mean(axis=0) / 255
    np.testing.assert_allclose(own.offset, expected, atol=0.02)
    assert ((own.gamma > 1) == (factor < 1)).all()


def test_an_element_that_is_nowhere_solid_has_no_light():
    assert light.light_of(light.measure(*clip(alpha=100), TOKEN), TOKEN) is None


def test_without_an_outside_more_counts_as_noise():
    seen, paste, drawn, _ = clip()
    own = found(seen, paste, drawn, np.ones((COUNT, *SIZE), bool))
    assert own.error is None and own.slight >= light.SLIGHT[1]


def test_sums_of_pieces_are_those_of_the_clip():
    """Each piece sees the frames around it; only its own are counted."""
    videos = clip()
    whole = light.measure(*videos, TOKEN)
    pieces = [light.measure(*videos, TOKEN, part) for part in (slice(0, 2), slice(2, 5), slice(5, None))]
    sums = light.added(light.added(pieces[0], pieces[1]), pieces[2])
    for name, one, other in zip(light.Sums._fields, sums, whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(("dy", "noise"), [(1, False), (-1, True)], ids=["below", "above"])
def test_a_shadow_falls_below_and_what_darkens_above_is_noise(dy, noise):
    seen, paste, drawn, inside = clip()
    where = inside & (paste[..., 3] == 0) & (dy * Y > 3)
    own = found(seen, paste, np.where(where[..., None], 0.7 * drawn, drawn).astype(np.uint8), inside)
    assert own.sides[2] < 1e-6 and (own.sides[2] < -0.05) == (not noise)
    assert (own.slight > 2 * light.SLIGHT[0]) == noise


def test_away_from_the_element():
    away = light.away_from(clip()[1][..., 3].astype(np.float32) / 255, TOKEN)
    at = (np.hypot(Y, X) > 11) & (np.hypot(Y, X) < 17)
    outwards = np.stack([X, Y], axis=-1) / np.hypot(Y, X)[..., None]
    np.testing.assert_allclose(away[:, at], np.broadcast_to(outwards[at], away[:, at].shape), atol=0.1)


@given(st.floats(0.5, 4), st.sampled_from([0, 0.5, 1, 3]))
def test_smoothing_keeps_what_is_even_away_from_the_borders(width, frames):
    even = np.full((21, 33, 33), 0.7, np.float32)
    blurred = light.smooth(even, width, frames)
    assert blurred.shape == even.shape and blurred.max() < 0.7 + 1e-5
    np.testing.assert_allclose(blurred[10, 16, 16], 0.7, rtol=1e-3)
    assert blurred[10, 0, 16] < 0.95 * blurred[10, 16, 16]  # what is outside counts as 0
    assert (frames == 0) or blurred[0, 16, 16] < blurred[10, 16, 16]
