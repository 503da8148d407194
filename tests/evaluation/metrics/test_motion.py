"""Temporal loss and warping error on clips whose motion is known."""

import cv2
import numpy as np
import pytest

from gencompositor_jax.evaluation.metrics import motion


@pytest.fixture(scope="module")
def pan() -> np.ndarray:
    """A smooth texture that moves by 2 pixels to the left per frame: uint8 [4, 64, 96, 3]."""
    texture = cv2.GaussianBlur(np.random.default_rng(0).random((64, 110, 3)).astype(np.float32), (0, 0), 3)
    texture = (texture - texture.min()) / (texture.max() - texture.min())
    return np.stack([texture[:, 2 * t : 2 * t + 96] * 255 for t in range(4)]).astype(np.uint8)


STILL = np.full((3, 32, 48, 3), 120, np.uint8)
ALL = np.ones(STILL.shape[:3], bool)


def test_flow_and_warp_follow_a_pan(pan):
    found = motion.flow(pan[0], pan[1])[16:-16, 16:-16]
    assert np.abs(found - (-2, 0)).mean() < 0.1
    # From the next frame back: first(x) is at second(x + flow(x)).
    moved = motion.warp(pan[1], motion.flow(pan[0], pan[1]))
    assert np.abs(moved - pan[0])[8:-8, 8:-8].mean() < 2


def test_temporal_loss_of_flicker_in_a_still_scene():
    """Without motion w is 1 on the mask, so a change by d in all channels is 3 d^2."""
    flicker = STILL.copy()
    flicker[1] += 4
    mask = ALL.copy()
    mask[:, :, 24:] = False
    assert motion.temporal_loss(flicker, STILL, mask) == pytest.approx([48, 48], rel=1e-4)
    flicker[1, :, :24] -= 4  # now only outside the mask
    assert motion.temporal_loss(flicker, STILL, mask) == pytest.approx([0, 0], abs=1e-6)
    assert np.isnan(motion.temporal_loss(STILL, STILL, ~ALL)).all()


def test_temporal_loss_weights_pixels_by_how_well_the_ground_truth_is_warped():
    """Where the ground truth changes by e, w is exp(-e): squared in the sum, once in its divisor."""
    truth = STILL.copy()
    truth[1] += 51  # a fifth of the range
    flicker = STILL.copy()
    flicker[1] += 10
    expected = 300 * np.exp(-0.2)
    assert motion.temporal_loss(flicker, truth, ALL)[0] == pytest.approx(expected, rel=0.02)


def test_warping_error_is_small_along_the_motion_and_grows_with_flicker(pan):
    assert motion.warping_error(pan).max() < 1e-3
    flicker = pan.copy()
    flicker[1] = np.clip(flicker[1].astype(int) + 25, 0, 255).astype(np.uint8)
    by_truth = motion.warping_error(flicker, pan)
    assert by_truth[:2].min() > 0.02 and by_truth[2] < 1e-3


def test_pixels_that_leave_the_frame_or_lie_at_a_motion_boundary_are_not_visible():
    ahead = np.zeros((32, 48, 2), np.float32)
    assert motion.visible(ahead, ahead).all()
    ahead[:, 24:, 0] = 5  # moves right, nothing moves back
    seen = motion.visible(ahead, np.zeros_like(ahead))
    assert seen[:, :23].all() and not seen[:, 23:].any()
