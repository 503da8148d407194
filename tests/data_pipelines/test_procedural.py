import dataclasses

import cv2
import numpy as np
import pytest

from gencompositor_jax.controls.element.element import Element
from gencompositor_jax.controls.geometry.path import Path
from gencompositor_jax.controls.geometry.placement import centred_foreground, trajectory_to_mask
from gencompositor_jax.controls.geometry.view import identity_view
from gencompositor_jax.data_pipelines.backgrounds import make_background
from gencompositor_jax.data_pipelines.lighting import cast_shadow
from gencompositor_jax.data_pipelines.procedural import (
    HELD_OUT_SEED,
    TRAINING_SEEDS,
    ProceduralClip,
    draw_motion,
    make_clip,
    make_followed_clip,
)
from gencompositor_jax.data_pipelines.sprites import FAMILIES, make_sprite
from gencompositor_jax.data_pipelines.textures import LUMINANCE, natural_noise
from gencompositor_jax.errors import InputError


@pytest.fixture(scope="module")
def clips() -> list[ProceduralClip]:
    return [make_clip(seed) for seed in range(60)]


def test_a_seed_determines_its_clip() -> None:
    one, again, other = make_clip(5), make_clip(5), make_clip(6)
    for field in ("target", "background", "foreground", "alpha", "shadow", "element", "xy"):
        np.testing.assert_array_equal(getattr(one, field), getattr(again, field))
    assert (one.target != other.target).mean() > 0.5


@pytest.mark.parametrize(
    ("seed", "family", "brightness", "coverage"),
    [(0, "gear", 82.9, 0.166), (1, "blob", 169.9, 0.133), (HELD_OUT_SEED, "wings", 80.9, 0.130)],
)
def test_seeds_keep_their_clips(seed: int, family: str, brightness: float, coverage: float) -> None:
    """Published figures name seeds: another clip needs another `clip_cache.VERSION`."""
    clip = make_clip(seed)
    assert clip.family == family
    assert abs(clip.target.mean() - brightness) < 0.5 and abs(clip.alpha.mean() - coverage) < 0.002


def test_held_out_seeds_are_never_trained_on() -> None:
    assert HELD_OUT_SEED not in TRAINING_SEEDS and max(TRAINING_SEEDS) < HELD_OUT_SEED


@pytest.mark.parametrize("size", [(1, 16, 16), (9, 64, 96), (5, 96, 64), (9, 128, 128)])
def test_shapes_types_and_ranges(size: tuple[int, int, int]) -> None:
    clip = make_clip(3, *size)
    for frames in (clip.target, clip.background, clip.foreground):
        assert frames.shape == (*size, 3) and frames.dtype == np.uint8
    for cover in (clip.alpha, clip.shadow):
        assert cover.shape == size and cover.dtype == np.float32 and cover.min() >= 0 and cover.max() <= 1
    assert clip.shadow.max() < 1 and clip.alpha.max() > 0.9
    assert len(clip.element) == len(clip.xy) == len(clip.scale) == len(clip.rotation) == size[0]
    assert clip.element.shape[-1] == 4 and clip.element.dtype == np.uint8


@pytest.mark.parametrize("size", [(0, 64, 96), (9, 60, 96), (9, 64, 0)])
def test_impossible_sizes_are_refused(size: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="multiples of 16"):
        make_clip(0, *size)


def test_unknown_family_is_refused() -> None:
    with pytest.raises(InputError, match="dragon"):
        make_clip(0, family="dragon")


def test_target_is_the_background_away_from_element_and_shadow(clips: list[ProceduralClip]) -> None:
    for clip in clips:
        untouched = (clip.alpha == 0) & (clip.shadow == 0)
        assert untouched.mean() > 0.2
        np.testing.assert_array_equal(clip.target[untouched], clip.background[untouched])


def test_shadow_only_darkens(clips: list[ProceduralClip]) -> None:
    beyond = 0
    for clip in clips:
        outside = clip.alpha == 0
        assert (clip.target[outside] <= clip.background[outside]).all()
        beyond += int((clip.shadow[outside] > 0.1).any())
    assert beyond > 0.8 * len(clips), "soft shadows should reach beyond the silhouette"


def test_shadow_falls_away_from_the_light(clips: list[ProceduralClip]) -> None:
    disc = np.zeros((9, 64, 96), np.float32)
    disc[:, 24:40, 40:56] = 1.0
    y, x = np.mgrid[:64, :96]
    for clip in clips[:10]:
        shadow = cast_shadow(disc, clip.light)[0]
        moved = np.array([(shadow * x).sum(), (shadow * y).sum()]) / shadow.sum() - (47.5, 31.5)
        np.testing.assert_allclose(moved, -clip.light.direction * clip.light.shadow_length, atol=0.2)


