import dataclasses
import pickle
from pathlib import Path

import ml_collections
import numpy as np
import pytest

from gencompositor_jax.arch import tiny
from gencompositor_jax.data_pipelines import sources
from gencompositor_jax.data_pipelines.augmentation import Augmentation, augment
from gencompositor_jax.data_pipelines.clip_cache import CacheSettings, ClipCache
from gencompositor_jax.data_pipelines.examples import clip_arrays
from gencompositor_jax.data_pipelines.pipeline import batches
from gencompositor_jax.data_pipelines.procedural import (
    HELD_OUT_SEED,
    TRAINING_SEEDS,
    make_clip,
    make_followed_clip,
)
from gencompositor_jax.data_pipelines.source import ClipSource
from gencompositor_jax.data_pipelines.sources import CachedSource, ProceduralSource, build_caches, open_source
from gencompositor_jax.errors import InputError

ARCH = dataclasses.replace(tiny(), frames=5, height=32, width=48)
SIZE = 5, 32, 48


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> CachedSource:
    with pytest.MonkeyPatch.context() as patch:
        here = sources.build_cache
        patch.setattr(sources, "build_cache", lambda *args: here(*args, workers=0, progress=False))
        return build_caches(tmp_path_factory.mktemp("clips"), ARCH, clips=3, followed_clips=2, followed=0.5)


@pytest.fixture(params=["procedural", "cache"])
def source(request: pytest.FixtureRequest, cached: CachedSource) -> ClipSource:
    return ProceduralSource(ARCH, followed=0.5) if request.param == "procedural" else cached


def test_a_sample_is_a_clip_of_that_seed(source):
    kinds = set()
    for seed in range(12):
        sample = source.read(1, rng(seed), removal=False)
        for kind, make in (("whole", make_clip), ("followed", make_followed_clip)):
            expected = clip_arrays(make(TRAINING_SEEDS[1], *SIZE), ARCH.inflation)
            if (sample["target"] == expected["target"]).all():
                kinds.add(kind)
                for name, of in (("scene", "background"), ("foreground", "foreground"), ("mask", "mask")):
                    np.testing.assert_array_equal(sample[name], expected[of])
                    assert sample[name].dtype == expected[of].dtype
                break
        else:
            pytest.fail("neither the whole clip nor the followed one")
    assert kinds == {"whole", "followed"}


def test_a_removal_sample_is_the_empty_scene_with_the_same_mask(source):
    for seed in range(4):
        plain, removal = (source.read(0, rng(seed), removal=flag) for flag in (False, True))
        np.testing.assert_array_equal(removal["target"], plain["scene"])
        np.testing.assert_array_equal(removal["scene"], plain["scene"])
        np.testing.assert_array_equal(removal["mask"], plain["mask"])
        assert (removal["foreground"] == 255).all() and (plain["foreground"] < 255).any()
        assert (plain["target"] != plain["scene"]).any()


def test_fractions_of_followed_clips(cached):
    for fraction, make in ((0.0, make_clip), (1.0, make_followed_clip)):
        expected = make(TRAINING_SEEDS[1], *SIZE).target
        for one in (ProceduralSource(ARCH, fraction), dataclasses.replace(cached, followed=fraction)):
            for seed in range(5):
                np.testing.assert_array_equal(one.read(1, rng(seed), False)["target"], expected)


def test_the_smaller_cache_repeats(cached):
    assert len(cached) == 3
    following = dataclasses.replace(cached, followed=1.0)
    np.testing.assert_array_equal(
        following.read(2, rng(), False)["target"], following.read(0, rng(), False)["target"]
    )


def test_an_open_cache_is_cheap_to_pickle(cached):
    cached.read(0, rng(), False)
    sent = pickle.dumps(cached)
    assert len(sent) < 1000
    again = pickle.loads(sent)
    np.testing.assert_array_equal(again.read(2, rng(1), False)["mask"], cached.read(2, rng(1), False)["mask"])


