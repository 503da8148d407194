"""The network gives what onnxruntime gives for the published file."""

import pathlib

import numpy as np
import pytest

from gencompositor_jax.controls.element.segmenters import u2net
from gencompositor_jax.errors import InputError

ANSWER = pathlib.Path(__file__).parent / "u2netp_answer.npz"  # benchmarks/u2netp.py recorded it


def test_the_network_agrees_with_onnxruntime():
    """To the rounding of its weights to float16: the mask is the same, and so is nearly every probability."""
    with np.load(ANSWER) as recorded:
        picture, answer = recorded["picture"], recorded["answer"]
    found = u2net.saliency(picture[None])[0]
    assert 0.2 < (answer >= 128).mean() < 0.4
    assert np.abs(255 * found - answer).mean() < 0.5
    assert ((found >= 0.5) != (answer >= 128)).mean() < 1e-3


def test_another_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(u2net, "WEIGHTS", tmp_path / "u2netp.npz")
    u2net.WEIGHTS.write_bytes(b"PK")
    u2net.weights.cache_clear()
    with pytest.raises(
        InputError, match=r"u2netp.npz: SHA-256 [0-9a-f]{12}\.\.\., expected .*install it again"
    ):
        u2net.weights()
    u2net.weights.cache_clear()