def test_half_of_the_elements_are_far_from_the_centre() -> None:
    far = []
    for seed in range(600):
        xy, _, _ = draw_motion(np.random.default_rng(seed), 9, 64, 96)
        offset = (xy.mean(0) + 0.5) / (96, 64) - 0.5
        far.append(np.abs(offset).max() > 0.25)
    assert 0.4 < np.mean(far) < 0.6


def test_elements_are_mostly_five_tokens_and_more(clips: list[ProceduralClip]) -> None:
    widest = [max(_extent(clip.foreground)) for clip in clips]
    assert np.mean([w >= 5 * 8 for w in widest]) > 0.5
    assert max(widest) <= 96


def test_the_element_is_always_visible(clips: list[ProceduralClip]) -> None:
    for clip in clips:
        assert clip.silhouette.any(axis=(1, 2)).all()


def test_background_and_element_move(clips: list[ProceduralClip]) -> None:
    for clip in clips:
        scene = clip.background.astype(int)
        assert np.abs(scene[0] - scene[-1]).mean() > 1
        assert np.ptp(clip.xy, axis=0).max() > 1


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_inner_motion_and_texture(family: str) -> None:
    element = make_sprite(np.random.default_rng(4), family, 9, 48)
    solid = (element[..., 3] == 255).all(0)
    assert solid.sum() > 100
    inside = element[:, solid, :3].astype(float)
    assert inside.std(axis=1).mean() > 20, "texture within a frame"
    assert inside.std(axis=0).mean() > 4, "motion over time"
    assert element[..., 3].max(axis=(0, 2)).min() > 0 and element[..., 3].max(axis=(0, 1)).min() > 0


def test_the_light_can_be_inferred_from_the_background(clips: list[ProceduralClip]) -> None:
    """Brightness and colour of the scene follow the light, which makes the element's light learnable."""
    scene = np.array([clip.background.mean((0, 1, 2)) / 255 for clip in clips])
    light = np.array([0.5**clip.light.gamma * clip.light.tint for clip in clips])
    assert np.corrcoef(scene @ LUMINANCE, light @ LUMINANCE)[0, 1] > 0.8
    warmth = np.log(scene[:, 0] / scene[:, 2]), np.log(light[:, 0] / light[:, 2])
    assert np.corrcoef(*warmth)[0, 1] > 0.4


def test_unlit_backgrounds_are_equally_bright() -> None:
    for seed in range(12):
        video = make_background(np.random.default_rng(seed), 3, 64, 96)
        assert video.dtype == np.float32 and video.min() >= 0 and video.max() <= 1
        assert abs((video @ LUMINANCE).mean() - 0.5) < 0.07


def test_natural_noise_has_the_spectrum_of_photographs() -> None:
    noise = natural_noise(np.random.default_rng(0), 128, 128, slope=1.0)
    power = np.abs(np.fft.fft2(noise - noise.mean())) ** 2
    fy, fx = np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)[None]
    radius = np.hypot(fy, fx)
    bands = [(0.02, 0.04), (0.04, 0.08), (0.08, 0.16), (0.16, 0.32)]
    means = [power[(radius >= low) & (radius < high)].mean() for low, high in bands]
    slope = np.polyfit(np.log([low for low, _ in bands]), np.log(means), 1)[0]
    assert -2.4 < slope < -1.6


def test_clips_and_controls_share_the_placement_convention(clips: list[ProceduralClip]) -> None:
    """trajectory_to_mask and centred_foreground reproduce a clip's silhouette and foreground."""
    for clip in clips[:8]:
        element, view = Element(clip.element, "clip"), identity_view((64, 96))
        path = Path(clip.xy.astype(float), clip.scale.astype(float), clip.rotation.astype(float))
        mask = trajectory_to_mask(element, path, "center", view)
        both = (mask & clip.silhouette).sum()
        assert both > 0.95 * (mask | clip.silhouette).sum()
        white = centred_foreground(element, path, view).min(-1) > 250
        assert (white == (clip.foreground.min(-1) > 250)).mean() > 0.97


