import dataclasses
import errno
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gencompositor_jax.data_pipelines import clip_cache
from gencompositor_jax.data_pipelines.clip_cache import CacheSettings, ClipCache, build_cache
from gencompositor_jax.data_pipelines.examples import clip_arrays
from gencompositor_jax.data_pipelines.procedural import make_clip
from gencompositor_jax.errors import InputError

SMALL = CacheSettings(clips=5, first_seed=40, frames=5, height=32, width=48)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_cache, "SHARD", 2)


def test_cached_clips_are_those_of_their_seeds(tmp_path: Path) -> None:
    cache = build_cache(tmp_path, SMALL, workers=0, progress=False)
    assert len(cache) == 5
    batch = cache[[4, 0, 3]]
    for row, index in enumerate((4, 0, 3)):
        expected = clip_arrays(make_clip(40 + index, 5, 32, 48), SMALL.inflation)
        for name, value in expected.items():
            np.testing.assert_array_equal(batch[name][row], value)
            assert batch[name].dtype == value.dtype


def test_cached_clips_with_a_cell_have_their_offsets(tmp_path: Path) -> None:
    settings = dataclasses.replace(SMALL, cell=(4, 8))
    build_cache(tmp_path, settings, workers=0, progress=False)
    batch = ClipCache(tmp_path)[[4, 1]]
    for row, index in enumerate((4, 1)):
        expected = clip_arrays(make_clip(40 + index, 5, 32, 48, cell=(4, 8)), SMALL.inflation)
        np.testing.assert_array_equal(batch["offsets"][row], expected["offsets"])
        np.testing.assert_array_equal(batch["foreground"][row], expected["foreground"])
    with pytest.raises(InputError, match="other settings"):
        build_cache(tmp_path, SMALL, workers=0, progress=False)


def test_worker_processes_make_the_same_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # workers import the module afresh, with shards of the usual size
    one = build_cache(tmp_path / "one", SMALL, workers=0, progress=False)[[0, 4]]
    other = build_cache(tmp_path / "other", SMALL, workers=1, progress=False)[[0, 4]]
    np.testing.assert_array_equal(one["target"], other["target"])


def test_an_interrupted_run_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    make = clip_cache.make_shard

    def stops_at_the_second(folder: Path, settings: CacheSettings, index: int) -> int:
        if len(made) == 1:
            raise KeyboardInterrupt
        made.append(index)
        return make(folder, settings, index)

    monkeypatch.setattr(clip_cache, "make_shard", stops_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        build_cache(tmp_path, SMALL, workers=0, progress=False)
    with pytest.raises(InputError, match="2 of 3 shards are missing"):
        ClipCache(tmp_path)

    rest: list[int] = []

    def counts(folder: Path, settings: CacheSettings, index: int) -> int:
        rest.append(index)
        return make(folder, settings, index)

    monkeypatch.setattr(clip_cache, "make_shard", counts)
    assert len(build_cache(tmp_path, SMALL, workers=0, progress=False)) == 5
    assert (made, rest) == ([0], [1, 2])


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full_disk)
    with pytest.raises(InputError, match="the disk is full"):
        build_cache(tmp_path, SMALL, workers=0, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["cache.json"]


def test_a_complete_cache_shows_no_bar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build_cache(tmp_path, SMALL, workers=0)
    assert "procedural clips" in capsys.readouterr().err
    build_cache(tmp_path, SMALL, workers=0)
    assert capsys.readouterr().err == ""


def test_a_cache_grows(tmp_path: Path) -> None:
    build_cache(tmp_path, CacheSettings(3, 40, 5, 32, 48), workers=0, progress=False)
    cache = build_cache(tmp_path, SMALL, workers=0, progress=False)
    expected = make_clip(42, 5, 32, 48).target  # the last of the shorter cache's odd shard
    np.testing.assert_array_equal(cache[[2]]["target"][0], expected)
    assert len(cache) == 5


def test_other_settings_are_refused(tmp_path: Path) -> None:
    build_cache(tmp_path, SMALL, workers=0, progress=False)
    with pytest.raises(InputError, match="other settings"):
        build_cache(tmp_path, CacheSettings(5, 41, 5, 32, 48), workers=0, progress=False)


def test_other_versions_are_refused(tmp_path: Path) -> None:
    build_cache(tmp_path, SMALL, workers=0, progress=False)
    fields = json.loads((tmp_path / "cache.json").read_text())
    (tmp_path / "cache.json").write_text(json.dumps({**fields, "version": 0}))
    with pytest.raises(InputError, match="version 0"):
        ClipCache(tmp_path)


def test_no_cache_and_bad_indices_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no clip cache"):
        ClipCache(tmp_path / "nowhere")
    cache = build_cache(tmp_path, SMALL, workers=0, progress=False)
    with pytest.raises(IndexError, match="0 to 4"):
        cache[[5]]


def test_too_little_disk_space_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(InputError, match="GB needed"):
        build_cache(tmp_path, SMALL, workers=0, progress=False)
    assert not list(tmp_path.iterdir())
