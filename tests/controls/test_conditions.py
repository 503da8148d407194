"""Conditions: what the network may see of the background, and what it may not."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gencompositor_jax import arch
from gencompositor_jax.controls.conditions import make_conditions
from gencompositor_jax.errors import InputError
from gencompositor_jax.masks.inflation import inflate
from gencompositor_jax.pixels import to_pixels

SMALL = arch.tiny().inflation
SHAPE = (2, 24, 32)


def clip(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SHAPE, 3), np.uint8)


@settings(max_examples=40, deadline=None)
@given(mask=arrays(bool, SHAPE, elements=st.booleans(), fill=st.just(False)).filter(np.any))
def test_the_background_is_black_inside_the_inflated_mask_and_itself_outside(mask):
    background, foreground = clip(0), clip(1)
    conditions = make_conditions(background, mask, foreground, SMALL)
    inside = inflate(mask, SMALL)
    assert [c.dtype for c in conditions[:3]] == [np.float32] * 3 and conditions.offsets is None
    np.testing.assert_array_equal(conditions.mask[..., 0], inside)
    assert (conditions.masked_background[inside] == -1).all()
    np.testing.assert_array_equal(to_pixels(conditions.masked_background)[~inside], background[~inside])
    np.testing.assert_array_equal(to_pixels(conditions.foreground), foreground)


def test_nothing_under_the_mask_reaches_the_network():
    mask = np.zeros(SHAPE, bool)
    mask[:, 8:16, 10:20] = True
    other = clip(0)
    inside = inflate(mask, SMALL)
    other[inside] = 255 - other[inside]
    one, two = (make_conditions(b, mask, clip(1), SMALL) for b in (clip(0), other))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def test_inputs_stay_as_they_were():
    background, foreground, mask = clip(0), clip(1), np.ones(SHAPE, bool)
    make_conditions(background, mask, foreground, SMALL)
    np.testing.assert_array_equal(background, clip(0))
    np.testing.assert_array_equal(foreground, clip(1))
    assert mask.all()


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"background": clip(0)[..., :2]}, "background"),
        ({"background": clip(0).astype(np.float32)}, "background"),
        ({"background": clip(0)[:0]}, "background"),
        ({"foreground": clip(0)[:1]}, "foreground"),
        ({"foreground": np.zeros((*SHAPE, 4), np.uint8)}, "foreground"),
        ({"target_mask": np.ones((2, 24, 31), bool)}, "mask"),
        ({"target_mask": np.ones((*SHAPE, 1), bool)}, "mask"),
        ({"target_mask": np.ones(SHAPE, np.float32)}, "mask"),
    ],
)
def test_what_does_not_fit_is_named(change, names):
    given = {"background": clip(0), "target_mask": np.ones(SHAPE, bool), "foreground": clip(1)} | change
    with pytest.raises(InputError, match=f"^{names}"):
        make_conditions(**given, inflation=SMALL)


def test_a_mask_of_specks_only_is_an_error_and_not_an_untouched_background():
    mask = np.zeros(SHAPE, bool)
    mask[:, 3, 3] = True
    make_conditions(clip(0), mask, clip(1), SMALL)
    with pytest.raises(InputError, match="--scale"):
        make_conditions(clip(0), mask, clip(1), dataclasses.replace(SMALL, opening=3))
