"""Masks: the same shape from whatever a program writes it as."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gencompositor_jax.controls.element.loading import load_element
from gencompositor_jax.controls.footage import load_mask
from gencompositor_jax.controls.media.masks import read_mask
from gencompositor_jax.controls.media.video import Video, probe
from gencompositor_jax.errors import InputError

DATA = Path(__file__).parents[1] / "data"
H, W = 12, 16
SHAPE = np.zeros((H, W), bool)
SHAPE[3:9, 4:11] = True
SOFT = np.where(SHAPE, 255, 0).astype(np.uint8)
SOFT[3, 4:11] = 96  # a soft edge


def painted(path: Path, kind: str) -> Path:
    path = path / ("mask.tif" if "float" in kind else "mask.png")
    clear = np.zeros((H, W, 1), np.uint8)
    if kind == "8-bit":
        image = Image.fromarray(SOFT)
    elif kind == "16-bit":
        image = Image.fromarray(SOFT.astype(np.uint16) * 257)
    elif kind == "8-bit values in 16":
        image = Image.fromarray(SOFT.astype(np.uint16))
    elif kind == "float":
        image = Image.fromarray(SOFT.astype(np.float32) / 255)
    elif kind == "float to 255":
        image = Image.fromarray(SOFT.astype(np.float32))
    elif kind == "grey palette":
        image = Image.fromarray(SOFT).convert("P")
    elif kind == "alpha over white":
        image = Image.fromarray(np.concatenate([np.full((H, W, 3), 255, np.uint8), SOFT[..., None]], -1))
    elif kind == "alpha over black":
        image = Image.fromarray(np.concatenate([np.repeat(clear, 3, -1), SOFT[..., None]], -1))
    elif kind == "white within alpha":
        visible = np.full((H, W, 1), 255, np.uint8)
        visible[0] = 0
        colours = np.repeat(SOFT[..., None], 3, -1)
        colours[0] = 255  # where nothing is visible
        image = Image.fromarray(np.concatenate([colours, visible], -1))
    else:
        assert kind == "opaque alpha"
        image = Image.fromarray(np.concatenate([np.repeat(SOFT[..., None], 3, -1), 255 - clear], -1))
    image.save(path)
    return path


@pytest.mark.parametrize(
    "kind",
    [
        "8-bit",
        "16-bit",
        "8-bit values in 16",
        "float",
        "float to 255",
        "grey palette",
        "alpha over white",
        "alpha over black",
        "white within alpha",
        "opaque alpha",
    ],
)
def test_a_soft_mask_stays_soft_in_every_format(tmp_path, kind):
    assert np.array_equal(read_mask(probe(painted(tmp_path, kind))), SOFT[None])


@pytest.mark.parametrize("kind", ["palette", "1 bit", "label 1", "label 1 in 16 bits"])
def test_labels_are_inside(tmp_path, kind):
    path = tmp_path / "mask.png"
    if kind == "palette":  # objects 1 and 2 in dark colours, as in DAVIS
        image = Image.fromarray(np.where(SHAPE, 1, 0).astype(np.uint8) + (SHAPE & (np.arange(W) > 7)))
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 60, 0])
    else:
        values = {"1 bit": bool, "label 1": np.uint8, "label 1 in 16 bits": np.uint16}[kind]
        image = Image.fromarray(SHAPE.astype(values))
    image.save(path)
    assert np.array_equal(read_mask(probe(path)), 255 * SHAPE[None].astype(np.uint8))


def test_a_removal_takes_the_shape_in_alpha():
    background = Video(np.zeros((5, 180, 320, 3), np.uint8), 24, "background")
    mask = load_mask(DATA / "rm_wa.png", background)
    assert mask.shape == (5, 180, 320)
    assert np.array_equal(mask[0], np.asarray(Image.open(DATA / "rm_wa.png"))[..., 3] >= 128)
    assert 0 < mask[0].sum() < 5200


def test_an_element_is_cut_out_by_the_shape_in_alpha(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "clip.png")
    element = load_element(tmp_path / "clip.png", mask=DATA / "malpha.png")
    alpha = np.asarray(Image.open(DATA / "malpha.png"))[..., 3]
    rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    found = element.frames.shape[1:3]
    assert abs(found[0] - np.ptp(rows) - 1) <= 4 and abs(found[1] - np.ptp(columns) - 1) <= 4


def test_a_soft_mask_gives_the_element_its_alpha(tmp_path):
    Image.fromarray(np.full((H, W, 3), 90, np.uint8)).save(tmp_path / "clip.png")
    element = load_element(tmp_path / "clip.png", mask=painted(tmp_path, "16-bit"))
    assert np.array_equal(element.frames[0, ..., 3], SOFT[3:9, 4:11])


def test_a_mask_that_moves_in_alpha(tmp_path, write_clip):
    frames = np.full((4, 32, 48, 4), 255, np.uint8)
    for t, frame in enumerate(frames):
        frame[..., 3] = 0
        frame[8:20, 4 + 8 * t : 16 + 8 * t, 3] = 255
    path = write_clip(tmp_path / "mask.mkv", frames, codec="ffv1", pixels="bgra")
    assert np.array_equal(read_mask(probe(path)), frames[..., 3])


def test_a_black_mask_says_its_largest_value(tmp_path):
    Image.fromarray(np.where(SHAPE, 90, 0).astype(np.uint8)).save(tmp_path / "mask.png")
    with pytest.raises(
        InputError, match=r"mask.png: the mask is black in all 1 frames \(at most 90 of 255\)"
    ):
        read_mask(probe(tmp_path / "mask.png"))
