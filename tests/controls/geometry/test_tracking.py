import cv2
import numpy as np
import pytest

from gencompositor_jax.controls.geometry.tracking import track_point
from gencompositor_jax.errors import InputError

FRAMES = 24


def texture(height: int = 200, width: int = 300, seed: int = 0) -> np.ndarray:
    noise = cv2.GaussianBlur(
        np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32), (0, 0), 2.5
    )
    return 128 + noise * (50 / noise.std())


def film(pictures: list[np.ndarray], noise: float = 3.0) -> np.ndarray:
    """Grey float pictures -> uint8 RGB frames with sensor noise."""
    rng = np.random.default_rng(1)
    noisy = [p + rng.normal(0, noise, p.shape) for p in pictures]
    return np.clip(np.stack(noisy), 0, 255).astype(np.uint8)[..., None].repeat(3, axis=-1)


def moved(picture: np.ndarray, matrix: list[list[float]]) -> np.ndarray:
    size = (picture.shape[1], picture.shape[0])
    return np.asarray(cv2.warpAffine(picture, np.array(matrix), size, borderMode=cv2.BORDER_REFLECT))


def test_follows_a_pan_with_subpixel_steps_and_noise() -> None:
    t = np.arange(FRAMES)
    shift = np.stack([3.4 * t + 4 * np.sin(t / 3), -1.7 * t], axis=1)
    frames = film([moved(texture(), [[1, 0, dx], [0, 1, dy]]) for dx, dy in shift])
    xy, lost, report = track_point(frames, (120.0, 150.0))
    assert lost is None and "all 24 frames" in report
    np.testing.assert_allclose(xy, shift + (120, 150), atol=0.25)


def test_follows_rotation_and_scaling() -> None:
    matrices = []
    for t in range(FRAMES):
        c, s = (1 + 0.01 * t) * np.cos(t / 60), (1 + 0.01 * t) * np.sin(t / 60)
        matrices.append([[c, s, 150 - c * 150 - s * 100], [-s, c, 100 + s * 150 - c * 100]])
    xy, lost, _ = track_point(film([moved(texture(), m) for m in matrices]), (110.0, 80.0))
    assert lost is None
    np.testing.assert_allclose(xy, [np.array(m) @ (110, 80, 1) for m in matrices], atol=1.5)


def test_follows_an_object_over_a_still_background() -> None:
    """The patch around the point is on the object, so the object's motion is tracked."""
    still, thing = texture(), texture(60, 60, seed=2)
    pictures = []
    for t in range(FRAMES):
        picture = still.copy()
        picture[60 + t : 120 + t, 40 + 4 * t : 100 + 4 * t] = thing
        pictures.append(picture)
    xy, lost, _ = track_point(film(pictures), (70.0, 90.0))
    assert lost is None
    np.testing.assert_allclose(xy[-1], (70 + 4 * (FRAMES - 1), 90 + FRAMES - 1), atol=0.5)


def test_a_point_that_leaves_the_frame_is_reported_and_stays() -> None:
    frames = film([moved(texture(), [[1, 0, -8.0 * t], [0, 1, 0]]) for t in range(FRAMES)])
    xy, lost, report = track_point(frames, (80.0, 100.0))
    assert lost is not None and 7 <= lost <= 11  # 80 pixels at 8 per frame
    assert f"lost in frame {lost} of 0..23" in report
    np.testing.assert_array_equal(xy[lost:], np.repeat(xy[lost - 1 : lost], FRAMES - lost, axis=0))
    np.testing.assert_allclose(xy[: lost - 1, 0], 80 - 8.0 * np.arange(lost - 1), atol=0.5)


@pytest.mark.parametrize("contrast", [1.0, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_a_cut_loses_the_point(contrast: float, seed: int) -> None:
    before, after = (128 + (texture(seed=s) - 128) * contrast for s in (seed, seed + 9))
    xy, lost, report = track_point(film([before] * 3 + [after] * 3), (150.0, 100.0))
    assert lost == 3 and "frame 3" in report
    np.testing.assert_allclose(xy, [(150, 100)] * 6, atol=0.5)


def test_a_neighbour_that_moves_does_not_pull() -> None:
    """Part of the grid is on an object that moves away (a mean would shift by 2 pixels); the median stays."""
    still, other, pictures = texture(), texture(seed=3), []
    for t in range(8):
        picture = still.copy()
        picture[:, 160 + 3 * t :] = other[:, : 140 - 3 * t]
        pictures.append(picture)
    xy, lost, _ = track_point(film(pictures), (148.0, 100.0))
    assert lost is None
    np.testing.assert_allclose(xy, [(148, 100)] * 8, atol=0.3)


def test_a_covered_point_is_lost() -> None:
    pictures = [texture() for _ in range(6)]
    for picture in pictures[3:]:
        picture[:, 100:200] = 128
    _, lost, _ = track_point(film(pictures), (150.0, 100.0))
    assert lost == 3


def test_at_the_corner_of_the_frame() -> None:
    xy, lost, _ = track_point(film([texture()] * 3), (0.0, 199.0))
    assert lost is None
    np.testing.assert_allclose(xy, [(0, 199)] * 3, atol=0.1)


@pytest.mark.parametrize("xy", [(300.0, 50.0), (-1.0, 50.0), (50.0, 200.0), (float("nan"), 3.0)])
def test_points_outside(xy: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="outside the background of 300x200"):
        track_point(film([texture()] * 2), xy)


def test_points_without_texture_are_refused() -> None:
    flat = np.full((200, 300), 128.0, np.float32)
    edge = flat.copy()
    edge[:, 150:] = 200  # along a straight edge the point would slide
    for picture in (flat, edge):
        with pytest.raises(InputError, match="can't be tracked"):
            track_point(film([picture] * 3, noise=0), (150.0, 100.0))


def test_a_single_frame() -> None:
    xy, lost, _ = track_point(film([texture()]), (10.0, 10.0))
    assert lost is None and xy.tolist() == [[10, 10]]
