"""VBench's motion smoothness, on a network of the user's package."""

import sys

import numpy as np
import pytest

from gencompositor_jax.errors import InputError
from gencompositor_jax.evaluation import learned
from gencompositor_jax.evaluation.measures import Clip
from gencompositor_jax.evaluation.metrics import interpolation

# A package like vbench: its own __init__ fails, its network gives the mean of both frames times a weight.
NETWORK = """
import torch
from vbench.third_party import pixels

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(1))

    def forward(self, first, second, middle, scale_factor, eval):
        assert first.shape[2] % 16 == first.shape[3] % 16 == 0 and middle.item() == 0.5
        return {"imgt_pred": self.gain * (first + second) * pixels.HALF}
"""


def mean(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return ((first.astype(int) + second) // 2).astype(np.uint8)


def test_smoothness_is_1_less_the_error_of_every_second_frame():
    levels = np.array(
        [10, 30, 40, 40, 80, 99], np.uint8
    )  # predicted: 25 for 30, 60 for 40; 99 has no next one
    frames = np.broadcast_to(levels[:, None, None, None], (6, 120, 120, 3))
    found = interpolation.motion_smoothness(frames, mean)
    assert found == pytest.approx([1 - 5 / 255, 1 - 20 / 255])


@pytest.mark.parametrize("shape", [(2, 120, 120, 3), (5, 112, 120, 3)])
def test_clips_that_are_too_short_or_small_have_no_smoothness(shape):
    assert np.isnan(interpolation.motion_smoothness(np.zeros(shape, np.uint8), mean)).all()


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "vbench" / "third_party" / "amt" / "networks"
    folder.mkdir(parents=True)
    (tmp_path / "vbench" / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder.parents[1] / "pixels.py").write_text("HALF = 0.5")
    (folder / "AMT-S.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def weights(tmp_path, **values):
    torch = pytest.importorskip("torch", reason="comes with the extra parity")
    path = tmp_path / "amt-s.pth"
    torch.save({"epoch": 3, "state_dict": {name: torch.tensor(v) for name, v in values.items()}}, path)
    return {"amt": path}


@pytest.mark.slow
def test_the_package_s_network_is_used_with_the_user_s_weights(package, tmp_path):
    found = learned.load(["motion_smoothness"], weights(tmp_path, gain=[0.5]))
    assert not found.absent
    assert not [name for name in sys.modules if name.startswith("vbench")]
    frames = np.random.default_rng(0).integers(0, 256, (3, 113, 150, 3)).astype(np.uint8)
    expected = np.floor((frames[0].astype(np.float64) + frames[2]) / 4)
    value = found.measures["motion_smoothness"].compute(Clip(frames))
    assert value == pytest.approx(1 - np.abs(frames[1] - expected).mean() / 255, abs=1e-5)


@pytest.mark.slow
def test_what_cannot_be_used_is_one_line(package, tmp_path):
    assert "--weights amt=PATH" in learned.load(["motion_smoothness"], {}).absent["motion_smoothness"]
    with pytest.raises(InputError, match="isn't the weights of AMT-S"):
        learned.load(["motion_smoothness"], weights(tmp_path, other=[1.0]))
    (package / "AMT-S.py").unlink()
    with pytest.raises(InputError, match="can't be imported"):
        learned.load(["motion_smoothness"], weights(tmp_path, gain=[1.0]))
