"""The edit as a layer: over(edit, plate) is the composite in every format; alpha is 0 outside the mask."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gencompositor_jax.controls.geometry.edit_layer import over, solve_layer
from gencompositor_jax.controls.media.layer_out import check_layer_output, write_layer
from gencompositor_jax.controls.media.numbering import numbered
from gencompositor_jax.controls.media.timecode import timecode_of
from gencompositor_jax.errors import InputError

H, W, T = 48, 64, 3
Y, X = np.mgrid[:H, :W]
INSIDE = (X - 34) ** 2 / 500 + (Y - 26) ** 2 / 300 < 1


def shot() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Plate, composite, cover of [T] frames: an opaque disc, its shadow, a glow; outside all is the plate."""
    plate = np.stack([60 + X * 2, 90 + Y, 150 - X], -1)[None].repeat(T, 0).astype(np.uint8)
    plate = plate + np.random.default_rng(0).integers(0, 8, plate.shape, np.uint8)
    composite, cover = plate.astype(float), np.zeros((T, H, W), np.float32)
    for t in range(T):
        shadow = 0.6 * np.exp(-(((X - 34) / 12) ** 2 + ((Y - 36) / 5) ** 2))
        composite[t] *= 1 - (shadow * INSIDE)[..., None]
        glow = 0.4 * np.exp(-(((X - 26) / 5) ** 2 + ((Y - 18) / 5) ** 2)) * INSIDE
        composite[t] += glow[..., None] * (255 - composite[t])
        cover[t] = np.clip(8.5 - np.hypot(X - 30 - 2 * t, Y - 24), 0, 1)
        composite[t] += cover[t][..., None] * (np.array([200, 90, 60]) - composite[t])
    return plate, np.rint(composite).astype(np.uint8), cover


def layers(levels: int) -> Iterator[np.ndarray]:
    for plate, composite, cover in zip(*shot(), strict=True):
        yield solve_layer(plate, composite, cover, levels)


frames = arrays(np.uint8, (2, 3, 3))


@settings(max_examples=200)
@given(plate=frames, composite=frames, cover=arrays(np.uint8, (2, 3)), levels=st.sampled_from([255, 65535]))
def test_any_composite_comes_back(plate, composite, cover, levels):
    layer = solve_layer(plate, composite, cover.astype(np.float32) / 255, levels)
    error = np.abs(over(layer, plate) - composite)
    assert error.max() <= (0.51 if levels == 255 else 0.01)
    same = (plate == composite).all(axis=-1) & (cover == 0)
    assert (layer[same] == 0).all()
    assert (layer[..., 3] >= np.floor(cover * (levels / 255))).all()


def test_shadows_are_nearly_black_and_the_element_is_opaque():
    plate, composite, cover = shot()
    layer = next(layers(65535)).astype(float) / 65535
    darker = (composite[0] < plate[0].astype(int) - 20).all(-1) & (cover[0] == 0)
    assert darker.any() and layer[darker][:, :3].max() < 0.1 and layer[darker][:, 3].max() < 0.7
    assert (layer[cover[0] == 1][:, 3] == 1).all()
    assert np.abs(255 * layer[cover[0] == 1][:, :3] - (200, 90, 60)).max() < 0.6
    assert (layer[~INSIDE & (cover[0] == 0)] == 0).all()


def read_back(path: Path) -> np.ndarray:
    if path.suffix in (".mov", ".mkv"):
        with av.open(str(path)) as container:
            found = [frame.to_ndarray(format="rgba64le") for frame in container.decode(video=0)]
        return np.stack(found)
    files = sorted(path.parent.glob(f"*{path.suffix}"))
    pictures: list[Any] = [cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in files]
    return np.stack([cv2.cvtColor(picture, cv2.COLOR_BGRA2RGBA) for picture in pictures])


@pytest.mark.parametrize(
    ("name", "worst", "mean"),
    [
        ("edit_####.png", 0.01, 0.01),
        ("edit_%04d.tif", 0.01, 0.01),
        ("edit.mkv", 0.01, 0.01),
        ("edit.mov", 3.0, 0.15),  # 10 bits, with losses
    ],
)
def test_the_layer_over_the_plate_is_the_composite_in_every_format(tmp_path, name, worst, mean):
    plate, composite, cover = shot()
    write_layer(tmp_path / name, layers(65535), 25.0, numbers=range(1001, 1001 + T))
    found = read_back(tmp_path / name)
    assert found.shape == (T, H, W, 4)
    error = np.abs(over(found, plate) - composite)
    assert error.max() <= worst and error.mean() <= mean
    outside = ~INSIDE & (cover.max(axis=0) == 0)
    if name != "edit.mov":
        assert (found[:, outside] == 0).all()
    else:
        assert found[:, outside, 3].max() <= 64  # of 65535


def test_images_are_numbered_like_the_plate(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    write_layer(out / "edit_%05d.png", layers(65535), 24.0, numbers=range(1001, 1001 + T))
    assert sorted(p.name for p in out.iterdir()) == [f"edit_{n:05}.png" for n in (1001, 1002, 1003)]
    assert numbered(Path("a_##.png"), -4).name == "a_-4.png"
    with pytest.raises(InputError, match="edit_01002.png: exists"):
        (out / "edit_01001.png").unlink()
        check_layer_output(out / "edit_%05d.png", range(1001, 1004), overwrite=False)


def test_the_time_code_of_the_plate_is_kept(tmp_path):
    write_layer(tmp_path / "plate.mov", layers(65535), 25.0, timecode="10:59:59:20")
    with av.open(str(tmp_path / "plate.mov")) as container:
        assert container.streams.video[0].average_rate == 25
    assert timecode_of(tmp_path / "plate.mov", 0, 25.0) == "10:59:59:20"
    assert timecode_of(tmp_path / "plate.mov", 10, 25.0) == "11:00:00:05"
    write_layer(tmp_path / "plain.mkv", layers(65535), 25.0)
    assert timecode_of(tmp_path / "plain.mkv", 0, 25.0) is None


@pytest.mark.parametrize("name", ["edit.png", "edit.mp4", "edit", "edit_####.jpg", "edit.exr"])
def test_other_names_are_refused(tmp_path, name):
    with pytest.raises(InputError, match="--layer .*edit.mov .ProRes 4444., edit.mkv"):
        check_layer_output(tmp_path / name, range(3), overwrite=False)
