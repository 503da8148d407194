"""Training and sampling fit together: a model overfit on four clips reproduces them in evaluation."""

import functools
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from gencompositor_jax import arch as arch_lib
from gencompositor_jax import checkpoints, sharding
from gencompositor_jax.configs.common import base
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.data_pipelines.pipeline import Augmentation, make_example
from gencompositor_jax.data_pipelines.sources import ProceduralSource
from gencompositor_jax.evaluation.metrics import psnr
from gencompositor_jax.evaluation.prediction import composite, predict
from gencompositor_jax.training import loop

CLIPS = 4
STACK = {"num_heads": 2, "head_dim": 32, "time_embed_dim": 64}


class FourClips(ProceduralSource):
    """The first four procedural clips, each rendered once."""

    def __len__(self) -> int:
        return CLIPS

    def read(self, index, rng, removal):
        return self._clip(index)

    @functools.lru_cache(maxsize=CLIPS)  # noqa: B019
    def _clip(self, index):
        return super().read(index, np.random.default_rng(0), removal=False)


def recipe():
    """A config without augmentation and with all four clips in every batch."""
    config = base()
    config.arch = "tiny"
    with config.unlocked():
        config.arch_changes = {
            "frames": 5,
            "height": 32,
            "width": 48,
            "base_grid": (2, 3),
            "backbone": {**STACK, "num_layers": 2},
            "branch": STACK,
        }
    config.steps, config.batch_size, config.compute_dtype, config.remat = 400, CLIPS, "float32", "none"
    config.data.source, config.data.workers = "procedural", 0
    config.data.gamma, config.data.removal, config.data.mask_shapes = (1.0, 1.0), 0.0, 0.0
    config.loss.weight_cap = 3.0
    config.optimizer.learning_rate, config.optimizer.warmup, config.optimizer.b2 = 3e-3, 20, 0.98
    config.optimizer.weight_decay, config.optimizer.ema = 0.0, 0.9
    config.checkpoint.every, config.validation.every, config.log_every = 400, 0, 5
    return config


@pytest.fixture(scope="module")
def source():
    config = recipe()
    return FourClips(arch_lib.preset(config.arch, config.arch_changes.to_dict()))


def train(config, source, workdir: Path):
    """The folder of the model and the losses of a run on one device."""
    one_device = sharding.make_mesh({}, jax.devices()[:1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "open_source", lambda data, arch: source)
        patch.setattr(sharding, "make_mesh", lambda sizes: one_device)
        folder = loop.train(config, workdir)
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return folder, [row["loss"] for row in rows if "loss" in row]


@pytest.fixture(scope="module")
def overfit(source, tmp_path_factory):
    return train(recipe(), source, tmp_path_factory.mktemp("run"))


@pytest.mark.slow
def test_four_clips_are_overfit(overfit, source):
    folder, losses = overfit
    assert losses[-1] < losses[0] / 20

    none = Augmentation(gamma=(1.0, 1.0), removal=0.0, mask_shapes=0.0)
    examples = [make_example(source, i, np.random.default_rng(0), none) for i in range(CLIPS)]
    backgrounds = [source.read(i, None, False)["scene"] for i in range(CLIPS)]
    inputs = [{**e, "background": b} for e, b in zip(examples, backgrounds, strict=True)]
    generated = predict(checkpoints.load(folder), inputs, range(CLIPS), SamplingOptions(seed=7))
    composites = [composite(*pair) for pair in zip(inputs, generated, strict=True)]
    for result, example, background in zip(composites, examples, backgrounds, strict=True):
        assert psnr(background, example["target"], example["mask"]) < 20  # the background alone scores low
        assert psnr(result, example["target"], example["mask"]) > 30


@pytest.mark.slow
def test_adapters_are_trained_on_a_model_and_merged_into_it(overfit, source, tmp_path: Path):
    """The loss starts near that of the model, and the export differs from it in four kernels only."""
    base_model, losses = overfit
    config = recipe()
    config.init, config.trainable, config.lora.rank = str(base_model), "", 4
    config.steps, config.optimizer.warmup, config.optimizer.learning_rate = 20, 5, 1e-3
    adapted, losses_with_adapters = train(config, source, tmp_path)
    assert max(losses_with_adapters) < 3 * losses[-1]

    before, after = (checkpoints.named_leaves(checkpoints.load(f).arrays) for f in (base_model, adapted))
    assert before.keys() == after.keys()
    attention = "backbone/params/blocks/attention"
    assert {name for name in before if not np.array_equal(before[name], after[name])} == {
        f"{attention}/{part}/kernel" for part in ("query", "key", "value", "out")
    }
