"""The held-out protocol at a plate's size."""

import cv2
import numpy as np
import pytest

from gencompositor_jax.checkpoints import Model
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.errors import InputError
from gencompositor_jax.evaluation import heldout, plate, report
from gencompositor_jax.evaluation.heldout import MODEL

FACTOR = 2


@pytest.fixture(scope="module")
def found(small_model: Model):
    return plate.evaluate(small_model, SamplingOptions(steps=1), clips=2, factor=FACTOR)


def test_the_report_has_the_keys_of_the_held_out_protocol(found, small_model: Model):
    assert {"mean_db", "model_gain_db", "clips", "protocol", "device"} <= found.keys()
    assert set(found["mean_db"]["paste"]) == set(heldout.REGIONS)
    assert (found["protocol"]["height"], found["protocol"]["model_height"]) == (64, 32)
    assert len(found["clips"]) == 2
    text = report.plate_table(found)
    assert "96 x 64, seen by the model at 48 x 32" in text and "gradient energy" in text


def test_the_plain_paste_covers_what_the_clip_covers(small_model: Model):
    """The input transformation puts the element where the clip has it."""
    arch = small_model.arch
    clip = plate.plate_clip(1, arch, 4)
    placed = plate.shot(clip, 1, arch)
    where = plate.regions(clip, arch)
    pasted = plate.shots.plain_paste(placed, clip.background.shape[1:3])
    difference = np.abs(pasted[..., 3] / 255 - clip.alpha)
    assert difference.mean() < 0.01 and where["silhouette"].any()
    assert not (where["target"] & where["ring"]).any()
    assert (where["silhouette"] & ~where["target"]).mean() < 0.01


def test_the_composite_is_the_background_outside_the_mask(small_model: Model):
    arch = small_model.arch
    clip = plate.plate_clip(0, arch, FACTOR)
    placed = plate.shot(clip, 0, arch)
    seen = plate.shots.shown(placed, clip.background)
    inside = plate.shots.conditions(placed, seen, arch).mask[..., 0] > 0
    made = plate.composites(clip, placed, seen, inside, plate.regions(clip, arch), arch, SamplingOptions())
    mask = plate.shots.mask_in_background(placed, inside, clip.background.shape[1:3])
    np.testing.assert_array_equal(made[MODEL][~mask], clip.background[~mask])
    assert (made[MODEL] != clip.background).any()


def test_blur_lowers_the_gradient_energy_and_noise_raises_flicker():
    rng = np.random.default_rng(0)
    still = np.repeat(rng.integers(0, 256, (1, 32, 48, 3), dtype=np.uint8), 4, axis=0)
    region = np.ones(still.shape[:3], bool)
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), 2) for frame in still])
    assert plate.gradient_energy(blurred, region) < 0.2 * plate.gradient_energy(still, region)
    assert plate.flicker(still, region) == 0
    moved = still.copy()
    moved[1] += 3
    apart = moved[1].astype(float) - still[0]
    assert plate.flicker(moved, region) == pytest.approx(np.sqrt(2 / 3 * (apart**2).mean()))
    region[1] = False
    assert plate.flicker(moved, region) == 0


@pytest.mark.parametrize(("changes", "name"), [({"clips": 0}, "--clips"), ({"factor": 17}, "--plate")])
def test_bad_input(changes, name):
    with pytest.raises(InputError, match=name):
        plate.run(**changes)
