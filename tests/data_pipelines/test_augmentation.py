from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gencompositor_jax.data_pipelines.augmentation import Augmentation, Example, augment, gamma_augmentation
from gencompositor_jax.data_pipelines.source import ClipArrays
from gencompositor_jax.errors import InputError
from gencompositor_jax.masks import shapes

NOTHING = Augmentation(gamma=(1.0, 1.0), mask_shapes=0.0)


@pytest.fixture(scope="module")
def clip() -> ClipArrays:
    draw = np.random.default_rng(0)
    frames = draw.integers(0, 256, (3, 3, 16, 24, 3), dtype=np.uint8)
    mask = np.zeros((3, 16, 24), bool)
    mask[0, 4:9, 5:11] = mask[1, 5:10, 6:12] = mask[2, 6:11, 7:13] = True
    frames[2, :, :4] = 255  # white around the element
    return {"target": frames[0], "scene": frames[1], "foreground": frames[2], "mask": mask}


def drawn(clip: ClipArrays, seed: int = 0, **options: Any) -> Example:
    return augment(clip, np.random.default_rng(seed), Augmentation(**options))


def test_the_arrays_of_a_training_sample(clip):
    example = drawn(clip, gamma=(1.0, 1.0), mask_shapes=0.0)
    assert set(example) == {"target", "masked_background", "foreground", "mask"}
    for name in ("target", "foreground", "mask"):
        np.testing.assert_array_equal(example[name], clip[name])
    inside = clip["mask"]
    assert not example["masked_background"][inside].any()
    np.testing.assert_array_equal(example["masked_background"][~inside], clip["scene"][~inside])


def test_the_same_generator_gives_the_same_sample_and_the_clip_is_not_modified(clip):
    before = {name: value.copy() for name, value in clip.items()}
    options = {"mask_shapes": 1.0, "flip": True, "colour_cast": 0.1}
    one, again, other = (drawn(clip, seed, **options) for seed in (1, 1, 2))
    for name, value in one.items():
        np.testing.assert_array_equal(value, again[name])
        assert value.flags.c_contiguous
    assert (one["foreground"] != other["foreground"]).any()
    for name, value in clip.items():
        np.testing.assert_array_equal(value, before[name])


def test_one_gamma_a_clip_within_its_range(clip):
    before, gammas = clip["foreground"], []
    middle = (before > 60) & (before < 200)
    for seed in range(60):
        after = drawn(clip, seed, gamma=(0.4, 1.9))["foreground"]
        each = np.log(after[middle] / 255) / np.log(before[middle] / 255)
        assert np.ptp(np.quantile(each, [0.05, 0.95])) < 0.05
        assert (after[before == 255] == 255).all() and (after[before == 0] == 0).all()
        gammas.append(np.median(each))
    assert 0.38 < min(gammas) < 0.6 and 1.7 < max(gammas) < 1.92


def test_a_cast_is_a_gamma_per_channel(clip):
    plain = drawn(clip, 3)["foreground"]
    cast = drawn(clip, 3, colour_cast=0.3)["foreground"]
    middle = ((plain > 60) & (plain < 200)).all(-1)
    each = np.log(cast[middle] / 255) / np.log(plain[middle] / 255)
    assert np.ptp(np.median(each, axis=0)) > 0.05
    assert (np.ptp(np.quantile(each, [0.05, 0.95], axis=0), axis=0) < 0.06).all()
    assert (cast[clip["foreground"].min(-1) == 255] == 255).all()


def test_flips_move_all_arrays_together(clip):
    seen = set()
    for seed in range(24):
        out = drawn(clip, seed, gamma=(1.0, 1.0), mask_shapes=0.0, flip=True)
        for mirror in (1, -1):
            for reverse in (1, -1):
                turned = {name: value[::reverse, :, ::mirror] for name, value in clip.items()}
                if (turned["mask"] == out["mask"]).all():
                    np.testing.assert_array_equal(out["target"], turned["target"])
                    np.testing.assert_array_equal(out["foreground"], turned["foreground"])
                    outside = ~turned["mask"]
                    np.testing.assert_array_equal(out["masked_background"][outside], turned["scene"][outside])
                    seen.add((mirror, reverse))
    assert seen == {(1, 1), (1, -1), (-1, 1), (-1, -1)}


def test_a_fraction_of_the_masks_is_replaced_by_shapes(clip):
    """The masked background is black in the whole shape, and the target is unchanged."""
    changed = 0
    for seed in range(400):
        out = drawn(clip, seed, mask_shapes=0.3)
        assert not (clip["mask"] & ~out["mask"]).any()
        assert not out["masked_background"][out["mask"]].any()
        np.testing.assert_array_equal(out["target"], clip["target"])
        changed += bool((out["mask"] != clip["mask"]).any())
    assert abs(changed / 400 - 0.3) < 0.08


def test_shapes_are_those_of_mask_shapes(clip, monkeypatch):
    monkeypatch.setattr(shapes, "PROBABILITIES", {"rectangle": 1.0})
    out = drawn(clip, mask_shapes=1.0)
    for frame in out["mask"]:
        box = shapes.bounding_box(frame)
        assert box is not None and frame[box.top : box.bottom + 1, box.left : box.right + 1].all()


def test_other_arrays_of_a_source_are_passed_on(clip):
    moments = np.ones((1, 2, 3, 8), np.float16)
    out = augment({**clip, "target_moments": moments}, np.random.default_rng(0), NOTHING)
    np.testing.assert_array_equal(out["target_moments"], moments)
    with pytest.raises(InputError, match=r"data\.flip"):
        drawn({**clip, "target_moments": moments}, flip=True)


@given(st.floats(0.2, 3.0))
@settings(max_examples=30)
def test_gamma_augmentation_keeps_black_white_and_order(gamma):
    ramp = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 1, 256, 3)
    table = gamma_augmentation(ramp, np.full(3, gamma))[0, 0].astype(int)
    assert (table[0] == 0).all() and (table[255] == 255).all() and (np.diff(table, axis=0) >= 0).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gamma", (0.0, 1.0)),
        ("gamma", (1.9, 0.4)),
        ("gamma", (1.0, float("nan"))),
        ("removal", 1.2),
        ("removal", float("nan")),
        ("mask_shapes", -0.1),
        ("colour_cast", -1.0),
    ],
)
def test_settings_out_of_range_are_named(field, value):
    with pytest.raises(InputError, match=f"data.{field}="):
        Augmentation(**{field: value})
