"""Elements: keys, masks and segmenters give the same canvas; what fails names the remedy."""

import pathlib
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gencompositor_jax.controls.element.element import Element
from gencompositor_jax.controls.element.loading import fit_length, load_element
from gencompositor_jax.errors import InputError

FRAMES, HEIGHT, WIDTH = 4, 64, 96
COLOUR = (200, 90, 60)
# The element is 20 wide and 16 high and moves 8 to the right each frame: its extent over the clip is 44 x 16.
TOP, LEFT, TALL, WIDE, STEP = 20, 10, 16, 20, 8
CANVAS = (FRAMES, TALL, WIDE + STEP * (FRAMES - 1), 4)


def masks() -> np.ndarray:
    out = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    for t in range(FRAMES):
        out[t, TOP : TOP + TALL, LEFT + STEP * t : LEFT + STEP * t + WIDE] = True
    return out


def before(background: tuple[int, int, int]) -> np.ndarray:
    return np.where(masks()[..., None], np.array(COLOUR), np.array(background)).astype(np.uint8)


def rgba() -> np.ndarray:
    return np.concatenate([before((10, 20, 30)), 255 * masks()[..., None].astype(np.uint8)], axis=-1)


def folder(path: pathlib.Path, frames: Iterable[np.ndarray]) -> str:
    path.mkdir()
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(path / f"{t:03d}.png")
    return str(path)


def video(
    path: pathlib.Path, frames: np.ndarray, codec: str = "libx264", pixels: str = "yuv444p", rate: int = 24
) -> str:
    layout = "rgba" if frames.shape[-1] == 4 else "rgb24"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(
            codec, rate=rate, options={"crf": "12"} if codec != "prores_ks" else {}
        )
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pixels
        stream.time_base = Fraction(1, rate)
        for t, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=layout)
            picture.pts = t
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return str(path)


def assert_is_the_element(element: Element, slack: int = 0) -> None:
    """The moving box on a canvas of its whole motion; `slack`: pixels of tolerance for soft edges."""
    frames = element.frames
    assert frames.dtype == np.uint8
    assert all(abs(a - b) <= 2 * slack for a, b in zip(frames.shape, CANVAS, strict=True))
    # The canvas may begin up to `slack` earlier; find the first frame's box on it by its middle.
    for t in range(FRAMES):
        solid = frames[t, ..., 3] >= 128
        assert abs(int(solid.sum()) - TALL * WIDE) <= 2 * slack * (TALL + WIDE)
        rows, columns = np.nonzero(solid)
        centre = (frames.shape[2] - 1) / 2 + STEP * (t - (FRAMES - 1) / 2)
        assert abs(columns.mean() - centre) <= 0.5 + slack / 2
        assert abs(rows.mean() - (frames.shape[1] - 1) / 2) <= 0.5 + slack / 2
        inner = frames[t][solid & (frames[t, ..., 3] == 255)][:, :3].astype(int)
        assert np.abs(np.median(inner, axis=0) - COLOUR).max() <= (8 if slack else 0)


# ----------------------------------------------------------------------------------------- ways to cut it out


@pytest.mark.parametrize("key", ["auto", "alpha"])
def test_png_folder_with_alpha_is_exact(tmp_path, key):
    element = load_element(folder(tmp_path / "clip", rgba()), key=key)
    assert element.key == "alpha" and element.name == str(tmp_path / "clip")
    assert element.frames.shape == CANVAS
    expected = rgba()[:, TOP : TOP + TALL, LEFT : LEFT + CANVAS[2]]
    np.testing.assert_array_equal(element.frames, expected)


def test_soft_alpha_is_kept_as_it_is_and_coding_noise_is_not(tmp_path):
    frames = np.zeros((1, 8, 16, 4), np.uint8)
    frames[0, :, :, 3] = np.arange(16) * 17
    frames[0, 0, :, 3] = [3] * 8 + [252] * 8
    element = load_element(folder(tmp_path / "clip", frames))
    assert element.frames[0, 1, :, 3].tolist() == [17 * i for i in range(1, 16)]
    assert element.frames[0, 0, :, 3].tolist() == [0] * 7 + [255] * 8


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [("clip.mov", "prores_ks", "yuva444p10le"), ("clip.webm", "libvpx-vp9", "yuva420p")],
    ids=["ProRes 4444", "VP9"],
)
def test_video_with_alpha(tmp_path, name, codec, pixels):
    path = video(tmp_path / name, rgba(), codec, pixels)
    for key in ("auto", "alpha"):
        element = load_element(path, key=key)
        assert element.key == "alpha"
        assert_is_the_element(element, slack=1)


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p"])
@pytest.mark.parametrize(
    ("background", "key", "found"),
    [
        ((255, 255, 255), "auto", "white"),
        ((250, 250, 250), "white", "white"),
        ((30, 160, 60), "auto", "#"),
        ((30, 160, 60), "green", "#"),
        ((20, 40, 170), "blue", "#"),
        ((0, 0, 0), "#000000", "#"),
    ],
)
def test_video_on_a_screen(tmp_path, background, key, found, pixels):
    element = load_element(video(tmp_path / "clip.mp4", before(background), pixels=pixels), key=key)
    assert element.key.startswith(found)
    assert_is_the_element(element, slack=2)


