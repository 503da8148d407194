"""How long a result is for which no number of frames is given."""

import numpy as np
import pytest

from gencompositor_jax.controls.element.element import Element
from gencompositor_jax.controls.footage import load_background, shortest
from gencompositor_jax.controls.media.video_out import write_image_folder


@pytest.mark.parametrize(
    ("how", "frames"),
    [({}, 24), ({"start": 0.5}, 12), ({"end": 0.25}, 6), ({"fps": 12.0}, 12)],
    ids=str,
)
def test_all_of_the_background(make_clip, how, frames):
    path = make_clip("background.mp4")
    assert shortest(path, (), **how) == frames
    clip = load_background(path, frames, window=5, **how)
    assert len(clip.frames) == frames and not isinstance(clip.frames, np.ndarray)


def test_an_element_ends_the_result_unless_it_is_extended(make_clip, tmp_path):
    path, short = make_clip("background.mp4"), make_clip("element.mp4", count=12, fps=12)  # a second, too
    assert shortest(path, [(short, "error", 0)]) == 24
    assert shortest(path, [(short, "error", 0)], end=0.5) == 12
    array = np.zeros((7, 4, 4, 4), np.uint8)
    assert shortest(path, [(short, "error", 0), (array, "error", 0)]) == 7
    assert shortest(path, [(Element(array, "array"), "error", 0)]) == 7
    assert shortest(path, [(array, "loop", 0)]) == 24 == shortest(path, [(array, "hold", 0)])
    assert shortest(path, [(array, "error", 10)]) == 17  # it begins later
    write_image_folder(tmp_path / "picture", np.zeros((1, 4, 4, 3), np.uint8))
    assert shortest(path, [(tmp_path / "picture", "error", 0)]) == 24  # it is held
