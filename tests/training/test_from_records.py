"""Trains with the VAE by the commands: on VideoComp's folder, on records of it, and on records with the VAE's
moments.
"""

import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from gencompositor_jax import arch as arch_lib
from gencompositor_jax import checkpoints
from gencompositor_jax.cli import main
from gencompositor_jax.training import loop
from tests.data_pipelines.videocomp_folder import make_folder

pytestmark = pytest.mark.slow

CONFIG = Path(__file__).parents[2] / "configs" / "gencompositor_6b.py"
STACK = {
    "num_layers": 1,
    "num_heads": 1,
    "head_dim": 16,
    "time_embed_dim": 16,
    "text_dim": 8,
    "text_tokens": 2,
}
# The released architecture at the smallest sizes, with the VAE and its posterior.
SMALL = {
    "frames": 9,
    "height": 32,
    "width": 48,
    "base_grid": (2, 3),
    "backbone": STACK,
    "branch": STACK,
    "codec": {"block_widths": (8, 8, 8, 8), "layers_per_block": 1, "latent_channels": 4, "norm_groups": 4},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("data") / "VideoComp", range(4), frames=40, fps=24.0)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A checkpoint of these sizes with random weights."""
    arch = arch_lib.preset("released", SMALL)
    rng = np.random.default_rng(0)
    arrays = jax.tree.map(
        lambda leaf: (0.1 * rng.standard_normal(leaf.shape)).astype(leaf.dtype),
        checkpoints.array_shapes(arch),
    )
    folder = tmp_path_factory.mktemp("start") / "model"
    checkpoints.save(folder, checkpoints.Model(arch, arrays))
    return folder


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    make_mesh, devices = loop.sharding.make_mesh, jax.devices()[:1]
    monkeypatch.setattr(loop.sharding, "make_mesh", lambda sizes: make_mesh(sizes, devices))


def train(workdir, start, source, path, capsys, validation=0):
    """The losses of three steps."""
    changes = [f"arch_changes.{k}={v}" for k, v in _flat(SMALL)]
    settings = [
        "arch=released",
        *changes,
        f"init={start}",
        f"data.source={source}",
        f"data.path={path}",
        "batch_size=2",
        "steps=3",
        "optimizer.warmup=1",
        "log_every=1",
        "data.mask_shapes=0.0",
        "checkpoint.every=3",
        f"validation.every={validation}",
    ]
    overrides = [f"--config.{setting}" for setting in settings]
    code = main(["train", "--config", f"{CONFIG}:runlocal", "--workdir", str(workdir), *overrides])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert checkpoints.load(workdir / "model").provenance["step"] == 3
    return [row["loss"] for row in rows if "loss" in row]


def _flat(tree, above=""):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield above + name, value


def test_from_the_folder_to_records_to_moments(data, start, tmp_path, capsys):
    size = ["--frames", "9", "--height", "32", "--width", "48"]
    assert main(["data", "check", str(data), "--frames", "9"]) == 0
    records, moments = tmp_path / "records", tmp_path / "moments"
    assert main(["data", "build", str(data), "--out", str(records), "--workers", "0", *size]) == 0
    command = ["data", "moments", str(records), "--out", str(moments), "--checkpoint", str(start)]
    assert main(command) == 0
    assert re.search(r"4 clips with moments", capsys.readouterr().out)

    from_folder = train(tmp_path / "a", start, "videocomp", data, capsys, validation=3)
    from_records = train(tmp_path / "b", start, "arrayrecord", records, capsys)
    with_moments = train(tmp_path / "c", start, "arrayrecord", moments, capsys)
    # JPEG and half-precision moments change the losses a little; other clips would change them a lot.
    np.testing.assert_allclose(from_records, from_folder, rtol=0.05)
    np.testing.assert_allclose(with_moments, from_records, rtol=0.01)
    assert with_moments != from_records

    other = tmp_path / "other"
    model = checkpoints.load(start)
    arrays = {**model.arrays, "codec": jax.tree.map(lambda x: 1.5 * x, model.arrays["codec"])}
    checkpoints.save(other, checkpoints.Model(model.arch, arrays))
    overrides = [f"--config.arch_changes.{k}={v}" for k, v in _flat(SMALL)]
    overrides += ["--config.arch=released", f"--config.init={other}", "--config.batch_size=2"]
    overrides += ["--config.data.source=arrayrecord", f"--config.data.path={moments}"]
    words = ["train", "--config", f"{CONFIG}:runlocal", "--workdir", str(tmp_path / "d"), *overrides]
    assert main(words) == 2
    assert "moments are of another VAE" in capsys.readouterr().err
