import numpy as np
import pytest

from gencompositor_jax.controls.element.loading import fit_length, load_element, open_element
from gencompositor_jax.controls.media.frames import Computed, held, picked, pieces
from gencompositor_jax.controls.media.images import read_frames
from gencompositor_jax.controls.media.spool import Spool
from gencompositor_jax.controls.media.video import open_video, read_video
from gencompositor_jax.controls.media.video_out import write_video
from gencompositor_jax.errors import InputError

COUNT = np.arange(24, dtype=np.uint8).reshape(12, 1, 2)


def counted(asked: list[tuple[int, int]]) -> Computed:
    def make(first: int, stop: int) -> np.ndarray:
        asked.append((first, stop))
        return COUNT[first:stop]

    return Computed(COUNT.shape, make, step=5)


def test_computed_frames_are_read_in_steps():
    asked: list[tuple[int, int]] = []
    frames = counted(asked)
    np.testing.assert_array_equal(np.asarray(frames), COUNT)
    assert asked == [(0, 5), (5, 10), (10, 12)] and len(frames) == 12 and frames.dtype == np.uint8
    np.testing.assert_array_equal(frames[-1], COUNT[-1])
    np.testing.assert_array_equal(frames[3:100], COUNT[3:])
    assert frames[4:2].shape == (0, 1, 2)
    with pytest.raises(ValueError, match="stride"):
        frames[::2]
    assert [len(piece) for piece in pieces(COUNT)] == [8, 4]


def test_held_and_picked():
    np.testing.assert_array_equal(held(COUNT[:2], 4)[:, 0, 0], [0, 2, 2, 2])
    asked: list[tuple[int, int]] = []
    wanted = np.array([0, 1, 2, 2, 7, 8])
    np.testing.assert_array_equal(np.asarray(picked(counted(asked), wanted)), COUNT[wanted])
    assert asked == [(0, 3), (2, 3), (7, 9)]


def test_a_spool_gives_back_what_was_appended(tmp_path):
    for dtype in (np.uint8, bool):
        kept, given = Spool(COUNT.shape, dtype, tmp_path), COUNT.astype(dtype)
        kept.append(given[:5])
        kept.append(given[5:])
        np.testing.assert_array_equal(kept[3:7], given[3:7])
        np.testing.assert_array_equal(np.asarray(kept), given)
    assert list(tmp_path.iterdir()) == []  # files without names


def test_a_full_disk_is_an_error_with_a_remedy(monkeypatch, tmp_path):
    kept = Spool(COUNT.shape, np.uint8, tmp_path)

    class Full:
        def seek(self, *_: object) -> None: ...
        def write(self, _: object) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept, "_file", Full())
    with pytest.raises(InputError, match="No space left.*free space"):
        kept.append(COUNT)


@pytest.mark.parametrize(
    "how", [{}, {"start": 0.4}, {"fps": 30.0}, {"fps": 7.0, "start": 0.2, "frames": 4}], ids=str
)
def test_an_opened_video_is_the_one_that_is_read(make_clip, how):
    path = make_clip("a.mp4", gop=6)
    whole, opened = read_video(path, **how), open_video(path, **how)
    assert opened.fps == whole.fps and opened.frames.shape == whole.frames.shape
    np.testing.assert_array_equal(np.asarray(opened.frames), whole.frames)
    np.testing.assert_array_equal(opened.frames[2:4], whole.frames[2:4])  # back again
    np.testing.assert_array_equal(opened.frames[len(whole.frames) - 1], whole.frames[-1])


@pytest.mark.parametrize("how", [{"key": "green"}, {"mask": "mask"}, {"segmenter": True}, {}], ids=str)
def test_an_opened_element_is_the_one_that_is_loaded(tmp_path, how):
    frames = np.full((11, 48, 64, 3), (20, 200, 40), np.uint8)
    for t, frame in enumerate(frames):
        frame[10 + t : 30 + t, 12:40] = (200, 60, 60 + 5 * t)
    red = frames[..., 0] > 100
    if how:
        path = tmp_path / "element.mkv"
        write_video(path, frames, 8.0, crf=1)
        write_video(
            tmp_path / "mask.mkv", 255 * np.repeat(red[..., None], 3, -1).astype(np.uint8), 8.0, crf=1
        )
    else:  # with alpha of its own
        from gencompositor_jax.controls.media.video_out import write_image_folder

        path = tmp_path / "element"
        write_image_folder(path, np.concatenate([frames, 255 * red[..., None].astype(np.uint8)], axis=-1))
    if "mask" in how:
        how = {"mask": tmp_path / "mask.mkv"}
    if "segmenter" in how:
        how = {"segmenter": lambda video: video[..., 0] > 100}
    loaded, opened = load_element(path, **how), open_element(path, **how)
    assert opened.key == loaded.key and opened.frames.shape == loaded.frames.shape
    np.testing.assert_array_equal(np.asarray(opened.frames), loaded.frames)
    longer = [fit_length(element, 25, "loop").frames for element in (loaded, opened)]
    np.testing.assert_array_equal(np.asarray(longer[1]), longer[0])


def test_images_are_read_lazily(tmp_path, monkeypatch):
    from gencompositor_jax.controls.media import video
    from gencompositor_jax.controls.media.video_out import write_image_folder

    write_image_folder(tmp_path / "images", np.zeros((9, 8, 8, 3), np.uint8))
    opened = open_video(tmp_path / "images")
    read: list[int] = []

    def reading(media, indices, alpha):
        for frame in read_frames(media, indices, alpha):
            read.append(1)
            yield frame

    monkeypatch.setattr(video, "read_frames", reading)
    assert opened.frames[0:2].shape == (2, 8, 8, 3) and len(read) == 2
    assert opened.frames[2:4].shape == (2, 8, 8, 3) and len(read) == 4
