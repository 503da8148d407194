"""LPIPS and ST-LPIPS on random weights against values recorded from their packages (lpips 0.1.4 and
stlpips-pytorch 0.0.2 with these weights, float64).
"""

import numpy as np
import pytest

from gencompositor_jax.errors import InputError
from gencompositor_jax.evaluation.metrics import lpips
from tests.evaluation.metrics import lpips_weights

RECORDED = {
    False: (0.11352748549308199, 0.11059107155774085),
    True: (0.06739564820770352, 0.07075428503516641),
}


@pytest.mark.parametrize("tolerant", [False, True])
def test_distances_are_those_of_the_packages(tolerant):
    first, second = lpips_weights.clips()
    weights = lpips.make_weights(lpips_weights.trunk(), lpips_weights.heads(), "alexnet")
    network = lpips.NETWORKS["alexnet"][tolerant]
    found = lpips.lpips(first, second, weights, network)
    assert found == pytest.approx(RECORDED[tolerant], rel=1e-4)
    assert lpips.lpips(second, first, weights, network) == pytest.approx(found)
    assert lpips.lpips(first, first, weights, network) == pytest.approx([0, 0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda trunk, heads: trunk.pop("features.6.weight"), "expected sides"),
        (lambda trunk, heads: heads.update({"lin1.model.1.weight": np.ones((1, 7, 1, 1))}), "channels"),
        (lambda trunk, heads: heads.pop("lin4.model.1.weight"), "lin4.model.1.weight is missing"),
        (lambda trunk, heads: trunk.pop("features.6.bias"), "features.6.bias is missing"),
        (lambda trunk, heads: trunk.update({"features.1.running_mean": np.ones(64)}), "running_mean"),
        (lambda trunk, heads: trunk.update({"epoch": 7}), "holds epoch"),
        (lambda trunk, heads: trunk.update({"conv1.weight": np.ones((64, 3, 7, 7))}), None),
        (lambda trunk, heads: trunk.update({"layer1.0.weight": np.ones((64, 3, 7, 7))}), "expected sides"),
    ],
)
def test_weights_of_another_network_are_refused(change, message):
    trunk, heads = lpips_weights.trunk(), lpips_weights.heads()
    change(trunk, heads)
    if message is None:  # a name of another kind: no layer of the network
        assert len(lpips.make_weights(trunk, heads, "alexnet").kernels) == 5
        return
    with pytest.raises(InputError, match=message):
        lpips.make_weights(trunk, heads, "alexnet")


def test_small_frames_are_refused():
    first, second = lpips_weights.clips()
    weights = lpips.make_weights(lpips_weights.trunk(), lpips_weights.heads(), "alexnet")
    with pytest.raises(ValueError, match="64 pixels"):
        lpips.lpips(first[:, :32], second[:, :32], weights, lpips.ALEXNET)
