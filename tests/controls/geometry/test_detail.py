"""Detail transfer: the element's own pixels in the light of the model's frames."""

from typing import NamedTuple

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gencompositor_jax.controls.geometry import detail, light
from gencompositor_jax.controls.geometry.paste_back import Transfer, make_transfer, paste_back
from gencompositor_jax.controls.geometry.view import View, identity_view, make_view, to_model

TOKEN, SIZE, PLATE, FRAMES = 16, (64, 96), (256, 384), 3
VIEW = make_view(PLATE, SIZE)


class Scene(NamedTuple):
    background: np.ndarray  # at the plate's size, like `paste`
    paste: np.ndarray
    small: np.ndarray  # the paste at the model's size
    seen: np.ndarray
    mask: np.ndarray


def textured(size: tuple[int, int], low: int, high: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(0, 1, (FRAMES, *size, 3)).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(frame, (0, 0), 3) for frame in noise])
    unit = np.clip(0.5 + (smooth - smooth.mean()) / (4 * smooth.std()), 0, 1)
    return np.rint(low + (high - low) * unit).astype(np.uint8)


@pytest.fixture(scope="module")
def scene() -> Scene:
    """A textured disc, 40 pixels of the model wide, over a bright scene; the mask is a square around it."""
    background = textured(PLATE, 140, 240, 1)
    y, x = np.mgrid[: PLATE[0], : PLATE[1]]
    alpha = np.clip(80.5 - np.hypot(y - 127.5, x - 191.5), 0, 1) * 255
    alpha = np.broadcast_to(np.rint(alpha).astype(np.uint8)[..., None], (FRAMES, *PLATE, 1))
    paste = np.concatenate([textured(PLATE, 30, 220, 2), alpha], axis=-1)
    mask = np.zeros((FRAMES, *SIZE), bool)
    mask[:, 4:60, 20:76] = True
    return Scene(background, paste, to_model(paste, VIEW), to_model(background, VIEW), mask)


def over(background: np.ndarray, colours: np.ndarray, paste: np.ndarray) -> np.ndarray:
    alpha = paste[..., 3:] / 255
    return np.rint(background + alpha * (colours - background)).astype(np.uint8)


def lit(scene: Scene, change) -> tuple[np.ndarray, np.ndarray]:
    """What a perfect model generates, and the right answer at the plate's size; change: of [0, 1] colours."""
    answer = over(scene.background, 255 * change(scene.paste[..., :3] / 255), scene.paste)
    return to_model(answer, VIEW), answer


def result(scene: Scene, generated: np.ndarray, how: detail.Detail = "auto") -> np.ndarray:
    pastes = scene.small, scene.paste
    transfer = make_transfer(scene.seen, generated, scene.mask, pastes, TOKEN, how)
    return paste_back(scene.background, generated, scene.mask, VIEW, 2.0, transfer)[0]


def rms(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a[where].astype(float) - b[where]) ** 2)))


@pytest.mark.parametrize(
    "change",
    [lambda x: x**1.8, lambda x: x**0.6, lambda x: 0.7 * x, lambda x: x * (1.0, 0.8, 0.6)],
    ids=["darker", "brighter", "half the light", "warm light"],
)
def test_the_element_takes_on_the_light_and_keeps_its_detail(scene, change):
    generated, answer = lit(scene, change)
    element = scene.paste[..., 3] == 255
    ours, enlarged = result(scene, generated), result(scene, generated, "model")
    paste = over(scene.background, scene.paste[..., :3], scene.paste)
    assert rms(ours, answer, element) < 0.4 * rms(paste, answer, element)

    def sharpness(frames: np.ndarray) -> float:
        return float(np.abs(np.diff(frames[0, 88:168, 152:232].astype(float), axis=0)).mean())

    assert sharpness(enlarged) < 0.9 * sharpness(answer) < sharpness(ours)


def test_light_may_differ_over_the_element(scene):
    ramp = np.interp(np.arange(PLATE[1]), [112, 272], [0.3, 1.0])[:, None]
    generated, answer = lit(scene, lambda x: x * ramp)
    element = scene.paste[..., 3] == 255
    found = detail.fit(scene.seen, scene.small, generated, scene.mask, TOKEN)
    flat = found._replace(field=np.zeros_like(found.field))
    frames = [
        paste_back(scene.background, generated, scene.mask, VIEW, 2.0, Transfer(fit, scene.paste))[0]
        for fit in (found, flat)
    ]
    assert rms(frames[0], answer, element) < 0.8 * rms(frames[1], answer, element)


def test_a_blurred_model_is_trusted(scene):
    generated, _ = lit(scene, lambda x: x**1.5)
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), 2) for frame in generated])
    found = detail.fit(scene.seen, scene.small, blurred, scene.mask, TOKEN)
    assert found.trust[scene.small[..., 3] > 127].min() > 0.9


