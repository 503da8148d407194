"""Inflated masks, target masks and trajectories against the release; all are exact."""

import dataclasses
import itertools
import re

import cv2
import numpy as np
import pytest

from gencompositor_jax import arch
from gencompositor_jax.controls.conditions import make_conditions
from gencompositor_jax.masks import inflation
from gencompositor_jax.pixels import to_pixels
from tests.parity.released_controls import released_mask, released_points
from tests.recordings import explain, starts

pytestmark = pytest.mark.parity
RELEASED = arch.Inflation()
STAGES = ("thresholded", "opened", "filtered", "binary_mask")


@pytest.fixture(scope="module")
def grey(golden):
    # The release turns RGB to grey with the weights of BGR; the recorded clip has coloured parts.
    return np.stack(
        [cv2.cvtColor(f, cv2.COLOR_BGR2GRAY) for f in golden("preprocess_masks").arrays["mask_video"]]
    )


def test_every_stage_of_the_released_inflation(golden, grey):
    recorded = {stage: golden("preprocess_masks").arrays[stage] > 0 for stage in STAGES}
    np.testing.assert_array_equal(inflation.threshold(grey, RELEASED.threshold), recorded["thresholded"])
    opened = inflation.clean(grey, dataclasses.replace(RELEASED, min_area=0.0))
    np.testing.assert_array_equal(opened, recorded["opened"])
    np.testing.assert_array_equal(inflation.drop_small(opened, RELEASED.min_area), recorded["filtered"])
    np.testing.assert_array_equal(inflation.clean(grey, RELEASED), recorded["filtered"])
    np.testing.assert_array_equal(inflation.inflate(grey, RELEASED), recorded["binary_mask"])
    # Every stage changes the mask, so that each is tested.
    for before, after in itertools.pairwise(recorded.values()):
        assert (before != after).any()


def test_inflation_window_and_response(golden):
    case = golden("preprocess_masks")
    window = inflation.gaussian_window(RELEASED)
    np.testing.assert_allclose(np.outer(window, window), case.arrays["gaussian_kernel"][0, 0], atol=1e-6)
    frame = (case.arrays["filtered"][0] > 0).astype(np.float32)
    response = cv2.sepFilter2D(frame, cv2.CV_32F, window, window, borderType=cv2.BORDER_CONSTANT)
    recorded = case.arrays["gaussian_response_frame0"]  # rounded to float16
    np.testing.assert_allclose(response, recorded.astype(np.float32), rtol=2e-3, atol=1e-4)
    assert case.info["area_threshold"] == pytest.approx(RELEASED.min_area * frame.size)


def test_masked_background(golden, grey):
    """Black inside the inflated mask, unchanged outside.

    The foreground (`fg_padded`) isn't compared: the release squashes it to a square, here it keeps its aspect
    ratio.
    """
    arrays = golden("preprocess_masks").arrays
    conditions = make_conditions(arrays["video"], grey, arrays["fg_padded"], RELEASED)
    np.testing.assert_array_equal(to_pixels(conditions.masked_background), arrays["masked_video"])
    np.testing.assert_array_equal(conditions.mask[..., 0], arrays["binary_mask"] > 0)
    np.testing.assert_array_equal(to_pixels(conditions.foreground), arrays["fg_padded"])


@pytest.mark.parametrize("run", explain("movemask")["runs"])
def test_target_mask(golden, run):
    case = golden("movemask")
    arrays, info = case.arrays, case.info["runs"][run]
    script = re.fullmatch(r"scale([\d.]+)_\w+", run)  # the application's runs list their scales
    scales = info["scales"] if "scales" in info else [float(script[1])]
    rgb = np.ascontiguousarray(arrays["fg_video_bgr"][..., ::-1])
    size = tuple(int(n) for n in arrays["source_size_hw"])
    mask = released_mask(rgb, arrays["trajectory"], size, scales, run.rpartition("_")[2])
    np.testing.assert_array_equal(mask, arrays[run] > 0)
    assert mask.sum(axis=(1, 2)).tolist() == info["area"]


@pytest.mark.parametrize("name", starts("trajectory", "/points"))
def test_trajectory_through_clicks(golden, name):
    case = golden("trajectory")
    ours = released_points(case.arrays[f"{name}/points"], case.info["total_frames"])
    np.testing.assert_array_equal(ours, case.arrays[f"{name}/trajectory"])
