from typing import Any

import jax
import ml_collections
import numpy as np
import pytest

from gencompositor_jax import sharding
from gencompositor_jax.data_pipelines.source import ClipArrays
from gencompositor_jax.errors import InputError
from gencompositor_jax.training.validation import ATTEMPTS, Validation, fixed_clips, score


class Squares:
    """Record i is a square whose colour is i, on grey. Some can't be read, some have an empty mask."""

    def __init__(self, count: int = 10, broken: tuple[int, ...] = (), empty: tuple[int, ...] = ()) -> None:
        self.count, self.broken, self.empty = count, broken, empty

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"square {index}"

    def read(self, index: int, rng: np.random.Generator, removal: bool) -> ClipArrays:
        assert not removal
        if index in self.broken:
            raise InputError(f"square {index}: truncated")
        mask = np.zeros((5, 32, 48), bool)
        if index not in self.empty:
            x = rng.integers(0, 32)
            mask[:, 8:24, x : x + 16] = True
        scene = np.full((5, 32, 48, 3), 100, np.uint8)
        colour = np.array([10 * index, 200, 50], np.uint8)
        target = np.where(mask[..., None], colour, scene)
        foreground = np.where(np.roll(mask, 8, axis=2)[..., None], colour, np.uint8(255))
        return {"target": target, "scene": scene, "foreground": foreground, "mask": mask}


def config(clips: int = 3, seed: int = 0, steps: int = 2) -> Any:
    return ml_collections.ConfigDict(
        {"seed": seed, "compute_dtype": "float32", "validation": {"clips": clips, "steps": steps}}
    )


def record_of(clip: ClipArrays) -> int:
    """The record that a clip was read from, by its red value."""
    return int(clip["target"][clip["mask"]][0, 0]) // 10


def test_clips_are_spread_over_the_source_and_masked_as_in_inference():
    clips = fixed_clips(Squares(10), 3, seed=0)
    assert [record_of(clip) for clip in clips] == [0, 3, 6]
    for clip in clips:
        outside = ~clip["mask"]
        np.testing.assert_array_equal(clip["masked_background"][outside], clip["target"][outside])
        assert (clip["masked_background"][clip["mask"]] == 0).all()
        assert clip["mask"].sum() == 5 * 16 * 16 and (clip["background"] == 100).all()
    assert [record_of(clip) for clip in fixed_clips(Squares(4), 9, seed=0)] == [0, 1, 2, 3]


def test_only_the_seed_changes_the_random_choices_of_a_source():
    first, same, other = (fixed_clips(Squares(10), 3, seed) for seed in (1, 1, 2))
    for a, b in zip(first, same, strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)
    assert any((a["mask"] != c["mask"]).any() for a, c in zip(first, other, strict=True))


def test_a_record_that_cannot_be_used_is_replaced_by_the_next():
    assert [record_of(clip) for clip in fixed_clips(Squares(10, broken=(3, 4), empty=(5,)), 3, 0)] == [
        0,
        6,
        6,
    ]
    with pytest.raises(InputError, match=f"{ATTEMPTS} records.*truncated"):
        fixed_clips(Squares(10, broken=tuple(range(10))), 1, 0)
    with pytest.raises(InputError, match="square 7: its mask is empty"):
        fixed_clips(Squares(10, empty=tuple(range(10))), 1, 0)


def test_the_scores_are_the_psnr_inside_the_mask():
    clips = fixed_clips(Squares(10), 2, 0)
    exact = np.stack([clip["target"] for clip in clips])
    assert score(clips, exact)[1]["psnr/generated"] == 60.0
    # 10 grey values off inside the mask, any error outside it: 10 log10(255^2 / 10^2) dB.
    off = np.where(np.stack([c["mask"] for c in clips])[..., None], exact + 10, 255 - exact)
    scores = score(clips, off)[1]
    assert scores["psnr/generated"] == pytest.approx(28.13, abs=0.01)
    assert scores["psnr/composite"] < 20.0  # the paste-back blends in the grey scene at the border


def test_the_sheet_has_four_rows_for_each_clip():
    clips = fixed_clips(Squares(10), 2, 0)
    frames = np.stack([clip["target"] for clip in clips])
    one, two = score(clips[:1], frames[:1])[0], score(clips, frames)[0]
    assert one.dtype == np.uint8 and one.shape[1] == two.shape[1]
    assert two.shape[0] > 1.8 * one.shape[0]
    for colour in ((50, 200, 50), (0, 200, 50), (0, 0, 0), (100, 100, 100), (255, 255, 255)):
        assert (two == colour).all(axis=-1).sum() > 1000, colour


@pytest.fixture(scope="module")
def sampled(small_model) -> tuple[np.ndarray, dict[str, float]]:
    return Validation(config(), small_model.arch, Squares()).sample(small_model.arrays)


def test_the_result_is_deterministic_and_depends_on_the_weights(small_model, sampled):
    validation = Validation(config(), small_model.arch, Squares())
    for _ in range(2):
        sheet, scores = validation.sample(small_model.arrays)
        np.testing.assert_array_equal(sheet, sampled[0])
        assert scores == sampled[1]
    others = jax.tree.map(lambda x: 2 * x, small_model.arrays)
    assert validation.sample(others)[1] != sampled[1]


def test_the_result_on_a_mesh_is_the_same_up_to_rounding(small_model, sampled):
    mesh = sharding.make_mesh({"data": 2, "fsdp": 4})
    arrays = jax.device_put(small_model.arrays, sharding.shardings(small_model.arrays, mesh))
    with jax.set_mesh(mesh):
        _, scores = Validation(config(), small_model.arch, Squares()).sample(arrays)
    assert scores == pytest.approx(sampled[1], abs=0.02)
