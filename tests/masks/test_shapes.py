"""Mask-shape augmentation: properties of all shapes, and of each kind."""

from collections import Counter

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gencompositor_jax.masks import shapes

KINDS = pytest.mark.parametrize("kind", shapes.PROBABILITIES)
seeds = st.integers(0, 2**32 - 1)
clips = arrays(bool, st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40)))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def star(height: int = 96, width: int = 128, at: tuple[int, int] = (64, 48), size: int = 16) -> np.ndarray:
    """bool [height, width]: a star with deep notches, so that every shape adds something."""
    angle = np.arange(10) * np.pi / 5
    radius = np.where(np.arange(10) % 2, 0.4, 1.0) * size
    corners = np.array(at) + np.rint(radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1))
    frame = np.zeros((height, width), np.uint8)
    cv2.fillPoly(frame, [corners.astype(np.int32)], 1)
    return frame > 0


@settings(max_examples=100)
@given(mask=clips, seed=seeds)
def test_the_result_contains_the_mask_and_empty_frames_stay_empty(mask, seed):
    before = mask.copy()
    shaped = shapes.reshape(mask, rng(seed))
    assert shaped.shape == mask.shape and shaped.dtype == bool
    assert not (mask & ~shaped).any()
    np.testing.assert_array_equal(shaped.any(axis=(1, 2)), mask.any(axis=(1, 2)))
    np.testing.assert_array_equal(mask, before)


@KINDS
def test_draws_depend_on_the_generator_alone(kind):
    mask = star()[None]
    one, again, other = (shapes.apply(mask, kind, rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    left, right = rng(3), rng(3)  # the same draws for another mask
    shapes.apply(mask, kind, left)
    shapes.apply(np.zeros((2, 8, 8), bool), kind, right)
    assert left.random() == right.random()


def test_kinds_are_drawn_with_their_probabilities():
    shares = {
        "brush": 0.4,
        "random_brush": 0.3,
        "rectangle": 0.1,
        "ellipse": 0.1,
        "circle": 0.1,
    }  # the release's
    draw, count = rng(0), 4000
    seen = Counter(shapes.draw_kind(draw) for _ in range(count))
    assert set(seen) == set(shares)
    for kind, share in shares.items():
        assert abs(seen[kind] / count - share) < 4 * np.sqrt(share * (1 - share) / count)


def test_reshape_draws_among_all_kinds():
    """For every kind there is a seed with which `reshape` gives its result."""
    mask, seen = star()[None], set()
    for seed in range(60):
        drawn = rng(seed)
        kind = shapes.draw_kind(drawn)
        seen.add(kind)
        expected = shapes.apply(mask, kind, drawn)
        np.testing.assert_array_equal(shapes.reshape(mask, rng(seed)), expected)
    assert seen == set(shapes.PROBABILITIES)


@KINDS
@settings(max_examples=30)
@given(seed=seeds, dx=st.integers(-6, 6), dy=st.integers(-6, 6))
def test_a_clip_has_one_shape_that_moves_with_the_mask(kind, seed, dx, dy):
    size = (240, 240)
    moved = np.stack([star(*size, at=(120, 120)), star(*size, at=(120 + dx, 120 + dy))])
    shaped = shapes.apply(moved, kind, rng(seed))
    np.testing.assert_array_equal(np.roll(shaped[0], (dy, dx), axis=(0, 1)), shaped[1])


@KINDS
def test_the_shape_grows_with_the_mask(kind):
    size = (480, 480)
    clip = np.stack([star(*size, at=(240, 240), size=s) for s in (20, 40, 80)])
    for seed in range(5):
        added = (shapes.apply(clip, kind, rng(seed)) & ~clip).sum(axis=(1, 2))
        np.testing.assert_allclose(added[1:] / added[:-1], 4, rtol=0.35)


@KINDS
def test_the_outline_is_hidden_and_the_frame_is_not_filled(kind):
    mask = star()[None]
    sizes = [shapes.apply(mask, kind, rng(seed)).sum() / mask.sum() for seed in range(40)]
    assert np.mean(sizes) > 1.3 and min(sizes) > 1.0
    assert max(sizes) * mask.mean() < 0.6


@pytest.mark.parametrize("seed", range(5))
def test_rectangles_ellipses_and_circles_have_their_areas(seed):
    mask = star(at=(60, 44))[None]
    rectangle = shapes.apply(mask, "rectangle", rng(seed))[0]
    box = shapes.bounding_box(rectangle)
    assert box is not None and rectangle[box.top : box.bottom + 1, box.left : box.right + 1].all()
    for kind in ("ellipse", "circle"):
        shape = shapes.apply(mask, kind, rng(seed))[0]
        box = shapes.bounding_box(shape)
        assert box is not None
        assert shape.sum() == pytest.approx(np.pi * box.half.prod(), rel=0.05)
    wide = np.zeros((1, 128, 128), bool)
    wide[0, 60:70, 40:80] = True
    for kind, proportions in (("ellipse", 4.0), ("circle", 1.0)):
        box = shapes.bounding_box(shapes.apply(wide, kind, rng(seed))[0])
        assert box is not None and box.half[0] / box.half[1] == pytest.approx(proportions, rel=0.1)


@settings(max_examples=30)
@given(seed=seeds)
def test_brushes_stay_at_the_mask(seed):
    """Strokes are connected to the mask; random ones start within 0.7 of the box, so inside a disc."""
    mask = star(240, 240, at=(120, 120), size=40)
    brush = shapes.apply(mask[None], "brush", rng(seed))[0]
    count, _ = cv2.connectedComponents(brush.astype(np.uint8))
    assert count == 2  # the background and one
    box = shapes.bounding_box(mask)
    assert box is not None
    near = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    assert near[brush].max() < 0.3 * box.side
    disc = cv2.circle(np.zeros((240, 240), np.uint8), (120, 120), 40, 1, -1) > 0
    wandering = shapes.apply(disc[None], "random_brush", rng(seed))[0]
    count, _ = cv2.connectedComponents(wandering.astype(np.uint8))
    assert count == 2