def test_noise_leaves_the_element_as_it_is(scene):
    """Errors of a token's size, whose mean over the few tokens of the element isn't light."""
    rng = np.random.default_rng(5)
    coarse = (12 + rng.normal(0, 60, (FRAMES, 4, 6, 3))).astype(np.float32)
    blocks = np.stack([cv2.resize(f, SIZE[::-1], interpolation=cv2.INTER_NEAREST) for f in coarse])
    generated = np.clip(lit(scene, lambda x: x)[0] + blocks, 0, 255).astype(np.uint8)
    solid = scene.small[..., 3] > 127
    shift = (generated[solid].astype(float) - scene.small[solid][:, :3]).mean(axis=0) / 255
    found = detail.fit(scene.seen, scene.small, generated, scene.mask, TOKEN)
    assert np.abs(shift).max() > 0.03
    assert np.abs(found.offset).max() < 0.6 * np.abs(shift).max()
    assert np.abs(found.field).mean() < 0.4 * np.abs(blocks).mean() / 255


def test_where_the_model_drew_another_pose_its_pixels_are_taken(scene):
    """An element of stripes that the model has turned by 90 degrees."""
    y, x = np.mgrid[: PLATE[0], : PLATE[1]]
    stripes, turned = (
        np.concatenate(
            [
                np.repeat(np.where(axis // 32 % 2, 230, 25)[None, ..., None], 3, -1).repeat(FRAMES, 0),
                scene.paste[..., 3:],
            ],
            axis=-1,
        ).astype(np.uint8)
        for axis in (y, x)
    )
    striped = scene._replace(paste=stripes, small=to_model(stripes, VIEW))
    right, wrong = (lit(striped._replace(paste=paste), lambda x: x)[0] for paste in (stripes, turned))
    element = striped.small[..., 3] > 127
    assert detail.fit(scene.seen, striped.small, right, scene.mask, TOKEN).trust[element].min() > 0.99
    assert detail.fit(scene.seen, striped.small, wrong, scene.mask, TOKEN).trust[element].mean() < 0.1
    taken = paste_back(scene.background, wrong, scene.mask, VIEW, 2.0)[0]
    where = scene.paste[..., 3] == 255
    assert rms(result(striped, wrong), taken, where) < 0.2 * rms(
        result(striped, wrong, "element"), taken, where
    )


def test_a_shadow_is_carried_over_and_slight_changes_are_not(scene):
    generated, _ = lit(scene, lambda x: x)
    around = scene.mask & (scene.small[..., 3] == 0)
    assert (
        detail.fit(scene.seen, scene.small, generated, scene.mask, TOKEN).shade[around] == 1
    ).mean() > 0.95
    shaded = generated.copy()
    shaded[around] = shaded[around] // 2
    found = detail.fit(scene.seen, scene.small, shaded, scene.mask, TOKEN)
    assert 0.5 < np.median(found.shade[around]) < 0.75  # what counts as noise is taken off
    drawn = result(scene, shaded)
    at = np.s_[:, 30:40, 186:196]  # above the disc, well inside the mask
    ratio = drawn[at].astype(float) / scene.background[at]
    assert 0.4 < ratio.mean() < 0.85


def test_what_the_model_does_everywhere_is_no_shadow(scene):
    generated, _ = lit(scene, lambda x: x)
    around = scene.mask & (scene.small[..., 3] == 0)
    shaded = generated.copy()
    shaded[around] = 0.7 * shaded[around]
    assert np.median(detail.fit(scene.seen, scene.small, shaded, scene.mask, TOKEN).shade[around]) < 0.9
    shaded[~scene.mask] = 0.7 * shaded[~scene.mask]
    assert (detail.fit(scene.seen, scene.small, shaded, scene.mask, TOKEN).shade[around] == 1).all()


@pytest.mark.parametrize(
    ("side", "drawn"), [("below", True), ("left", True), ("above", False), ("all", False)]
)
def test_a_slight_darkening_is_a_shadow_where_one_may_fall(scene, side, drawn):
    generated, _ = lit(scene, lambda x: x)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] - np.array([31.5, 47.5])[:, None, None]
    sides = {"below": y > 4, "left": x < -4, "above": y < -4, "all": y == y}
    where = scene.mask & (scene.small[..., 3] == 0) & sides[side]
    shaded = generated.copy()
    shaded[where] = 0.9 * shaded[where]
    shade = detail.fit(scene.seen, scene.small, shaded, scene.mask, TOKEN).shade[where]
    assert np.median(shade) < 0.96 if drawn else np.median(shade) > 0.985


def test_half_of_a_shadow_is_the_pixels_own_and_half_the_clips():
    nothing = np.zeros((1, 8, 8), np.float32)
    for own, of_clip in ((-0.4, 0.0), (0.0, -0.4)):
        common = light.Light(np.zeros(3), np.ones(3), None, 0.0, np.array([of_clip, 0, 0]))
        shade = detail._shade(nothing + own, nothing, common, TOKEN)
        np.testing.assert_allclose(shade, np.exp(-0.2), rtol=1e-5)


@given(st.integers(0, 999))
@settings(max_examples=15)
def test_outside_the_mask_is_the_input(seed):
    rng = np.random.default_rng(seed)
    native = rng.integers(0, 256, (2, 40, 50, 3), dtype=np.uint8)
    view = View((40, 50), (32, 48), (32, 40), (0, 4))
    generated = rng.integers(0, 256, (2, 32, 48, 3), dtype=np.uint8)
    mask = np.zeros((2, 32, 48), bool)
    mask[:, 5 : 5 + seed % 20 + 1, 8:30] = True
    small, large = (rng.integers(0, 256, (2, *size, 4), dtype=np.uint8) for size in (view.model, view.native))
    for how in ("element", "auto"):
        transfer = make_transfer(to_model(native, view), generated, mask, (small, large), 16, how)
        out, inside = paste_back(native, generated, mask, view, 2.0, transfer)
        np.testing.assert_array_equal(out[~inside], native[~inside])
        assert (out != native)[inside].any()


def test_soft_alpha_is_drawn_with_the_background_through_it(scene):
    """Smoke: half transparent in its middle, less at its edges."""
    paste = scene.paste.copy()
    paste[..., 3] = np.rint(paste[..., 3] * 0.6)
    smoke = scene._replace(paste=paste, small=to_model(paste, VIEW))
    generated, answer = lit(smoke, lambda x: x**1.6)
    ours = result(smoke, generated)
    element = paste[..., 3] > 100
    assert rms(ours, answer, element) < 12
    assert rms(ours, answer, element) < 0.6 * rms(
        over(smoke.background, paste[..., :3], paste), answer, element
    )


def test_there_is_nothing_to_transfer_without_a_solid_element(scene):
    faint = scene.small.copy()
    faint[..., 3] = 40
    assert detail.fit(scene.seen, faint, scene.seen, scene.mask, TOKEN) is None
    assert make_transfer(scene.seen, scene.seen, scene.mask, (scene.small,) * 2, TOKEN, "model") is None


def test_one_frame_and_frames_without_the_element(scene):
    small = scene.small.copy()
    small[1, ..., 3] = 0
    generated, _ = lit(scene, lambda x: x**1.4)
    found = detail.fit(scene.seen, small, generated, scene.mask, TOKEN)
    assert all(np.isfinite(part).all() for part in found)
    one = detail.fit(*(v[:1] for v in (scene.seen, scene.small, generated, scene.mask)), TOKEN)
    assert one.shade.shape == (1, *SIZE) and all(np.isfinite(part).all() for part in one)


def test_at_the_same_size_a_mask_over_the_whole_frame_is_allowed(scene):
    generated, _ = lit(scene, lambda x: x)
    whole = np.ones_like(scene.mask)
    transfer = make_transfer(scene.seen, generated, whole, (scene.small, scene.small), TOKEN, "auto")
    out, inside = paste_back(scene.seen, generated, whole, identity_view(SIZE), 2.0, transfer)
    assert inside.all() and rms(out, generated, whole) < 4


def test_pieces_of_a_clip_are_its_map():
    """With the light of the whole and what smoothing sees around a piece; without it there is a seam."""
    rng, (count, height, width) = np.random.default_rng(0), (40, 32, 48)
    y, x = np.mgrid[:height, :width]
    alpha = np.stack([255 * (np.hypot(y - 16, x - 10 - t / 2) < 9) for t in range(count)]).astype(np.uint8)
    inside = np.stack([np.hypot(y - 16, x - 10 - t / 2) < 14 for t in range(count)])
    seen = rng.integers(120, 180, (count, height, width, 3)).astype(np.uint8)
    colours = rng.integers(60, 160, (count, height, width, 3))
    paste = np.concatenate([colours.astype(np.uint8), alpha[..., None]], axis=-1)
    flicker = 0.7 + 0.2 * np.sin(np.arange(count) / 4)[:, None, None, None]
    generated = over(seen, np.clip(colours * flicker, 0, 255), paste)
    whole = detail.fit(seen, paste, generated, inside, 8)
    videos = seen, paste, generated, inside

    def joined(reach: int) -> tuple[light.Light, list[np.ndarray]]:
        sums, parts, common = None, [], None
        for again in range(2):
            for first in range(0, count, 16):
                low, stop = max(0, first - reach), min(count, first + 16)
                around, within = slice(low, stop + reach), slice(first - low, stop - low)
                piece = [video[around] for video in videos]
                if again:
                    fit = detail.fit(*piece, 8, common)
                    parts.append([values[within] for values in fit[2:]])
                else:
                    found = light.measure(*piece, 8, within)
                    sums = found if sums is None else light.added(sums, found)
            common = light.light_of(sums, 8)
        return common, [np.concatenate(values) for values in zip(*parts, strict=True)]

    common, found = joined(detail.REACH)
    np.testing.assert_allclose(common.offset, whole.offset, atol=1e-5)
    np.testing.assert_allclose(common.gamma, whole.gamma, atol=1e-5)
    for name, values in zip(("field", "shade", "trust"), found, strict=True):
        difference = np.abs(values - getattr(whole, name))[inside]
        assert difference.max() < 0.1 / 255, name
    assert np.abs(joined(0)[1][0] - whole.field)[inside].max() > 1 / 255
