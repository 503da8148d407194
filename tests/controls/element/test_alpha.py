"""Straight and premultiplied alpha, and elements that are translucent throughout."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gencompositor_jax.controls.element.alpha import is_premultiplied, straight_alpha
from gencompositor_jax.controls.element.loading import Element, load_element
from gencompositor_jax.controls.geometry.path import resolve_path
from gencompositor_jax.controls.geometry.placement import silhouette_of, trajectory_to_mask
from gencompositor_jax.controls.geometry.trajectory_text import parse_trajectory
from gencompositor_jax.controls.geometry.view import identity_view, make_view
from gencompositor_jax.errors import InputError

DATA = Path(__file__).parents[1] / "data"


def puff(colour: tuple[int, int, int], peak: int = 255) -> np.ndarray:
    """A soft disc, straight alpha, uint8 [2, 64, 64, 4]."""
    y, x = np.mgrid[:64, :64]
    fall = np.clip(1.4 - np.hypot(x - 32, y - 32) / 20, 0, 1)
    frame = np.empty((64, 64, 4), np.uint8)
    frame[..., :3] = colour
    frame[..., 3] = np.rint(peak * fall)
    return np.stack([frame, frame])


def premultiplied(frames: np.ndarray) -> np.ndarray:
    out = frames.copy()
    out[..., :3] = np.rint(frames[..., :3] * (frames[..., 3:] / 255))
    return out


@pytest.mark.parametrize("colour", [(250, 120, 90), (60, 70, 80), (255, 255, 255), (40, 40, 40)])
@pytest.mark.parametrize("peak", [255, 89])
def test_premultiplied_colours_are_found_and_divided(colour, peak):
    straight = puff(colour, peak)
    assert not is_premultiplied(straight)
    assert is_premultiplied(premultiplied(straight))
    assert straight_alpha(straight, "auto") is straight
    found = straight_alpha(premultiplied(straight), "auto")
    seen = straight[..., 3] > 40
    assert np.abs(found[seen].astype(int) - straight[seen]).max() <= 4
    assert np.array_equal(found[..., 3], straight[..., 3])


def test_the_kind_can_be_named(tmp_path):
    frames = premultiplied(puff((200, 100, 50)))
    assert straight_alpha(frames, "straight") is frames
    hard = frames[:, 27:37, 27:37]
    assert not is_premultiplied(hard)  # no soft pixels: both kinds are the same
    assert np.array_equal(straight_alpha(hard, "premultiplied"), hard)
    Image.fromarray(frames[0]).save(tmp_path / "a.png")
    by_kind = {
        k: load_element(tmp_path / "a.png", alpha=k).frames for k in ("auto", "straight", "premultiplied")
    }
    assert np.array_equal(by_kind["auto"], by_kind["premultiplied"])
    edge = (by_kind["auto"][..., 3] > 60) & (by_kind["auto"][..., 3] < 120)
    assert by_kind["auto"][edge][:, 0].min() > 190 and by_kind["straight"][edge][:, 0].max() < 100


def test_smoke_is_inside_the_mask_where_it_is_visible():
    element = load_element(DATA / "smoke")
    assert element.frames[..., 3].max() == 89
    path = resolve_path(parse_trajectory("80,90 240,90"), len(element.frames), (320, 180))
    mask = trajectory_to_mask(element, path, "center", make_view((180, 320), (64, 96)))
    full = trajectory_to_mask(element, path, "center", identity_view((180, 320)))
    visible = (element.frames[..., 3] >= 26).sum(axis=(1, 2))  # a tenth
    assert mask.any(axis=(1, 2)).all()
    assert (full.sum(axis=(1, 2)) >= visible).all()


def test_glass_of_an_opaque_element_is_inside_and_its_soft_edge_is_not():
    alpha = np.zeros((1, 40, 60), np.uint8)
    alpha[0, 10:30, 10:30] = 255
    alpha[0, 10:30, 30:50] = 70  # a pane
    alpha[0, 8:10, 10:30] = 70  # an edge of two pixels
    inside = silhouette_of(alpha)[0]
    assert inside[10:30, 10:50].all() and inside.sum() == 20 * 40


def test_an_element_that_is_nearly_invisible_is_refused_with_the_reason():
    faint = Element(np.full((3, 20, 20, 4), 9, np.uint8), "haze.mov")
    path = resolve_path(parse_trajectory("80,90 240,90"), 3, (320, 180))
    with pytest.raises(InputError, match=r"haze.mov: its alpha is at most 0.035, so it is nearly invisible"):
        trajectory_to_mask(faint, path, "center", identity_view((180, 320)))


def test_dark_colours_that_never_exceed_alpha_but_do_not_fade_are_straight():
    straight = puff((30, 30, 30))
    straight[straight[..., 3] < 60] = 0
    assert not is_premultiplied(straight)
    assert is_premultiplied(premultiplied(straight))
