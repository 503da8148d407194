"""Training on linear latents, in the layout `trajectory`, from a config to a model that is evaluated."""

import json

import numpy as np
import pytest

from gencompositor_jax import checkpoints
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.evaluation import heldout
from gencompositor_jax.training import codec_basis, loop
from gencompositor_jax.training.config import load_config

STACK = {"num_heads": 1, "head_dim": 32, "time_embed_dim": 16}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run that stops after 10 of 30 steps and resumes."""
    config = load_config(
        "tiny:linear",
        ["optimizer.warmup=5", "log_every=5", "checkpoint.every=10", "validation.every=0", "steps=30"],
    )
    with config.unlocked():
        config.arch_changes = {
            "frames": 5,
            "height": 32,
            "width": 48,
            "base_grid": (4, 6),
            "codec": {"latent_channels": 32},
            "backbone": {**STACK, "num_layers": 2},
            "branch": STACK,
        }
    workdir = tmp_path_factory.mktemp("linear")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec_basis, "CLIPS", 10)
        loop.train(config, workdir, minutes=0)
        loop.train(config, workdir)
    return workdir


@pytest.mark.slow
def test_the_loss_falls(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert rows[-1]["step"] == 30 and losses[-1] < losses[0]


@pytest.mark.slow
def test_the_model_holds_the_basis_of_its_run_and_is_evaluated(workdir):
    model = checkpoints.load(workdir / "model")
    basis = dict(np.load(workdir / codec_basis.FILE))
    for name, array in model.arrays["codec"].items():
        np.testing.assert_allclose(array, basis[name], rtol=1e-2)
    report = heldout.evaluate(model, SamplingOptions(steps=1), clips=2).report
    assert report["mean_db"]["model"]["target"] > 5
