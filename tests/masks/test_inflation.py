"""Properties of inflated, latent and token masks; tests/parity compares them with recordings."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from gencompositor_jax import arch
from gencompositor_jax.errors import InputError
from gencompositor_jax.masks import inflation as masks
from gencompositor_jax.masks.latent import latent_mask, token_mask

SMALL = arch.tiny().inflation
RELEASED = arch.Inflation()
PRESETS = pytest.mark.parametrize("inflation", [SMALL, RELEASED], ids=["tiny", "released"])

clips = arrays(bool, st.tuples(st.integers(1, 2), st.integers(1, 40), st.integers(1, 40)))


def test_released_rule_samples_the_recorded_frames_of_49():
    frame_number = np.broadcast_to(np.arange(49)[:, None, None], (49, 8, 8))
    sampled = latent_mask(frame_number, 4, 8)[:, 0, 0]
    assert sampled.tolist() == [0, 3, 7, 11, 15, 18, 22, 26, 30, 33, 37, 41, 45]


@PRESETS
@settings(max_examples=60, deadline=None)
@given(mask=clips)
def test_inflation_contains_the_cleaned_mask(inflation, mask):
    grown = masks.inflate(mask, inflation)
    assert grown.shape == mask.shape and grown.dtype == bool
    assert not (masks.clean(mask, inflation) & ~grown).any()
    assert not (masks.clean(mask, inflation) & ~mask).any()


@PRESETS
@settings(max_examples=60, deadline=None)
@given(data=st.data(), mask=clips)
def test_inflation_grows_with_the_mask(inflation, data, mask):
    larger = mask | data.draw(arrays(bool, mask.shape))
    assert not (masks.inflate(mask, inflation) & ~masks.inflate(larger, inflation)).any()


@settings(max_examples=60, deadline=None)
@given(patch=arrays(bool, (1, 9, 9)), dy=st.integers(0, 12), dx=st.integers(0, 12))
def test_inflation_moves_with_the_mask_inside_the_frame(patch, dy, dx):
    def inflated(y: int, x: int) -> np.ndarray:
        frame = np.zeros((1, 40, 40), bool)
        frame[:, y : y + 9, x : x + 9] = patch
        return masks.inflate(frame, SMALL)

    start, moved = 8, inflated(8 + dy, 8 + dx)
    np.testing.assert_array_equal(np.roll(inflated(start, start), (dy, dx), axis=(1, 2)), moved)


@PRESETS
def test_outside_the_frame_there_is_no_mask(inflation):
    """A mask at the border grows as in a larger frame: one that OpenCV mirrors there would grow further."""
    plain = dataclasses.replace(inflation, opening=0, min_area=0.0, tau=0.5)
    wide = np.zeros((1, 160, 160), bool)
    wide[0, 61:63, 70:90] = True
    inside = np.s_[:, 60:100, 60:100]
    np.testing.assert_array_equal(masks.inflate(wide[inside], plain), masks.inflate(wide, plain)[inside])


def test_one_pixel_grows_to_the_window_cut_at_tau():
    frame = np.zeros((1, 101, 101), bool)
    frame[0, 50, 50] = True
    y, x = np.mgrid[-50:51, -50:51]
    in_window = (abs(y) <= 25) & (abs(x) <= 25)
    expected = in_window & (y**2 + x**2 <= 1108)  # exp(-d² / 200) >= 1 / 255
    grown = masks.inflate(frame, dataclasses.replace(RELEASED, opening=0, min_area=0.0))
    np.testing.assert_array_equal(grown[0], expected)


def test_higher_tau_and_smaller_sigma_grow_less():
    frame = np.zeros((1, 60, 60), bool)
    frame[0, 20:40, 20:40] = True
    areas = [
        masks.inflate(frame, dataclasses.replace(RELEASED, sigma=sigma, tau=tau)).sum()
        for sigma, tau in [(10, 1 / 255), (2, 1 / 255), (2, 0.5)]
    ]
    assert areas[0] > areas[1] > areas[2] >= frame.sum()


def test_an_empty_mask_stays_empty_and_a_clip_without_frames_has_none():
    assert not masks.inflate(np.zeros((2, 8, 8), np.uint8), RELEASED).any()
    assert masks.inflate(np.zeros((0, 8, 8), bool), RELEASED).shape == (0, 8, 8)


def test_inflation_does_not_modify_its_input():
    mask = np.zeros((1, 40, 40), bool)
    mask[0, 3, 3] = True
    before = mask.copy()
    masks.inflate(mask, RELEASED)
    np.testing.assert_array_equal(mask, before)


@given(
    mask=arrays(bool, (2, 3, 4)),
    frames=arrays(np.uint8, (2, 3, 4, 3)),
)
def test_blackened_frames_are_black_inside_and_untouched_outside(mask, frames):
    before = frames.copy()
    out = masks.blacken(frames, mask)
    assert out.dtype == np.uint8 and not out[mask].any()
    np.testing.assert_array_equal(out[~mask], before[~mask])
    np.testing.assert_array_equal(frames, before)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), t=st.integers(1, 4), factor=st.integers(1, 4), space=st.sampled_from([1, 2, 8]))
def test_union_contains_released_and_nothing_else_than_set_blocks(data, t, factor, space):
    mask = data.draw(arrays(bool, (factor * (t - 1) + 1, 2 * space, 3 * space)))
    union = latent_mask(mask, factor, space, "union")
    assert union.shape == (t, 2, 3)
    assert not (latent_mask(mask, factor, space, "released") & ~union).any()
    for i, j, k in np.ndindex(union.shape):
        frames = mask[:1] if i == 0 else mask[factor * (i - 1) + 1 : factor * i + 1]
        assert union[i, j, k] == frames[:, j * space : (j + 1) * space, k * space : (k + 1) * space].any()


def test_union_keeps_what_released_loses():
    mask = np.zeros((9, 8, 8), bool)
    mask[2, 5, 5] = True  # neither a sampled frame nor a top-left pixel
    assert not latent_mask(mask, 4, 8, "released").any()
    assert latent_mask(mask, 4, 8, "union").any()


@pytest.mark.parametrize("rule", ["released", "union"])
@pytest.mark.parametrize("dtype", [bool, np.float32])
def test_jax_arrays_batches_and_jit_give_the_same(rule, dtype):
    mask = np.random.default_rng(0).random((2, 9, 16, 24)) < 0.02
    latent = latent_mask(mask.astype(dtype), 4, 4, rule)
    assert latent.dtype == dtype
    tokens = token_mask(latent)

    @jax.jit
    def both(m):
        lm = latent_mask(m, 4, 4, rule)
        return lm, token_mask(lm)

    jax_latent, jax_tokens = both(jnp.asarray(mask.astype(dtype)))
    assert jax_latent.dtype == dtype and jax_tokens.dtype == bool
    np.testing.assert_array_equal(jax_latent, latent)
    np.testing.assert_array_equal(jax_tokens, tokens)
    np.testing.assert_array_equal(token_mask(latent_mask(mask[1], 4, 4, rule)), tokens[1])


@settings(max_examples=40, deadline=None)
@given(
    arrays(
        np.float32,
        array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=3),
        elements=st.floats(0, 1, width=32),
    )
)
def test_a_token_is_masked_where_any_pixel_of_its_patch_is(small):
    doubled = np.kron(small, np.array([[[0, 0], [0, 1]]], np.float32))  # one corner of each patch
    np.testing.assert_array_equal(token_mask(doubled), (small > 0).ravel())


@pytest.mark.parametrize(
    "change",
    [
        {"kernel": 50},
        {"kernel": -1},
        {"sigma": 0.0},
        {"sigma": float("nan")},
        {"tau": 0.0},
        {"tau": 1.5},
        {"opening": 4},
        {"opening": -3},
        {"min_area": -0.1},
        {"min_area": float("nan")},
    ],
)
def test_settings_out_of_range_are_named(change):
    with pytest.raises(InputError, match=f"{next(iter(change))}[=:]"):
        masks.inflate(np.zeros((1, 8, 8), bool), dataclasses.replace(RELEASED, **change))


@pytest.mark.parametrize(
    "mask", [np.zeros((8, 8), bool), np.zeros((1, 8, 8), np.float32), np.zeros((1, 0, 8), bool)]
)
def test_masks_of_another_shape_or_type_are_refused(mask):
    with pytest.raises(InputError, match="mask of"):
        masks.inflate(mask, RELEASED)


@pytest.mark.parametrize("shape", [(8, 16, 16), (9, 17, 16), (9, 16, 12)])
def test_latent_mask_refuses_sizes_that_do_not_fit(shape):
    with pytest.raises(InputError, match="4k\\+1 frames"):
        latent_mask(np.zeros(shape, bool), 4, 8)


def test_latent_mask_refuses_an_unknown_rule(rule: Any = "nearest"):
    with pytest.raises(InputError, match="nearest"):
        latent_mask(np.zeros((1, 8, 8), bool), 4, 8, rule)