def test_opaque_alpha_falls_back_to_the_borders(tmp_path):
    opaque = np.full((FRAMES, HEIGHT, WIDTH, 1), 255, np.uint8)
    frames = np.concatenate([before((255, 255, 255)), opaque], axis=-1)
    element = load_element(folder(tmp_path / "clip", frames))
    assert element.key == "white"
    assert_is_the_element(element, slack=1)


TEXTURED = np.random.default_rng(0).integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), np.uint8)


def on_texture() -> np.ndarray:
    return np.where(masks()[..., None], np.array(COLOUR, np.uint8), TEXTURED)


@pytest.mark.parametrize("coded", [False, True])
def test_mask_clip_cuts_from_any_background(tmp_path, coded):
    clip = folder(tmp_path / "clip", on_texture())
    painted = np.repeat(255 * masks()[..., None].astype(np.uint8), 3, axis=-1)
    mask = video(tmp_path / "mask.mp4", painted) if coded else folder(tmp_path / "mask", painted)
    element = load_element(clip, mask=mask)
    assert element.key == "mask"
    assert_is_the_element(element, slack=2)
    soft = (element.frames[..., 3] > 0) & (element.frames[..., 3] < 255)
    assert soft.any(), "the edge is soft"
    # Nothing of the old background shows at the edge, however little of the element is there.
    edge = element.frames[(element.frames[..., 3] > 0) & (element.frames[..., 3] < 64)][:, :3].astype(int)
    assert np.abs(edge - COLOUR).max() <= 64


def test_mask_may_be_painted_in_a_colour_and_one_image_serves_all_frames(tmp_path):
    clip = folder(tmp_path / "clip", on_texture())
    red = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    red[TOP : TOP + TALL, LEFT : LEFT + WIDE, 0] = 255
    Image.fromarray(red).save(tmp_path / "mask.png")
    alpha = load_element(clip, mask=tmp_path / "mask.png").frames[..., 3]
    assert len(alpha) == FRAMES
    assert (alpha == alpha[:1]).all()
    assert (alpha[0] >= 128).sum() == TALL * WIDE


def test_mask_follows_the_clip_by_time_and_trims_with_it(tmp_path):
    clip = video(tmp_path / "clip.mp4", on_texture(), rate=10)
    painted = np.repeat(255 * masks()[..., None].astype(np.uint8), 3, axis=-1)
    mask = video(tmp_path / "mask.mp4", np.repeat(painted, 2, axis=0), rate=20)
    assert_is_the_element(load_element(clip, mask=mask), slack=2)
    last = load_element(clip, mask=mask, start=0.3)
    assert len(last.frames) == 1 and abs(last.frames.shape[2] - WIDE) <= 4


def test_segmenter_sees_the_frames_and_its_masks_cut(tmp_path):
    seen = []

    def segmenter(frames: np.ndarray) -> np.ndarray:
        seen.append(frames.copy())
        return masks()

    element = load_element(folder(tmp_path / "clip", on_texture()), segmenter=segmenter)
    np.testing.assert_array_equal(seen[0], on_texture())
    assert element.key == "segmenter"
    assert_is_the_element(element, slack=2)


def test_canvas_is_the_extent_over_the_frames_read(tmp_path):
    clip = folder(tmp_path / "clip", rgba())
    assert load_element(clip, frames=1).frames.shape == (1, TALL, WIDE, 4)
    assert load_element(clip, frames=2).frames.shape == (2, TALL, WIDE + STEP, 4)


# ---------------------------------------------------------------------------------------------------- length


def numbered(frames: int) -> Element:
    return Element(
        np.arange(frames, dtype=np.uint8)[:, None, None, None].repeat(4, axis=-1), "clip.mov", "white"
    )


