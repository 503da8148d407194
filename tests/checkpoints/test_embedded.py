"""The embedded model, as everyone gets it: small, whole, and what `make demo` needs."""

import json
from pathlib import Path

import numpy as np
import pytest

from gencompositor_jax import checkpoints
from gencompositor_jax.cli import main
from gencompositor_jax.controls.media.video import read_video

MEGABYTE = 2**20


def test_it_is_small_whole_and_has_a_past():
    folder = checkpoints.packaged()
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 24 * MEGABYTE
    model = checkpoints.load(folder, verify=True)
    assert model.arch.frames >= 9 and model.arch.height >= 64 and model.arch.width >= 96
    assert model.provenance["config"] and model.provenance["step"] > 0
    assert all(np.isfinite(leaf).all() for leaf in checkpoints.named_leaves(model.arrays).values())


def test_the_demo_puts_the_elements_colour_on_the_trajectory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The sky is cyan, the element red in its middle: where it is, the result has less cyan than before."""
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--out-dir", "demo"]) == 0
    scene = json.loads(Path("demo/composite.scene.json").read_text())
    result, given = read_video("demo/composite.mp4").frames, read_video("demo/background.mp4").frames
    assert result.shape == given.shape
    middle = scene["layers"][0]["trajectory"]["keyframes"][1]
    y, x, t = round(middle["y"]), round(middle["x"]), len(result) // 2
    before, after = (frames[t, y - 8 : y + 8, x - 8 : x + 8].mean((0, 1)) for frames in (given, result))
    cyan = np.array([-1, 0.5, 0.5])
    assert after @ cyan < before @ cyan - 20
    assert (
        np.abs(result[t, :, -20:].astype(int) - given[t, :, -20:]).mean() < 6
    )  # far from it: coding noise only
