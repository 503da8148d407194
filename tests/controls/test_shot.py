"""Shots for the layout `trajectory`: the foreground is whole tokens away from its place in the target."""

import dataclasses

import numpy as np
import pytest

from gencompositor_jax import arch as arch_lib
from gencompositor_jax.controls import shot
from gencompositor_jax.controls.element.element import Element
from gencompositor_jax.controls.geometry.placement import paste_of
from gencompositor_jax.controls.geometry.trajectory_text import parse_trajectory
from gencompositor_jax.controls.geometry.window import shift
from gencompositor_jax.controls.media.frames import Computed
from gencompositor_jax.controls.shot import ElementLayer, RemovalLayer
from gencompositor_jax.errors import InputError

ARCH = arch_lib.linear()
BACKGROUND = np.full((9, 128, 192, 3), 90, np.uint8)


def element() -> Element:
    """Nine frames of a textured disc, 40 pixels across."""
    y, x = np.mgrid[:40, :40]
    rgba = np.empty((9, 40, 40, 4), np.uint8)
    rgba[..., 0], rgba[..., 1], rgba[..., 2] = 5 * x, 5 * y, 120
    rgba[..., 3] = 255 * (np.hypot(x - 19.5, y - 19.5) < 19)
    return Element(rgba, "disc")


