"""`--layer`: what a composite of a real pass writes, over its background, is the composite."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from gencompositor_jax.cli.outputs import Outputs, write_layer
from gencompositor_jax.compositor import Compositor
from gencompositor_jax.controls.element.loading import Element
from gencompositor_jax.controls.geometry.edit_layer import over
from gencompositor_jax.controls.geometry.trajectory_text import parse_trajectory
from gencompositor_jax.controls.media.video import Video
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.controls.shot import ElementLayer, RemovalLayer
from gencompositor_jax.controls.stage import make_stage

H, W, T = 48, 72, 5


@pytest.mark.parametrize("removal", [False, True])
def test_the_layer_of_a_composite(small_model, tmp_path, removal):
    y, x, t = np.mgrid[:H, :W, :T]
    pixels = np.stack([60 + 2 * x, 90 + 2 * y, 150 - x + 3 * t], -1).transpose(2, 0, 1, 3).astype(np.uint8)
    background = Video(pixels, 24, str(tmp_path / "plate.mov"))
    element = np.zeros((T, 16, 16, 4), np.uint8)
    element[:, 3:13, 3:13] = (200, 40, 90, 255)
    mask = np.zeros((T, H, W), bool)
    mask[:, 20:30, 30:44] = True
    layer = ElementLayer(Element(element, "element"), parse_trajectory("20,24 50,24"))
    stage = make_stage(background, [RemovalLayer(mask) if removal else layer], small_model.arch)
    composite = Compositor(small_model).render(stage, SamplingOptions(steps=2))
    outputs = Outputs(str(tmp_path / "out.mp4"), str(tmp_path / "edit_####.png"))
    outputs.check_layer(background, overwrite=False)
    assert write_layer(outputs, composite, stage, overwrite=False) <= 0.01
    files = [tmp_path / f"edit_{number:04}.png" for number in range(T)]
    assert sorted(tmp_path.glob("edit_*")) == files
    found = np.stack([read(file) for file in files])
    assert np.array_equal(np.rint(over(found, pixels)), composite.frames)
    assert (found[~composite.mask] == 0).all() and found[composite.mask][:, 3].max() == 65535


def read(file: Path) -> np.ndarray:
    picture = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    assert picture is not None
    return cv2.cvtColor(picture, cv2.COLOR_BGRA2RGBA)
