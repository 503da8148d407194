import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines import examples
from data_pipelines.procedural import HELD_OUT_SEED, ProceduralClip, make_clip
from gencompositor_jax.arch import tiny

INFLATION = tiny().inflation
STEP = ("target", "masked_background", "foreground", "mask", "silhouette")


@pytest.fixture(scope="module")
def clips() -> list[ProceduralClip]:
    return [make_clip(HELD_OUT_SEED + i) for i in range(24)]


@pytest.fixture(scope="module")
def batch(clips: list[ProceduralClip]) -> examples.ClipArrays:
    arrays = [examples.clip_arrays(clip, INFLATION) for clip in clips]
    return {name: np.stack([one[name] for one in arrays]) for name in arrays[0]}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def psnr(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> float:
    error = (a[where].astype(float) - b[where]) / 255
    return float(-10 * np.log10(np.mean(error**2)))


def test_training_example_is_what_conditions_need(clips: list[ProceduralClip]) -> None:
    example = examples.training_example(clips[0], rng(), INFLATION)
    assert tuple(example) == STEP
    for name in ("target", "masked_background", "foreground"):
        assert example[name].dtype == np.uint8 and example[name].shape == (9, 64, 96, 3)
    for name in ("mask", "silhouette"):
        assert example[name].dtype == np.bool_ and example[name].shape == (9, 64, 96)
    assert (example["mask"] >= example["silhouette"]).all() and (
        example["mask"] > example["silhouette"]
    ).any()


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


def test_background_is_black_inside_the_mask_and_empty_outside(batch: examples.ClipArrays) -> None:
    out = examples.augment(batch, rng(), flip=False)
    assert not out["masked_background"][out["mask"]].any()
    np.testing.assert_array_equal(out["masked_background"][~out["mask"]], batch["background"][~batch["mask"]])


def test_removal_samples_show_white_and_ask_for_the_empty_scene(batch: examples.ClipArrays) -> None:
    out = examples.augment(batch, rng(), removal=1.0, flip=False)
    assert (out["foreground"] == 255).all()
    np.testing.assert_array_equal(out["target"], batch["background"])
    np.testing.assert_array_equal(out["mask"], batch["mask"])


def test_a_fifth_of_the_samples_is_removal(batch: examples.ClipArrays) -> None:
    small = {name: value[:, :1, ::16, ::16] for name, value in batch.items()}
    draws = [examples.augment(small, np.random.default_rng(i)) for i in range(40)]
    white = np.concatenate([(d["foreground"] == 255).all((1, 2, 3, 4)) for d in draws])
    empty = np.array([(small["foreground"][i] == 255).all() for i in range(24)])
    share = white.reshape(40, 24)[:, ~empty].mean()
    assert abs(share - examples.REMOVAL_SHARE) < 0.06


def test_augmentation_leaves_the_cached_arrays_alone(batch: examples.ClipArrays) -> None:
    before = {name: value.copy() for name, value in batch.items()}
    examples.augment(batch, rng(3), cast=0.2)
    for name, value in batch.items():
        np.testing.assert_array_equal(value, before[name])


def test_augmentation_is_its_generators_state(batch: examples.ClipArrays) -> None:
    one, again, other = (examples.augment(batch, rng(seed), cast=0.1) for seed in (1, 1, 2))
    for name in STEP:
        np.testing.assert_array_equal(one[name], again[name])
    assert (one["foreground"] != other["foreground"]).any()


def test_one_gamma_a_clip_within_its_range(batch: examples.ClipArrays) -> None:
    out = examples.augment(batch, rng(), removal=0, flip=False)
    for before, after in zip(batch["foreground"], out["foreground"], strict=True):
        mid = (before > 60) & (before < 200)
        gammas = np.log(after[mid] / 255) / np.log(before[mid] / 255)
        assert np.ptp(np.quantile(gammas, [0.05, 0.95])) < 0.05
        assert 0.38 < np.median(gammas) < 1.92
        assert (after[before == 255] == 255).all()


def test_flips_move_all_arrays_together(batch: examples.ClipArrays) -> None:
    seen = set()
    for seed in range(6):
        out = examples.augment(batch, rng(seed), gamma_range=(1.0, 1.0), removal=0.0)
        for i in range(len(out["target"])):
            for mirror in (1, -1):
                for reverse in (1, -1):
                    turned = {k: v[i][::reverse, :, ::mirror] for k, v in batch.items()}
                    if all((turned[k] == out[k][i]).all() for k in ("target", "foreground", "mask")):
                        seen.add((mirror, reverse))
                        break
    assert seen == {(1, 1), (1, -1), (-1, 1), (-1, -1)}


@given(st.floats(0.2, 3.0))
@settings(max_examples=30, deadline=None)
def test_gamma_tables_keep_black_white_and_order(gamma: float) -> None:
    table = examples.gamma_tables(np.array(gamma))
    assert table[0] == 0 and table[255] == 255 and (np.diff(table.astype(int)) >= 0).all()


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
