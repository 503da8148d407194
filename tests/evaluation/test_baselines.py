import cv2
import numpy as np
import pytest

from gencompositor_jax.arch import tiny
from gencompositor_jax.data_pipelines.examples import TestExample as Example
from gencompositor_jax.data_pipelines.examples import held_out_example
from gencompositor_jax.evaluation import baselines, heldout, metrics

INFLATION = tiny().inflation


@pytest.fixture(scope="module", params=[1, 10])  # the element of number 1 touches the border of the frame
def case(request) -> tuple[Example, dict[str, np.ndarray], dict[str, np.ndarray]]:
    example = held_out_example(request.param, INFLATION)
    regions = heldout.scored_regions(example, INFLATION)
    return example, regions, heldout.baseline_composites(example, regions)


def test_baselines_are_the_background_outside_the_target_region(case):
    example, regions, composites = case
    assert tuple(composites) == heldout.BASELINES
    outside = ~regions["target"]
    assert outside.any()
    for name, frames in composites.items():
        assert frames.dtype == np.uint8
        np.testing.assert_array_equal(frames[outside], example["background"][outside], err_msg=name)
        changed = (frames != example["background"]).any(-1)[regions["silhouette"]].mean()
        assert changed == 0 if name == "background" else changed > 0.9, name


def test_baselines_do_not_change_the_example(case):
    example, regions, _ = case
    before = {name: value.copy() for name, value in example.items()}
    heldout.baseline_composites(example, regions)
    for name, value in before.items():
        np.testing.assert_array_equal(example[name], value, err_msg=name)


@pytest.mark.parametrize("region", ["target", "silhouette"])
def test_no_single_colour_scores_higher_than_the_oracle(case, region):
    example, regions, composites = case
    inside, target = regions[region], example["target"]
    oracle = composites["region_mean" if region == "target" else "element_mean"]
    best = metrics.psnr(oracle, target, inside)
    colour = oracle[inside][0].astype(int)
    assert (oracle[inside] == colour).all()
    rng = np.random.default_rng(0)
    steps = [*np.eye(3, dtype=int), *-np.eye(3, dtype=int), *rng.integers(-40, 41, (20, 3))]
    for step in steps:
        other = oracle.copy()
        other[inside] = np.clip(colour + step, 0, 255)
        assert metrics.psnr(other, target, inside) <= best


def test_blending_the_background_into_itself_changes_nothing(case):
    example, regions, _ = case
    background = example["background"]
    blended = baselines.seamless_clone(background, background, regions["target"])
    assert np.abs(blended.astype(int) - background).max() <= 2


def test_blending_takes_the_colour_of_the_surroundings_and_keeps_the_pattern():
    """A dark chequered patch blended into a light background: light on average, with the same pattern."""
    rows, columns = np.mgrid[:48, :64] // 4
    source = np.repeat((40 + 40 * ((rows + columns) % 2))[None, ..., None], 3, -1).astype(np.uint8)
    background = np.full((1, 48, 64, 3), 180, np.uint8)
    region = np.zeros((1, 48, 64), bool)
    region[0, 8:33, 20:53] = True
    blended = baselines.seamless_clone(background, source, region)[region][:, 0].astype(float)
    pattern = source[region][:, 0].astype(float)
    assert abs(blended.mean() - 180) < 30
    assert np.corrcoef(blended, pattern)[0, 1] > 0.7


def test_blending_at_the_border_of_a_frame_and_with_an_empty_region():
    background = np.full((2, 32, 48, 3), 90, np.uint8)
    source = background.copy()
    cv2.circle(source[0], (0, 31), 11, (200, 40, 40), -1)
    region = np.zeros((2, 32, 48), bool)
    region[0, 14:, :18] = True
    blended = baselines.seamless_clone(background, source, region)
    np.testing.assert_array_equal(blended[1], background[1])
    assert (blended[0, 24:, :8, 0] > blended[0, 24:, :8, 2] + 50).all()  # red up to the border


def test_colour_transfer_gives_the_element_the_statistics_of_the_scene():
    """A dull bluish element in a warm scene of high contrast: its mean and spread become the scene's."""
    rng = np.random.default_rng(0)
    background = np.clip(rng.normal((170, 120, 70), 30, (2, 48, 64, 3)), 0, 255).astype(np.uint8)
    placed = np.zeros((2, 48, 64, 4), np.uint8)
    placed[:, 10:38, 16:48, :3] = np.clip(rng.normal((80, 90, 120), 8, (2, 28, 32, 3)), 0, 255)
    placed[:, 10:38, 16:48, 3] = 255
    solid = placed[..., 3] > 0
    result = baselines.color_transfer(background, placed)
    np.testing.assert_array_equal(result[~solid], background[~solid])
    assert np.abs(result[solid].mean(0) - background.mean((0, 1, 2))).max() < 4
    assert result[solid].std(0).mean() == pytest.approx(background.std((0, 1, 2)).mean(), rel=0.3)
    before, after = placed[solid][:, 1], result[solid][:, 1]
    assert np.corrcoef(before, after)[0, 1] > 0.7  # the pattern stays


def test_colour_transfer_of_an_element_with_the_scene_s_own_colours_changes_nothing():
    background = np.random.default_rng(1).integers(20, 236, (1, 32, 32, 3)).astype(np.uint8)
    placed = np.concatenate([background, np.full((1, 32, 32, 1), 255, np.uint8)], -1)
    assert np.abs(baselines.color_transfer(background, placed).astype(int) - background).max() <= 1
    placed[..., 3] = 0
    np.testing.assert_array_equal(baselines.color_transfer(background, placed), background)
