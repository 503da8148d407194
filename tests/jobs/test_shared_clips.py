import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from gencompositor_jax.controls.media.video import probe
from gencompositor_jax.controls.media.video_out import write_image_folder
from gencompositor_jax.errors import InputError
from gencompositor_jax.jobs import shared_clips
from gencompositor_jax.jobs.shared_clips import SharedClips
from tests.test_compositor import disc, scenery


@pytest.fixture
def media(tmp_path):
    """Two clips by their names."""
    write_image_folder(tmp_path / "street", scenery())
    write_image_folder(tmp_path / "bird", disc())
    return {name: probe(tmp_path / name) for name in ("street", "bird")}


@pytest.fixture
def decoded(monkeypatch):
    """The names of clips as they are decoded."""
    found, lock = list[str](), threading.Lock()
    for name in ("load_background", "load_element"):
        before = getattr(shared_clips, name)

        def load(given, *args, before=before, **how):
            with lock:
                found.append(given.path.name)
            return before(given, *args, **how)

        load.__name__ = name
        monkeypatch.setattr(shared_clips, name, load)
    return found


def test_a_clip_of_several_jobs_is_decoded_once_for_all_threads(media, decoded):
    clips = SharedClips([str(media["street"].path)] * 2)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: clips.background(media["street"], 5), range(8)))
    assert decoded == ["street"] and all(each is found[0] for each in found)
    np.testing.assert_array_equal(found[0].frames, scenery())
    with pytest.raises(ValueError, match="read-only"):
        found[0].frames[0] = 0
    clips.background(media["street"], 3)  # other frames
    clips.element(media["bird"], key="auto"), clips.element(media["bird"], key="auto")  # of one job
    assert decoded == ["street", "street", "bird", "bird"]


def test_the_oldest_clips_are_forgotten_and_failures_are_not_kept(media, decoded, monkeypatch):
    clips = SharedClips([str(each.path) for each in media.values()] * 2)
    with pytest.raises(InputError):
        clips.background(media["street"], 99)
    monkeypatch.setattr(shared_clips, "KEPT", scenery().nbytes)
    for _ in range(2):
        clips.background(media["street"], 5)
        clips.element(media["bird"])
    assert decoded == ["street", "street", "bird", "street", "bird"]