@pytest.mark.parametrize("framing", ["whole", "follow"])
@pytest.mark.parametrize("anchor", ["center", "bottom"])
def test_the_foreground_is_the_target_whole_tokens_away(framing, anchor):
    layer = ElementLayer(
        element(), parse_trajectory("40,40 150,90"), scales=(1.0, 1.3), rotations=(0.0, 30.0), anchor=anchor
    )
    made = shot.element_shot(layer, BACKGROUND, ARCH, framing)
    assert made.offsets is not None and made.path is not None and made.offsets.shape == (3, 2)
    paste = paste_of(element(), shift(made.path, made.window), anchor, made.view)
    for t, (frame, white) in enumerate(zip(paste, made.foreground, strict=True)):
        rows, columns = np.nonzero(frame[..., 3] == 255)
        dy, dx = 8 * made.offsets[-(-t // 4)]
        inside = (rows - dy >= 0) & (rows - dy < 64) & (columns - dx >= 0) & (columns - dx < 96)
        rows, columns = rows[inside], columns[inside]
        assert len(rows) > 50
        moved = white[rows - dy, columns - dx].astype(int)
        assert np.abs(moved - frame[rows, columns, :3]).mean() < 1
    assert framing == "follow" or made.offsets.any()


def test_the_conditions_hold_the_offsets():
    layer = ElementLayer(element(), parse_trajectory("40,40 150,90"))
    made = shot.element_shot(layer, BACKGROUND, ARCH, "whole")
    seen = shot.shown(made, BACKGROUND)
    np.testing.assert_array_equal(shot.conditions(made, seen, ARCH).offsets, made.offsets)


def test_a_removal_has_offsets_of_zero():
    mask = np.zeros(BACKGROUND.shape[:3], bool)
    mask[:, 20:60, 30:80] = True
    made = shot.removal_shot(RemovalLayer(mask), ARCH, "whole")
    np.testing.assert_array_equal(made.offsets, np.zeros((3, 2)))


def test_other_layouts_have_none_and_a_centred_foreground():
    layer = ElementLayer(element(), parse_trajectory("40,40 150,90"))
    made = shot.element_shot(layer, BACKGROUND, dataclasses.replace(ARCH, layout="height"), "whole")
    assert made.offsets is None
    rows, columns = np.nonzero((made.foreground < 255).any((0, -1)))
    assert abs(rows.mean() - 31.5) < 0.5 and abs(columns.mean() - 47.5) < 0.5


@pytest.mark.parametrize("detail", ["auto", "element", "model"])
@pytest.mark.parametrize(
    ("frames", "native", "trajectory", "scale", "hidden"),
    [
        (9, (128, 192), "-90,60 90,60 280,60", 1.0, ()),  # outside the frame at both ends
        (9, (128, 192), "40,40 150,90", 1.0, (0, 1, 4, 8)),  # alpha 0 in these frames
        (9, (40, 50), "10,20 40,20", 0.5, ()),  # smaller than the model's frames
        (9, (6, 9), "2,3 6,3", 0.2, ()),  # smaller than a token
        (1, (128, 192), "60,80", 1.0, ()),  # a single frame
        (9, (128, 192), "90,60 100,64", 12.0, ()),  # larger than the frame
    ],
)
def test_elements_that_are_hidden_or_large_change_what_they_cover(
    frames, native, trajectory, scale, hidden, detail
):
    arch = dataclasses.replace(ARCH, frames=frames)
    rgba = element().frames[:frames].copy()
    rgba[list(hidden), ..., 3] = 0
    rng = np.random.default_rng(0)
    background = rng.integers(0, 256, (frames, *native, 3), np.uint8)
    layer = ElementLayer(Element(rgba, "disc"), parse_trajectory(trajectory), scales=(scale,))
    made = shot.element_shot(layer, background, arch, "auto")
    given = shot.conditions(made, shot.shown(made, background), arch)
    inside = given.mask[..., 0] > 0
    generated = rng.integers(0, 256, given.foreground.shape, np.uint8)
    result = shot.put_back(made, background, generated, inside, arch, 2.0, detail)
    changed = (result.frames != background).any(axis=-1)
    assert not changed[~result.mask].any()
    seen = inside.any(axis=(1, 2))
    assert seen.any() and not seen[list(hidden)].any()
    assert (changed.any(axis=(1, 2)) == seen).all()
    assert {"model": result.transferred == 0, "element": result.transferred == 1}.get(detail, True)


def test_a_layer_is_there_between_its_in_and_out_frames():
    background = np.random.default_rng(0).integers(0, 256, (9, 128, 192, 3), np.uint8)
    alone = ElementLayer(Element(element().frames[:4], "disc"), parse_trajectory("40,40 150,90"), (1.0, 2.0))
    whole = shot.element_shot(alone, background[3:7], ARCH, "whole")
    part = dataclasses.replace(alone, in_frame=3, out_frame=6)
    for frames in (background, Computed(background.shape, lambda a, b: background[a:b])):
        made = shot.element_shot(part, frames, ARCH, "whole")
        paste = shot.plain_paste(made, (128, 192))
        np.testing.assert_array_equal(paste[3:7], shot.plain_paste(whole, (128, 192)))
        assert not paste[[0, 1, 2, 7, 8], ..., 3].any()
        assert made.target_mask.any(axis=(1, 2)).tolist() == [3 <= t < 7 for t in range(9)]
        assert isinstance(made.element.frames, np.ndarray) == isinstance(frames, np.ndarray)


def test_a_tracked_point_is_the_one_of_the_in_frame():
    noise = np.kron(np.random.default_rng(0).integers(0, 256, (32, 48)), np.ones((4, 4))).astype(np.uint8)
    shifts = np.arange(9) * np.arange(1, 10) // 2  # it speeds up: other frames give other positions
    background = np.stack([np.roll(noise, shift, axis=1) for shift in shifts])[..., None].repeat(3, -1)
    layer = ElementLayer(
        Element(element().frames[:5], "disc"), parse_trajectory("track:80,60"), in_frame=2, out_frame=6
    )
    path = shot.element_shot(layer, background, ARCH, "whole").path
    np.testing.assert_allclose(path.xy[2:7, 0], 80 + shifts[2:7] - shifts[2], atol=0.2)


@pytest.mark.parametrize(
    ("in_frame", "out_frame", "message"),
    [
        (9, None, "in_frame: 9, the clip has the frames 0 to 8"),
        (0, 12, "out_frame: 12, the clip has"),
        (5, 4, "out_frame: 4 is before in_frame, 5"),
    ],
)
def test_frames_that_a_clip_lacks(in_frame, out_frame, message):
    with pytest.raises(InputError, match=message):
        shot.layer_frames(in_frame, out_frame, 9)
