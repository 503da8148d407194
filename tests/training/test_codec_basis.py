"""The basis of a run: from its clips, kept in its folder."""

import dataclasses

import numpy as np
import pytest

from gencompositor_jax import arch as arch_lib
from gencompositor_jax.configs.common import base
from gencompositor_jax.data_pipelines.sources import ProceduralSource
from gencompositor_jax.errors import InputError
from gencompositor_jax.training import codec_basis

ARCH = dataclasses.replace(
    arch_lib.linear(),
    frames=5,
    height=32,
    width=48,
    codec=arch_lib.LinearCodecArch(space_factor=4, time_factor=4, latent_channels=6),
)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(codec_basis, "CLIPS", 3)
    return ProceduralSource(ARCH)


def test_a_resumed_run_reads_the_basis_that_it_wrote(few, tmp_path, monkeypatch):
    first = codec_basis.codec_basis(base(), ARCH, few, tmp_path)
    monkeypatch.setattr(codec_basis, "videos", lambda *_: pytest.fail("computed again"))
    again = codec_basis.codec_basis(base(), ARCH, few, tmp_path)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert first.components.shape == (6, 192)


def test_the_same_clips_give_the_same_basis(few, tmp_path):
    first = codec_basis.codec_basis(base(), ARCH, few, tmp_path)
    (tmp_path / codec_basis.FILE).unlink()
    again = codec_basis.codec_basis(base(), ARCH, few, tmp_path)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_basis_for_other_codecs_and_for_a_run_from_a_checkpoint(few, tmp_path):
    assert codec_basis.codec_basis(base(), arch_lib.tiny(), few, tmp_path) is None
    config = base()
    config.init = "checkpoints/tiny"
    assert codec_basis.codec_basis(config, ARCH, few, tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_a_file_that_does_not_fit_is_refused(few, tmp_path):
    file = tmp_path / codec_basis.FILE
    file.write_bytes(b"nothing")
    with pytest.raises(InputError, match="not readable"):
        codec_basis.codec_basis(base(), ARCH, few, tmp_path)
    np.savez(file, mean=np.zeros(3))
    with pytest.raises(InputError, match="another codec"):
        codec_basis.codec_basis(base(), ARCH, few, tmp_path)