def test_foreground_is_the_targets_element_moved_to_the_centre() -> None:
    """Undoing the move recovers the target's pixels where the element is solid."""
    for seed in range(8):
        clip = make_clip(seed)
        for t in (0, 8):
            dx, dy = clip.xy[t] - (47.5, 31.5)
            move = np.array([[1, 0, dx], [0, 1, dy]])
            back = cv2.warpAffine(clip.foreground[t], move, (96, 64), borderValue=(255, 255, 255))
            solid = cv2.erode((clip.alpha[t] > 0.999).astype(np.uint8), np.ones((3, 3))) > 0
            error = np.abs(back[solid].astype(float) - clip.target[t][solid])
            assert np.median(error) <= 6


def test_another_family_changes_nothing_but_the_element() -> None:
    """Light and background are drawn first."""
    fish, leaf = make_clip(9, family="fish"), make_clip(9, family="leaf")
    np.testing.assert_array_equal(fish.background, leaf.background)
    assert dataclasses.astuple(fish.light)[0] == dataclasses.astuple(leaf.light)[0]
    assert (fish.target != leaf.target).any()


def _extent(foreground: np.ndarray) -> tuple[int, int]:
    seen = (foreground.min(-1) < 250).any(0)
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    return int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)


@pytest.mark.parametrize("size", [(64, 96), (32, 48), (96, 160)])
def test_a_followed_element_stays_in_the_middle(size: tuple[int, int]) -> None:
    height, width = size
    moves = 0.0
    for seed in range(6):
        clip = make_followed_clip(seed, 5, height, width)
        middle = (np.array([width, height]) - 1) / 2
        assert np.abs(clip.xy - middle).max() <= 0.51  # the window moves in whole pixels
        whole = make_clip(seed, 5, height, width)
        assert clip.target.shape == clip.foreground.shape == whole.target.shape
        away = (clip.alpha == 0) & (clip.shadow == 0)
        np.testing.assert_array_equal(clip.target[away], clip.background[away])
        moves += float(np.abs(np.diff(clip.background.astype(float), axis=0)).mean())
    assert moves > 1.0  # the scene passes behind it


@pytest.mark.parametrize("make", [make_clip, make_followed_clip])
def test_with_a_cell_the_foreground_is_the_target_whole_tokens_away(make) -> None:
    for seed in range(6):
        clip = make(seed, cell=(4, 8))
        assert clip.offsets.shape == (3, 2) and clip.offsets.dtype == np.int32
        for t in range(9):
            dy, dx = 8 * clip.offsets[-(-t // 4)]
            rows, columns = np.nonzero(clip.alpha[t] > 0.999)
            inside = (rows - dy >= 0) & (rows - dy < 64) & (columns - dx >= 0) & (columns - dx < 96)
            rows, columns = rows[inside], columns[inside]
            moved = clip.foreground[t][rows - dy, columns - dx].astype(int)
            assert np.abs(moved - clip.target[t][rows, columns]).max(initial=0) <= 2


def test_a_cell_changes_the_foreground_alone() -> None:
    for make in (make_clip, make_followed_clip):
        plain, offset = make(7), make(7, cell=(4, 8))
        assert plain.offsets is None
        for field in ("target", "background", "alpha", "shadow", "element", "xy", "scale", "rotation"):
            np.testing.assert_array_equal(getattr(plain, field), getattr(offset, field))


@pytest.mark.parametrize("make", [make_clip, make_followed_clip])
def test_an_element_filmed_elsewhere_has_other_colours_and_nothing_else_changes(make) -> None:
    kinds = set()
    for seed in range(8):
        here = make(seed, 3, cell=(4, 8))
        there = make(seed, 3, cell=(4, 8), other_light=1.0)
        for name in ("target", "background", "alpha", "shadow", "element", "xy", "offsets"):
            np.testing.assert_array_equal(getattr(here, name), getattr(there, name))
        assert here.filmed is here.light and not np.array_equal(here.foreground, there.foreground)
        white = (here.foreground == 255).all(-1)  # around the element
        assert white.any() and (there.foreground[white] > 250).mean() > 0.99
        kinds.add(there.filmed.slope == 0)
        if there.filmed.slope == 0:  # in no light: its own colours
            colours = {tuple(pixel) for pixel in there.foreground[0].reshape(-1, 3)[::7]}
            own = there.element[0][there.element[0][..., 3] == 255][:, :3]
            assert np.abs(np.mean(own, 0) - np.mean([c for c in colours if min(c) < 250], 0)).max() < 60
    assert kinds == {True, False}


def test_some_of_the_elements_are_filmed_elsewhere() -> None:
    clips = [make_clip(seed, 1, other_light=0.5) for seed in range(40)]
    assert 10 < sum(clip.filmed is not clip.light for clip in clips) < 30