def test_procedural_clips_have_training_seeds_only():
    source = ProceduralSource(ARCH)
    assert len(source) == len(TRAINING_SEEDS)
    assert source.name(len(source) - 1) == f"procedural clip {TRAINING_SEEDS[-1]}"
    with pytest.raises(IndexError):
        source.read(HELD_OUT_SEED, rng(), False)


def test_batches_of_procedural_clips():
    """A training batch at the size of the embedded model's clips."""
    options = {"seed": 0, "batch_size": 2, "rows": (0, 1), "start": 3, "stop": 4}
    (batch,) = batches(ProceduralSource(tiny()), Augmentation(), **options)
    assert batch["target"].shape == (2, 9, 64, 96, 3)
    assert not batch["masked_background"][batch["mask"]].any()


def data(**fields: object) -> ml_collections.ConfigDict:
    defaults = {"path": "", "clips": 2, "followed_clips": 1, "followed": 0.25, "fps": 8.0, "start": "first"}
    defaults["other_light"] = 0.5
    return ml_collections.ConfigDict({**defaults, **fields})


def test_the_config_chooses_the_source(tmp_path, monkeypatch):
    opened = open_source(data(source="procedural"), ARCH)
    assert opened == ProceduralSource(ARCH, 0.25, 0.5)
    here = sources.build_cache
    monkeypatch.setattr(sources, "build_cache", lambda *args: here(*args, workers=0, progress=False))
    opened = open_source(data(source="cache", path=str(tmp_path)), ARCH)
    assert isinstance(opened, CachedSource) and len(opened) == 2
    assert ClipCache(tmp_path / "followed").settings == CacheSettings(
        1, 0, *SIZE, inflation=ARCH.inflation, followed=True, other_light=0.5
    )


@pytest.mark.parametrize("kind", ["videocomp", "arrayrecord", "tfds"])
def test_folders_are_opened_by_their_readers(kind, tmp_path):
    with pytest.raises(InputError, match=str(tmp_path)):
        open_source(data(source=kind, path=str(tmp_path)), ARCH)


def test_unknown_sources_and_missing_paths_are_refused():
    with pytest.raises(InputError, match="procedural, cache, videocomp, arrayrecord, tfds"):
        open_source(data(source="webdataset"), ARCH)
    for kind in ("cache", "videocomp", "arrayrecord", "tfds"):
        with pytest.raises(InputError, match=r"data\.path"):
            open_source(data(source=kind), ARCH)


def test_a_missing_cache_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="no clip cache"):
        len(CachedSource(tmp_path / "whole", tmp_path / "followed", 0.5))


TRAJECTORY = dataclasses.replace(ARCH, layout="trajectory")


def test_samples_for_the_layout_trajectory_have_offsets():
    source = ProceduralSource(TRAJECTORY)
    expected = make_clip(TRAINING_SEEDS[3], *SIZE, cell=(4, 16)).offsets
    np.testing.assert_array_equal(source.read(3, rng(), removal=False)["offsets"], expected)
    np.testing.assert_array_equal(source.read(3, rng(), removal=True)["offsets"], 0 * expected)
    assert "offsets" not in ProceduralSource(ARCH).read(3, rng(), removal=False)


@pytest.mark.parametrize("kind", ["videocomp", "arrayrecord", "tfds"])
def test_sources_without_offsets_are_refused_for_the_layout_trajectory(kind):
    data = ml_collections.ConfigDict({"source": kind, "path": "clips"})
    with pytest.raises(InputError, match=f"data.source='{kind}'"):
        open_source(data, TRAJECTORY)


def test_clips_with_offsets_are_not_flipped():
    clip = ProceduralSource(TRAJECTORY).read(3, rng(), removal=False)
    with pytest.raises(InputError, match="offsets can't be flipped"):
        augment(clip, rng(), Augmentation(flip=True))
    np.testing.assert_array_equal(augment(clip, rng(), Augmentation())["offsets"], clip["offsets"])
