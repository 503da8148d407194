import pickle
from pathlib import Path

import numpy as np
import pytest

from gencompositor_jax.arch import ModelArch
from gencompositor_jax.data_pipelines.build import Settings, build, inputs_of
from gencompositor_jax.data_pipelines.records import ArrayRecordSource
from gencompositor_jax.data_pipelines.tfds_builder import TfdsSource
from gencompositor_jax.data_pipelines.tfds_builder import build as build_tfds
from gencompositor_jax.errors import InputError
from tests.data_pipelines.videocomp_folder import make_folder

ARCH = ModelArch(frames=5, height=64, width=96)
SETTINGS = Settings(frames=5, height=64, width=96, clips_per_shard=2)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(ArrayRecord folder, TFDS folder) of the same clips."""
    folder = tmp_path_factory.mktemp("tfds")
    inputs = inputs_of(make_folder(folder / "data", range(3), frames=16), SETTINGS)
    plain = build(inputs, folder / "plain", SETTINGS, workers=0, progress=False)
    return plain.folder, build_tfds(inputs, folder / "tfds", SETTINGS, workers=0, progress=False).folder


def test_it_holds_the_records_of_arrayrecord(both):
    plain, dataset = ArrayRecordSource(both[0], ARCH), TfdsSource(both[1], ARCH)
    assert len(plain) == len(dataset) == 3
    for index in range(3):
        assert plain.record(index) == dataset.record(index)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(plain.read(2, rng, True)["target"], dataset.read(2, rng, True)["target"])


def test_only_the_dataset_is_left(both):
    root = both[1].parent.parent
    assert [path.name for path in root.iterdir()] == ["gencompositor_clips"]
    assert len(TfdsSource(root, ARCH)) == 3  # the folder given as --out


def test_it_is_read_by_tfds_alone(both):
    import tensorflow_datasets as tfds

    data = tfds.builder_from_directory(both[1]).as_data_source("train")
    assert data[1]["name"] == b"1.mp4@0" and data[1]["target"][20:22] == b"\xff\xd8"


def test_it_is_not_overwritten(both):
    with pytest.raises(InputError, match="holds a complete dataset"):
        build_tfds([], both[1].parent.parent, SETTINGS, workers=0, progress=False)


def test_a_source_can_be_pickled(both):
    source = TfdsSource(both[1], ARCH)
    assert pickle.loads(pickle.dumps(source)).record(1) == source.record(1)


def test_a_flipped_bit_names_its_file(both):
    shard = next(path for path in both[1].iterdir() if "array_record" in path.name)
    kept = shard.read_bytes()
    data = bytearray(kept)
    data[data.index(b"\xff\xd8\xff") + 900] ^= 4
    shard.write_bytes(data)
    try:
        with pytest.raises(InputError, match=rf"{shard.name}\[0\].*mismatch"):
            TfdsSource(both[1], ARCH)
    finally:
        shard.write_bytes(kept)


def test_folders_without_a_dataset_are_refused(both, tmp_path):
    with pytest.raises(InputError, match="holds no TFDS dataset"):
        TfdsSource(tmp_path, ARCH)
    with pytest.raises(InputError, match="--frames 49"):
        TfdsSource(both[1], ModelArch())
    (tmp_path / "dataset_info.json").write_text("{}")
    with pytest.raises(InputError, match="isn't a TFDS dataset"):
        TfdsSource(tmp_path, ARCH)
