"""Maps are averaged along the motion, and not across what the flow can't follow."""

import numpy as np

from gencompositor_jax.controls.element.segmenters.steady import steadied


def test_a_map_that_is_missing_in_one_frame_comes_back(clip, truth):
    maps = np.where(truth, 255, 0).astype(np.uint8)
    broken = maps.copy()
    broken[2] = 0
    out = steadied(broken, clip)
    assert (out[2][truth[2]] >= 128).mean() > 0.8
    assert (out[2][~truth[2]] >= 128).mean() < 0.02


def test_steady_maps_stay(clip, truth):
    maps = np.where(truth, 255, 0).astype(np.uint8)
    assert ((steadied(maps, clip) >= 128) != truth).mean() < 0.01


def test_a_cut_is_not_averaged_across(clip, truth):
    """After a cut nothing of the shot before it is left."""
    other = np.full_like(clip, 200)
    other[:, ::2, ::3] = 255
    frames = np.concatenate([clip, other])
    maps = np.concatenate([np.where(truth, 255, 0), np.zeros_like(truth)]).astype(np.uint8)
    out = steadied(maps, frames)
    assert (out[5:] >= 128).mean() < 0.01
    assert ((out[:5] >= 128) != truth).mean() < 0.02


def test_one_frame_is_as_it_was(clip, truth):
    maps = np.where(truth[:1], 200, 3).astype(np.uint8)
    np.testing.assert_array_equal(steadied(maps, clip[:1]), maps)
