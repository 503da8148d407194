"""The embedded model: small, complete, and good enough for `make demo`."""

import json
from pathlib import Path

import numpy as np
import pytest

from gencompositor_jax import checkpoints
from gencompositor_jax.cli import main
from gencompositor_jax.controls.media.video import read_video

MEGABYTE = 2**20


def test_it_is_small_verified_and_has_its_provenance():
    folder = checkpoints.packaged()
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 24 * MEGABYTE
    model = checkpoints.load(folder, verify=True)
    assert model.arch.frames >= 9 and model.arch.height >= 64 and model.arch.width >= 96
    assert model.provenance["config"] and model.provenance["step"] > 0
    assert all(np.isfinite(leaf).all() for leaf in checkpoints.named_leaves(model.arrays).values())


def test_the_demo_puts_the_elements_colour_on_the_trajectory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The sky is cyan and the element red, so the result has less cyan at the element's position."""
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
    # Far from the element there is only coding noise.
    assert np.abs(result[t, :, -20:].astype(int) - given[t, :, -20:]).mean() < 6
