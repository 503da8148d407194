import numpy as np
import pytest

from gencompositor_jax.arch import tiny
from gencompositor_jax.data_pipelines import examples
from gencompositor_jax.data_pipelines.procedural import HELD_OUT_SEED, ProceduralClip, make_clip

INFLATION = tiny().inflation


@pytest.fixture(scope="module")
def clips() -> list[ProceduralClip]:
    return [make_clip(HELD_OUT_SEED + i) for i in range(24)]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def psnr(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> float:
    error = (a[where].astype(float) - b[where]) / 255
    return float(-10 * np.log10(np.mean(error**2)))


def test_clip_arrays_are_compact_and_the_mask_holds_the_silhouette(clips: list[ProceduralClip]) -> None:
    arrays = examples.clip_arrays(clips[0], INFLATION)
    for name in ("target", "background", "foreground"):
        assert arrays[name].dtype == np.uint8 and arrays[name].shape == (9, 64, 96, 3)
    for name in ("mask", "silhouette"):
        assert arrays[name].dtype == np.bool_ and arrays[name].shape == (9, 64, 96)
    assert (arrays["mask"] >= arrays["silhouette"]).all() and (arrays["mask"] > arrays["silhouette"]).any()


def test_mask_and_foreground_agree_in_size(clips: list[ProceduralClip]) -> None:
    """Where the whole element is in the frame, the foreground shows as many pixels as the silhouette has."""
    compared = 0
    for clip in clips:
        inside = (clip.alpha[:, [0, -1]] < 0.01).all((1, 2)) & (clip.alpha[..., [0, -1]] < 0.01).all((1, 2))
        shown = (clip.foreground.min(-1) < 200).sum((1, 2))
        for t in np.flatnonzero(inside):
            area = clip.silhouette[t].sum()
            assert abs(shown[t] - area) < 0.35 * area + 20  # white spots of the element count as white
            compared += 1
    assert compared > 20


def test_plain_paste_is_not_the_answer(clips: list[ProceduralClip]) -> None:
    tests = [examples.held_out_example(i, INFLATION) for i in range(len(clips))]
    assert np.mean([psnr(test["paste"], test["target"], test["silhouette"]) for test in tests]) < 18


def test_held_out_examples_are_the_held_out_clips(clips: list[ProceduralClip]) -> None:
    one, again = (examples.held_out_example(3, INFLATION) for _ in range(2))
    for name, value in one.items():
        np.testing.assert_array_equal(value, again[name])
    np.testing.assert_array_equal(one["target"], clips[3].target)


def test_test_example_has_what_evaluation_needs(clips: list[ProceduralClip]) -> None:
    for i, clip in enumerate(clips[:8]):
        test = examples.test_example(clip, rng(i), INFLATION)
        region = examples.clip_arrays(clip, INFLATION)["mask"]
        assert not (test["ring"] & region).any() and test["ring"].any()
        untouched = clip.alpha == 0
        np.testing.assert_array_equal(test["paste"][untouched], clip.background[untouched])
        assert (test["foreground"] != clip.foreground).any()
        assert not test["masked_background"][test["mask"]].any()


def test_ring_is_eight_pixels_wide() -> None:
    region = np.zeros((1, 64, 64), bool)
    region[0, 20:40, 20:40] = True
    ring = examples.ring(region)[0]
    assert ring[30, 40:48].all() and not ring[30, 48] and not ring[30, 39]
    assert ring[12:20, 30].all() and not ring[11, 30]


def test_jitter_moves_masks_a_little_and_often(clips: list[ProceduralClip]) -> None:
    silhouette = clips[0].silhouette
    changed = 0
    for seed in range(20):
        moved = examples.jitter(silhouette, rng(seed))
        overlap = (moved & silhouette).sum() / (moved | silhouette).sum()
        assert overlap > 0.6
        changed += int(overlap < 1)
    assert changed > 14


def test_with_a_cell_an_example_differs_by_its_foreground_alone() -> None:
    plain = examples.held_out_example(3, INFLATION)
    offset = examples.held_out_example(3, INFLATION, cell=(4, 8))
    assert offset.keys() - plain.keys() == {"offsets"}
    for name in plain.keys() - {"foreground"}:
        np.testing.assert_array_equal(plain[name], offset[name])
    for t in range(9):  # the paste shows the same pixels at their place
        dy, dx = 8 * offset["offsets"][-(-t // 4)]
        whole = (offset["foreground"][t] < 250).any(-1)
        rows, columns = np.nonzero(whole)
        inside = (rows + dy >= 0) & (rows + dy < 64) & (columns + dx >= 0) & (columns + dx < 96)
        rows, columns = rows[inside], columns[inside]
        difference = offset["foreground"][t][rows, columns] - plain["paste"][t][
            rows + dy, columns + dx
        ].astype(int)
        assert np.median(np.abs(difference)) <= 1
