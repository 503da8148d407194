"""Keying: elements of known colour and coverage before screens of all kinds come back as they were."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from gencompositor_jax.controls.element import screen
from gencompositor_jax.controls.element.checkerboard import checkerboard
from gencompositor_jax.controls.element.keying import despill, key_out
from gencompositor_jax.controls.element.loading import load_element
from gencompositor_jax.controls.element.screen import Screen, measure_screen, score
from gencompositor_jax.errors import InputError

HEIGHT, WIDTH, FRAMES = 120, 160, 3
DATA = Path(__file__).parents[1] / "data"
Y, X = np.mgrid[:HEIGHT, :WIDTH]

pixels = arrays(np.uint8, st.tuples(st.integers(1, 8), st.just(3)))
channels = st.integers(0, 255)


def disc(x: float, y: float, radius: float) -> np.ndarray:
    """Coverage [H, W] of a disc with an antialiased edge."""
    return np.clip(radius + 0.5 - np.hypot(X - x, Y - y), 0, 1)


def over(under: np.ndarray, coverage: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return under + coverage[..., None] * (np.array(colour) - under)


def clip(draw: Callable[[int], np.ndarray], noise: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    frames = [draw(t) + rng.normal(0, noise, (HEIGHT, WIDTH, 3)) for t in range(FRAMES)]
    return np.rint(frames).clip(0, 255).astype(np.uint8)


def coded(frames: np.ndarray, quality: int = 85) -> np.ndarray:
    """The frames after lossy coding in blocks, with halved colour resolution."""
    jpegs = [cv2.imencode(".jpg", f[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1] for f in frames]
    return np.stack([np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR))[..., ::-1] for jpeg in jpegs])


def cut(frames: np.ndarray, key: str = "auto") -> np.ndarray:
    return key_out(frames, measure_screen(frames, key, "clip.mp4"), "clip.mp4")


def plain(colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), colour, np.float64)


def assert_outline(alpha: np.ndarray, coverage: np.ndarray) -> None:
    """In every frame, alpha is high where coverage is well above a half, and low where it is well below."""
    assert (alpha[:, coverage > 0.65] >= 128).all()
    assert (alpha[:, coverage < 0.35] < 128).all()


# ----------------------------------------------------------------------------------------- what comes back


@pytest.mark.parametrize("loss", ["none", "noise", "coded"])
@pytest.mark.parametrize(
    ("background", "key", "name"),
    [
        ((255, 255, 255), "auto", "white"),
        ((250, 252, 249), "white", "white"),  # coding for television levels often leaves 250
        ((255, 250, 225), "white", "white"),  # warm light
        ((0, 0, 0), "#000000", "#"),
        ((128, 128, 128), "#808080", "#"),
        ((40, 170, 60), "auto", "#"),
        ((0, 255, 0), "green", "#"),
        ((50, 120, 40), "green", "#"),
        ((30, 60, 180), "blue", "#"),
        ((210, 30, 180), "#d21eb4", "#"),
    ],
)
def test_coverage_and_colour_come_back(background, key, name, loss):
    colour = (200, 90, 60)

    def coverage(t: int) -> np.ndarray:
        return disc(60 + 10 * t, 60, 25)

    frames = clip(lambda t: over(plain(background), coverage(t), colour), noise=1.5 if loss == "noise" else 0)
    frames = coded(frames) if loss == "coded" else frames
    screen = measure_screen(frames, key, "clip.mp4")
    assert screen.name.startswith(name)
    np.testing.assert_allclose(screen.rgb, background, atol=3)
    rgba = key_out(frames, screen, "clip.mp4")
    truth = np.stack([coverage(t) for t in range(FRAMES)])
    edge = (truth > 0) & (truth < 1)
    error = np.abs(rgba[..., 3] / 255 - truth)
    assert error[edge].mean() < {"none": 0.08, "noise": 0.1, "coded": 0.25}[loss]
    assert error[truth == 1].mean() < (0.03 if loss == "coded" else 0.01)
    reach = np.ones((17, 17) if loss == "coded" else (5, 5))  # coding smears an edge over its block
    near = np.stack([cv2.dilate(f, reach) for f in truth])
    assert not rgba[..., 3][near == 0].any(), "nothing is left of the background"
    solid = rgba[..., 3] > 128
    assert np.abs(rgba[..., :3][solid] - np.array(colour)).mean() < (8 if loss == "coded" else 4)


@pytest.mark.parametrize("background", [(255, 255, 255), (40, 170, 60)])
def test_no_fringe_of_the_old_background_over_a_new_one(background):
    colour, new = (30, 30, 34), (120, 20, 40)
    frames = clip(lambda t: over(plain(background), disc(80, 60, 25), colour))
    rgba = cut(frames)[0].astype(np.float64)
    a = rgba[..., 3:] / 255
    composite = a * rgba[..., :3] + (1 - a) * new
    truth = over(plain(new), disc(80, 60, 25), colour)
    assert np.abs(composite - truth).max() < 40  # a fringe of white or green would differ by 130 or more


def test_all_components_are_kept_and_specks_are_not():
    coverage = disc(40, 60, 20) + disc(110, 40, 6) + disc(120, 90, 4)
    frames = clip(lambda t: over(plain((255, 255, 255)), coverage, (90, 40, 20)))
    for x, y in [(5, 5), (150, 10), (80, 110)]:
        frames[:, y, x] = 0
    alpha = cut(frames)[..., 3]
    assert_outline(alpha, coverage)


def test_small_pale_parts_inside_belong_to_the_element_and_large_holes_do_not():
    wing = disc(80, 60, 45)
    frames = clip(
        lambda t: over(over(plain((255, 255, 255)), wing, (150, 80, 20)), disc(60, 50, 2.5), (255,) * 3)
    )
    assert (cut(frames)[:, 50, 60, 3] == 255).all()
    frames = clip(
        lambda t: over(over(plain((255, 255, 255)), wing, (150, 80, 20)), disc(85, 60, 15), (255,) * 3)
    )
    alpha = cut(frames)[..., 3]
    assert not alpha[:, 60, 85].any() and (alpha[:, 60, 50] == 255).all()


def test_thin_legs_stay():
    coverage = np.maximum(disc(80, 50, 20), ((abs(X - 80) <= 0.5) & (Y > 50) & (Y < 100)).astype(float))
    frames = clip(lambda t: over(plain((255, 255, 255)), coverage, (60, 40, 30)))
    assert (cut(frames)[:, 75:99, 80, 3] >= 250).all()


def test_the_element_may_leave_the_frame_for_a_while():
    frames = clip(lambda t: over(plain((255, 255, 255)), disc(60, 60, 20) * (t != 1), (90, 40, 20)))
    alpha = cut(frames)[..., 3]
    assert alpha[0].any() and not alpha[1].any() and alpha[2].any()


def test_uneven_light_on_a_green_screen_is_still_screen():
    light = 0.75 + 0.4 * X / WIDTH
    frames = clip(
        lambda t: over(plain((40, 170, 60)) * light[..., None], disc(80, 60, 20), (200, 180, 170)), noise=1.5
    )
    alpha = cut(frames)[..., 3]
    assert not alpha[:, disc(80, 60, 24) == 0].any()
    assert (alpha[:, disc(80, 60, 16) == 1] == 255).all()


# ------------------------------------------------------------------------------------------------ properties


@given(pixels, channels, channels)
def test_green_despill_leaves_no_more_green_than_red_or_blue(rgb, high, low):
    clean = despill(rgb, np.array([low // 2, 128 + high // 2, low // 2]))
    assert (clean[:, 1] <= np.maximum(rgb[:, 0], rgb[:, 2])).all()
    np.testing.assert_array_equal(clean[:, [0, 2]], rgb[:, [0, 2]])
    kept = rgb[:, 1] <= np.maximum(rgb[:, 0], rgb[:, 2])
    np.testing.assert_array_equal(clean[kept], rgb[kept])


@given(pixels, st.tuples(channels, channels, channels).filter(lambda c: max(c) - min(c) > 2))
def test_despill_of_any_colour_never_adds_and_does_all_at_once(rgb, colour):
    clean = despill(rgb, np.array(colour))
    assert (clean <= rgb).all()
    np.testing.assert_array_equal(despill(clean, np.array(colour)), clean)
    strong = np.array(colour) > (max(colour) + min(colour)) / 2
    assert (clean[:, strong].min(axis=1).astype(int) <= clean[:, ~strong].max(axis=1)).all()
    grey = np.repeat(rgb[:, :1], 3, axis=1)
    np.testing.assert_array_equal(despill(grey, np.array(colour)), grey)


def test_a_neutral_screen_has_nothing_to_despill():
    with pytest.raises(ValueError, match="neutral"):
        despill(np.zeros((1, 3), np.uint8), np.array([7, 7, 7]))


@settings(max_examples=80)
@given(
    colour=st.tuples(channels, channels, channels),
    background=st.tuples(channels, channels, channels),
    share=st.floats(0, 1),
)
def test_contrast_scores_are_linear_in_mixtures(colour, background, share):
    screen = Screen("x", background, hue=False, clear=1, firm=2, solid=2)
    f, b = np.array(colour, np.float32), np.array(background, np.float32)
    np.testing.assert_allclose(
        score(share * f + (1 - share) * b, screen), share * score(f, screen), atol=1e-2
    )


@settings(max_examples=80)
@given(
    grey=channels,
    background=st.tuples(channels, channels, channels).filter(lambda c: max(c) - min(c) > 60),
    share=st.floats(0, 1),
)
def test_hue_scores_of_mixtures_with_neutral_pixels_are_their_fraction(grey, background, share):
    screen = Screen("x", background, hue=True, clear=0.1, firm=0.2, solid=0.3)
    mixture = share * np.full(3, grey, np.float32) + (1 - share) * np.array(background, np.float32)
    np.testing.assert_allclose(score(mixture, screen), share, atol=1e-3)


# --------------------------------------------------------------------------------------------------- refusals


def white(*parts: tuple[np.ndarray, tuple[int, int, int]], background: int = 255) -> np.ndarray:
    def draw(t: int) -> np.ndarray:
        frame = plain((background,) * 3)
        for coverage, colour in parts:
            frame = over(frame, coverage, colour)
        return frame

    return clip(draw)


BODY = disc(80, 60, 40)
EYES = [(disc(65, 50, 4), (20, 20, 20)), (disc(95, 50, 4), (20, 20, 20))]


@pytest.mark.parametrize("lossy", [False, True])
@pytest.mark.parametrize(
    "frames",
    [
        white((BODY, (248, 248, 246))),
        white((BODY, (247, 246, 248)), *EYES),
        white((BODY, (252, 253, 254)), *EYES, background=250),
        white((BODY, (20, 20, 20)), (disc(80, 60, 36), (255, 255, 255))),
        white(
            (disc(50, 20, 2), (20, 20, 20)), (disc(75, 60, 2), (20, 20, 20)), (disc(50, 100, 2), (20, 20, 20))
        ),
    ],
    ids=["pale", "pale with eyes", "paler than its background", "outlined", "white with buttons"],
)
def test_near_white_elements_on_white_are_refused_with_the_keys_to_use(frames, lossy):
    with pytest.raises(InputError) as caught:
        cut(coded(frames, 90) if lossy else frames, "white")
    message = str(caught.value)
    assert message.startswith("clip.mp4: key white was tried")
    assert all(remedy in message for remedy in ("--key alpha", "--mask", "--key green"))
    assert "\n" not in message


@pytest.mark.parametrize("key", ["white", "auto"])
def test_an_off_white_element_with_contrast_is_keyed(key):
    alpha = cut(white((BODY, (240, 236, 230))), key)[..., 3]
    assert_outline(alpha, BODY)


@pytest.mark.parametrize(("colour", "key"), [((255, 255, 255), "white"), ((40, 170, 60), "green")])
def test_an_empty_screen_says_which_key_was_tried(colour, key):
    with pytest.raises(InputError, match=r"key (white|#28aa3c) was tried and no element was found.*--mask"):
        cut(clip(lambda t: plain(colour), noise=1), key)


def test_a_key_that_is_absent_names_the_colour_that_is_present():
    frames = clip(lambda t: over(plain((40, 170, 60)), BODY, (200, 90, 60)))
    with pytest.raises(InputError, match=r"key blue was tried.*#28aa3c.*--key.*--mask"):
        cut(frames, "blue")
    with pytest.raises(InputError, match="key white was tried"):
        cut(frames, "white")


def test_auto_refuses_borders_without_one_colour():
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match=r"don't have one colour.*--key.*--mask"):
        cut(rng.integers(0, 256, (2, HEIGHT, WIDTH, 3), np.uint8))
    with pytest.raises(InputError, match=r"neither white nor a saturated colour.*--key '#000000'.*--mask"):
        cut(clip(lambda t: over(plain((0, 0, 0)), BODY, (200, 90, 60))))


@pytest.mark.parametrize("key", ["", "Green", "#12345", "#1234567", "#gggggg", "red", "green "])
def test_unknown_keys_are_refused_with_the_known_ones(key):
    with pytest.raises(InputError, match="known are auto, alpha, white, green, blue"):
        screen.parse_key(key)


def test_keying_does_not_change_the_clip():
    frames = clip(lambda t: over(plain((40, 170, 60)), BODY, (200, 90, 60)))
    before = frames.copy()
    cut(frames)
    np.testing.assert_array_equal(frames, before)


# ---- Borders that mislead ----------------------------------------------------------------------------------


def squares(light: int, dark: int, side: int, height: int = 96, width: int = 128) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    grey = np.where((y // side + x // side) % 2, dark, light).astype(np.uint8)
    frame = np.repeat(grey[..., None], 3, axis=-1)
    frame[20:70, 40:90] = (204, 60, 40)
    return frame[None]


def test_a_checkerboard_is_named_with_a_remedy_that_works():
    path = DATA / "checkerboard.png"
    with pytest.raises(InputError, match="checkerboard of #ffffff and #cccccc: .*--key white"):
        load_element(path)
    alpha = load_element(path, key="white").frames[..., 3]
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    element = np.ptp(pixels, axis=-1) > 40
    assert abs(int((alpha >= 128).sum()) - int(element.sum())) < 0.03 * element.sum()


@pytest.mark.parametrize(
    ("light", "dark", "side", "remedy"),
    [(255, 204, 8, "--key white"), (255, 238, 10, "--key white"), (153, 102, 16, "a mask")],
)
def test_checkerboards_of_other_programs(light, dark, side, remedy):
    with pytest.raises(InputError, match=f"checkerboard.*{remedy}"):
        measure_screen(squares(light, dark, side), "auto", "clip")


def test_what_only_resembles_a_checkerboard_is_none():
    assert checkerboard(squares(255, 204, 8)[0]) is not None
    rng = np.random.default_rng(0)
    grey = np.repeat(np.where(rng.random((64, 64, 1)) < 0.5, 255, 204), 3, -1).astype(np.uint8)
    assert checkerboard(grey) is None  # noise
    plain = np.full((64, 64, 3), 255, np.uint8)
    assert checkerboard(plain) is None
    plain[:, ::8] = 204  # lines
    assert checkerboard(plain) is None


@pytest.mark.parametrize(
    ("element", "background", "keys"),
    [
        ((40, 60, 150), (255, 255, 255), ("'#283c96'", "white")),
        ((250, 250, 250), (20, 180, 40), ("white", "'#14b428'")),
    ],
)
def test_an_element_that_covers_most_of_the_borders_is_not_taken_for_the_screen(element, background, keys):
    frames = np.full((3, 96, 128, 3), element, np.uint8)
    frames[:, :30, 10:-10] = background  # a close-up that leaves the borders at the top only
    with pytest.raises(InputError, match="the borders have two colours") as raised:
        measure_screen(frames, "auto", "clip")
    assert all(key in str(raised.value) for key in keys)
    named = measure_screen(frames, "white" if keys[1] == "white" else "green", "clip")
    assert np.abs(np.array(named.rgb) - background).max() <= 2


def test_a_person_who_stands_on_the_lower_border_is_no_second_screen():
    frames = np.full((3, 96, 128, 3), (20, 180, 40), np.uint8)
    frames[:, 20:, 10:118] = (40, 40, 60)
    assert measure_screen(frames, "auto", "clip").hue
