"""A point and a box cut out what is there, and follow it."""

import numpy as np
import pytest

from gencompositor_jax.controls.element.segmenters.grabcut import followed
from gencompositor_jax.controls.element.segmenters.request import Box, Point


@pytest.mark.parametrize("request_", [Point(30, 36), Box(12, 18, 49, 55)], ids=["point", "box"])
@pytest.mark.parametrize("seen", [True, False], ids=["salient", "not salient"])
def test_the_disc_is_followed(clip, truth, request_, seen):
    found = followed(clip, request_, truth[0] & seen) >= 128
    shared = (found & truth).sum((1, 2)) / (found | truth).sum((1, 2))
    assert shared.min() > 0.85, shared


def test_a_box_of_the_whole_frame_and_beyond(clip, truth):
    found = followed(clip[:1], Box(-10, -10, 200, 200), np.zeros_like(truth[0]))
    assert found.shape == truth[:1].shape
