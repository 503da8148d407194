"""Small objects are looked at twice; parts, rivals and nothing at all are told apart."""

import numpy as np
import pytest

from gencompositor_jax.controls.element.segmenters import salient
from gencompositor_jax.controls.element.segmenters.salient import salient_maps
from gencompositor_jax.controls.element.segmenters.subject import check_found, several, subjects
from gencompositor_jax.errors import InputError


def maps_of(*discs: tuple[int, int, int], size=(60, 80)) -> np.ndarray:
    """One frame with discs (x, y, radius): uint8 [1, h, w]."""
    y, x = np.mgrid[: size[0], : size[1]]
    inside = np.any([(x - a) ** 2 + (y - b) ** 2 < r**2 for a, b, r in discs], axis=0)
    return np.where(inside, 255, 0).astype(np.uint8)[None]


def test_what_the_network_finds_is_where_it_is(clip, truth, orange):
    maps = salient_maps(clip, clip.shape[1:3])
    found = maps >= 128
    assert (found & truth).sum() / (found | truth).sum() > 0.9


def test_a_small_object_is_looked_at_more_closely(clip, orange, monkeypatch):
    """The network sees windows around it, in which it is larger."""
    seen = []
    inner = salient.saliency
    monkeypatch.setattr(salient, "saliency", lambda pictures: seen.append(inner(pictures)) or seen[-1])
    salient_maps(clip, clip.shape[1:3])
    shares = [(maps[0] >= 0.5).mean() for maps in seen]
    assert len(seen) == 2 + len(clip) and min(shares[2:]) > 2 * max(shares[:2])


def test_a_second_look_that_finds_something_else_is_not_believed(clip, truth, orange, monkeypatch):
    inner, count = salient.saliency, [0]

    def fooled(pictures):
        count[0] += 1
        return inner(pictures) if count[0] <= 2 or count[0] > 2 + len(clip) else 1 - inner(pictures)

    monkeypatch.setattr(salient, "saliency", fooled)
    found = salient_maps(clip, clip.shape[1:3]) >= 128
    assert (found & truth).sum() / (found | truth).sum() > 0.9


def test_small_parts_are_left_out_and_near_ones_are_kept():
    kept = subjects(maps_of((25, 30, 15), (70, 10, 4)))
    np.testing.assert_array_equal(kept >= 128, maps_of((25, 30, 15)) >= 128)
    np.testing.assert_array_equal(
        subjects(maps_of((25, 30, 15), (43, 30, 3))), maps_of((25, 30, 15), (43, 30, 3))
    )


def test_several_subjects_are_named_by_a_pixel_of_each():
    note = several(maps_of((20, 30, 15), (60, 30, 12)), (120, 160))
    assert note is not None and "at 40,60, 120,60; all are kept" in note
    assert several(maps_of((20, 30, 15)), (120, 160)) is None
    assert several(np.zeros((3, 60, 80), np.uint8), (120, 160)) is None


def test_nothing_or_everything_is_an_error_with_remedies():
    for maps, what in ((np.zeros((2, 9, 9)), "nothing salient"), (np.full((2, 9, 9), 255), "no background")):
        with pytest.raises(
            InputError, match=f"a.mp4: segment auto was tried and {what}.*--segment point:x,y"
        ):
            check_found(maps.astype(np.uint8), "a.mp4")