@given(have=st.integers(1, 12), need=st.integers(1, 30))
def test_fit_length_returns_the_frames_asked_for(have, need):
    element = numbered(have)
    loop, hold = fit_length(element, need, "loop"), fit_length(element, need, "hold")
    assert loop.frames[:, 0, 0, 0].tolist() == [i % have for i in range(need)]
    assert hold.frames[:, 0, 0, 0].tolist() == [min(i, have - 1) for i in range(need)]
    assert (loop.name, loop.key) == ("clip.mov", "white")
    if need <= have:
        np.testing.assert_array_equal(fit_length(element, need).frames, element.frames[:need])
    else:
        remedy = f"--frames {have} or less, a longer clip, or --extend loop or hold"
        with pytest.raises(
            InputError, match=f"clip.mov: has {have} frames, {need} are needed: pass {remedy}"
        ):
            fit_length(element, need)


@pytest.mark.parametrize(
    ("frames", "extend", "names"), [(0, "loop", "frames=0"), (3, "mirror", "extend='mirror'")]
)
def test_length_arguments_are_checked(frames, extend: Any, names):
    with pytest.raises(InputError, match=names):
        fit_length(numbered(2), frames, extend)


# --------------------------------------------------------------------------------------------------- refusals


@pytest.fixture
def textured(tmp_path) -> str:
    return folder(tmp_path / "textured", on_texture())


def test_missing_alpha_is_refused(tmp_path, textured):
    with pytest.raises(
        InputError, match=r"textured: key alpha was tried.*no alpha channel.*--key white.*--mask"
    ):
        load_element(textured, key="alpha")
    opaque = rgba()
    opaque[..., 3] = 255
    with pytest.raises(InputError, match=r"key alpha was tried, but alpha is opaque everywhere.*--mask"):
        load_element(folder(tmp_path / "opaque", opaque), key="alpha")
    clear = rgba()
    clear[..., 3] = 0
    for key in ("auto", "alpha"):
        name = f"clear-{key}"
        with pytest.raises(InputError, match=f"{name}: key alpha was tried and no element was found"):
            load_element(folder(tmp_path / name, clear), key=key)


def test_textured_borders_need_a_key(textured):
    with pytest.raises(InputError, match=r"textured: no alpha.*--key white, green, blue.*--mask"):
        load_element(textured)


def test_unknown_key_is_refused_before_anything_is_read():
    with pytest.raises(InputError, match="key: 'pink'"):
        load_element("not-there.mp4", key="pink")


def test_key_mask_and_segmenter_exclude_each_other(textured):
    with pytest.raises(InputError, match="key 'green' and a mask were given; pass one"):
        load_element(textured, key="green", mask=textured)
    with pytest.raises(InputError, match="a mask and a segmenter"):
        load_element(textured, mask=textured, segmenter=lambda frames: frames[..., 0] > 0)


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (np.full((FRAMES, HEIGHT, WIDTH + 2), 255, np.uint8), f"{WIDTH + 2}x{HEIGHT} pixels.*same size"),
        (np.full((FRAMES - 1, HEIGHT, WIDTH), 255, np.uint8), "has 3 frames.*has 4.*--frames 3"),
        (np.zeros((FRAMES, HEIGHT, WIDTH), np.uint8), "the mask is black in all 4 frames"),
    ],
    ids=["size", "length", "black"],
)
def test_masks_that_do_not_fit(tmp_path, textured, mask, says):
    with pytest.raises(InputError, match=f"mask: .*{says}"):
        load_element(textured, mask=folder(tmp_path / "mask", mask))


@pytest.mark.parametrize(
    "answer",
    [masks()[1:], masks().astype(np.uint8), masks()[..., None], None],
    ids=["length", "type", "shape", "None"],
)
def test_segmenters_that_return_something_else(textured, answer):
    with pytest.raises(InputError, match=r"segmenter: .*must return bool \(4, 64, 96\)"):
        load_element(textured, segmenter=lambda frames: answer)


def test_segmenter_that_finds_nothing(textured):
    with pytest.raises(InputError, match="the segmenter was tried and no element was found"):
        load_element(textured, segmenter=lambda frames: np.zeros(frames.shape[:3], bool))


def test_missing_clip_and_missing_mask_are_named(tmp_path, textured):
    with pytest.raises(InputError, match="nowhere.mp4"):
        load_element(tmp_path / "nowhere.mp4")
    with pytest.raises(InputError, match="nomask.png"):
        load_element(textured, mask=tmp_path / "nomask.png")
