import pickle
from pathlib import Path

import numpy as np
import pytest

from gencompositor_jax.arch import ModelArch
from gencompositor_jax.controls.media.video import read_video
from gencompositor_jax.data_pipelines import videocomp
from gencompositor_jax.data_pipelines.videocomp import Row, VideoCompSource, stride, why_not
from gencompositor_jax.errors import InputError
from tests.data_pipelines.videocomp_folder import (
    CAPTION,
    clip,
    copy,
    cut_short,
    damage,
    make_folder,
    write_csv,
)

ARCH = ModelArch(frames=9, height=64, width=96)
FRAMES, SQUARE = 40, 72


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("videocomp") / "data", range(2), frames=FRAMES)


@pytest.fixture(scope="module")
def true() -> list[dict[str, np.ndarray]]:
    return [clip(n, FRAMES, (64, 96), SQUARE) for n in range(2)]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def near(one: np.ndarray, other: np.ndarray, tolerance: float = 5.0) -> bool:
    """Mean difference up to what 4:2:0 and H.264 change in noise textures."""
    return float(np.abs(one.astype(int) - other.astype(int)).mean()) < tolerance


def test_a_clip_is_every_third_frame_of_24(folder, true):
    source = VideoCompSource(folder, ARCH)
    assert len(source) == 2
    for index in range(2):
        sample = source.read(index, rng(), removal=False)
        taken = np.arange(9) * 3
        assert near(sample["target"], true[index]["GTs"][taken])
        assert not near(sample["target"], true[index]["GTs"][taken + 3])
        assert near(sample["scene"], true[index]["GTs"][taken])
        region = true[index]["filtered_mask"][taken][..., 0] > 127
        assert (sample["mask"] != region).mean() < 0.01 and sample["mask"].dtype == bool
        inside = true[index]["fg"][taken][:, 6:66, 6:66]  # 60/72 = 480/576 of it at 64 pixels
        middle = sample["foreground"][:, :, 16:80]
        assert near(middle[:, ::2, ::2].mean((1, 2)), inside.mean((1, 2)), 6)
        assert (sample["foreground"][:, :, :16] == 255).all()


def test_a_removal_sample_reads_no_foreground_and_no_target(folder, true, tmp_path):
    bare = copy(folder, tmp_path / "bare")
    for name in ("GTs", "fg", "filtered_masked_video"):
        (bare / name / "0.mp4").unlink()
    sample = VideoCompSource(bare, ARCH).read(0, rng(), removal=True)
    assert near(sample["target"], true[0]["inpainted_sum"][np.arange(9) * 3])
    assert (sample["foreground"] == 255).all() and sample["foreground"].shape == sample["target"].shape


def test_a_composite_reads_no_background(folder, tmp_path):
    bare = copy(folder, tmp_path / "bare")
    (bare / "inpainted_sum" / "0.mp4").unlink()
    (bare / "fg" / "white_video.mp4").unlink()
    assert VideoCompSource(bare, ARCH).read(0, rng(), removal=False)["target"].shape == (9, 64, 96, 3)


def test_random_starts_cover_the_row_and_stay_in_it(folder, true, monkeypatch):
    requested: list[np.ndarray] = []

    def record(path: Path, numbers: np.ndarray, fps: float | None = None) -> np.ndarray:
        requested.append(numbers)
        return true[0][path.parent.name][numbers]

    write_csv(folder, [["0.mp4", 5, 38, 24, CAPTION]])
    try:
        source = VideoCompSource(folder, ARCH, start="random")
    finally:
        write_csv(folder, [[f"{n}.mp4", 0, FRAMES, 24, CAPTION] for n in range(2)])
    monkeypatch.setattr(videocomp, "read_frames", record)
    for seed in range(200):
        source.read(0, np.random.default_rng(seed), removal=False)
    starts = {int(numbers[0]) for numbers in requested}
    assert starts == set(range(5, 38 - 24))
    assert all((np.diff(numbers) == 3).all() and numbers[-1] < 38 for numbers in requested)


def test_the_mask_is_not_inflated_again(folder, true):
    # Inflation would double the region.
    mask = VideoCompSource(folder, ARCH).read(0, rng(), removal=False)["mask"]
    given = true[0]["filtered_mask"][np.arange(9) * 3][..., 0] > 127
    assert mask.sum() == pytest.approx(given.sum(), rel=0.03)


def test_frames_of_another_size_are_resized_with_their_aspect(folder, true):
    sample = VideoCompSource(folder, ModelArch(frames=9, height=32, width=48)).read(0, rng(), removal=False)
    small = true[0]["GTs"][np.arange(9) * 3].reshape(9, 32, 2, 48, 2, 3).mean((2, 4))
    assert near(sample["target"], small)
    square = VideoCompSource(folder, ModelArch(frames=9, height=48, width=48)).read(0, rng(), removal=False)
    assert not square["mask"][:, :7].any() and near(square["target"][:, 8:40], small)  # borders are filled


def test_colours_are_those_of_inference(folder):
    sample = VideoCompSource(folder, ARCH).read(1, rng(), removal=False)
    assert np.array_equal(sample["target"], read_video(folder / "GTs" / "1.mp4").frames[np.arange(9) * 3])


def test_it_pickles_small(folder):
    data = pickle.dumps(VideoCompSource(folder, ARCH))
    assert len(data) < 2000
    assert len(pickle.loads(data)) == 2


@pytest.mark.parametrize(
    ("fps", "every"), [(8, 1), (15.9, 2), (23.976, 3), (24, 3), (30, 3), (60, 7), (5, 0)]
)
def test_stride(fps, every):
    assert stride(fps) == every


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ((0, 147, 24, "x" * 51), None),
        ((3, 150, 24, "x" * 51), None),
        ((0, 146, 24, "x" * 51), "frames"),
        ((0, 147, 24, "x" * 50), "caption"),
        ((0, 500, 6, "x" * 51), "per second"),
    ],
)
def test_usable_rows(row, reason):
    why = why_not(Row(Path(), "a.mp4", *row), 49)
    assert (why is None) if reason is None else reason in str(why)


def refused(folder: Path, match: str, removal: bool = False) -> None:
    with pytest.raises(InputError, match=match):
        VideoCompSource(folder, ARCH).read(0, rng(), removal)


def test_broken_videos_are_named(folder, tmp_path):
    spoilt = copy(folder, tmp_path / "spoilt")
    cut_short(spoilt / "fg" / "0.mp4")
    refused(spoilt, r"fg/0\.mp4")
    (spoilt / "filtered_mask" / "0.mp4").write_text("no video")
    refused(spoilt, r"filtered_mask/0\.mp4")
    (spoilt / "GTs" / "0.mp4").unlink()
    refused(spoilt, r"GTs/0\.mp4: no such file")
    damage(spoilt / "inpainted_sum" / "1.mp4")
    with pytest.raises(InputError, match=r"inpainted_sum/1\.mp4: damaged"):
        VideoCompSource(spoilt, ARCH).read(1, rng(), removal=True)


def test_too_few_frames_and_another_rate_are_named(folder, tmp_path):
    spoilt = copy(folder, tmp_path / "spoilt")
    write_csv(spoilt, [["0.mp4", 16, 60, 24, CAPTION]])
    refused(spoilt, r"GTs/0\.mp4: has 40 frames, 41 are needed")
    write_csv(spoilt, [["0.mp4", 0, 40, 30, CAPTION]])
    refused(spoilt, r"GTs/0\.mp4: has 24 frames per second, its row says 30")


def test_sizes_that_differ_and_empty_masks_are_named(folder, tmp_path, monkeypatch):
    spoilt = copy(folder, tmp_path / "spoilt")
    (spoilt / "fg" / "0.mp4").write_bytes((spoilt / "GTs" / "0.mp4").read_bytes())
    refused(spoilt, r"fg/0\.mp4: 96x64 pixels: a square")
    (spoilt / "filtered_mask" / "0.mp4").write_bytes((folder / "fg" / "0.mp4").read_bytes())
    refused(spoilt, r"filtered_mask/0\.mp4: 72x72 pixels where")
    black = np.zeros((9, 64, 96, 3), np.uint8)
    monkeypatch.setattr(videocomp, "read_frames", lambda *_: black)
    with pytest.raises(InputError, match="is empty in frames"):
        VideoCompSource(folder, ARCH).read(0, rng(), removal=False)


PLAIN = CAPTION.replace(",", "")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("path,start_frame,end_frame,fps\n", "no column caption"),
        ("", "no column path"),
        ("path,start_frame,end_frame,fps,caption\n", "no row is usable: it is empty"),
        (f"path,start_frame,end_frame,fps,caption\n0.mp4,zero,40,24,{PLAIN}", "line 2: start_frame 'zero'"),
        (f"path,start_frame,end_frame,fps,caption\n0.mp4,0,inf,24,{PLAIN}", "line 2: start_frame 0 to"),
        (f"path,start_frame,end_frame,fps,caption\n0.mp4,0,40,nan,{PLAIN}", "line 2: fps nan"),
        ("path,start_frame,end_frame,fps,caption\n0.mp4,0,40,24,short", "1 with a caption of at most 50"),
        (f"path,start_frame,end_frame,fps,caption\n0.mp4,0,20,24,{PLAIN}", "less than 9"),
        ("path,start_frame,end_frame,fps,caption\n0.mp4,0", "line 2: has 2 columns, the header line has 5"),
        (
            "path,start_frame,end_frame,fps,caption\n0.mp4,0,40,24,a bird, which flies, low\n",
            "line 2: has 7 columns, the header line has 5: put double quotes around a text with commas",
        ),
        (
            "path,start_frame,end_frame,fps,caption,\n0.mp4,0,40,24,a bird, which flies low\n",
            "line 2: has 6 columns, the header line has 5: put double quotes",
        ),
    ],
)
def test_errors_of_a_csv_name_the_line(folder, tmp_path, text, match):
    (tmp_path / "rows.csv").write_text(text)
    with pytest.raises(InputError, match=match):
        VideoCompSource(folder, ARCH, csv_file=tmp_path / "rows.csv")


def test_the_csv_must_be_found(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        VideoCompSource(tmp_path / "nowhere", ARCH)
    with pytest.raises(InputError, match="no CSV"):
        VideoCompSource(tmp_path, ARCH)
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"several CSVs \(a.csv, b.csv\)"):
        VideoCompSource(tmp_path, ARCH)


def test_only_the_file_name_of_a_path_matters(folder, tmp_path):
    rows = [[path, 0, 40, 24, CAPTION] for path in ("/home/me/data/GTs/0.mp4", "1", "sub\\1.0.mp4")]
    moved = copy(folder, tmp_path / "moved")
    write_csv(moved, rows)
    assert [row.file for row in VideoCompSource(moved, ARCH).rows] == ["0.mp4", "1.mp4", "1.0.mp4"]
    assert videocomp.read_rows(moved / "data.csv", moved)[1] == []


def test_the_same_clip_twice_and_one_name_in_two_folders_are_named(folder, tmp_path):
    rows = [["0.mp4", 0, 40, 24, CAPTION], ["0.mp4", 1, 40, 24, CAPTION], ["0.mp4", 0, 40, 24, CAPTION]]
    rows += [["a/1.mp4", 0, 40, 24, CAPTION], ["b/1.mp4", 0, 40, 24, CAPTION]]
    moved = copy(folder, tmp_path / "moved")
    write_csv(moved, rows)
    found, wrong = videocomp.read_rows(moved / "data.csv", moved)
    assert [(row.file, row.start) for row in found] == [("0.mp4", 0), ("0.mp4", 1), ("1.mp4", 0)]
    assert wrong == [
        "line 4: is the same clip as line 2: remove one of the two",
        "line 6: 1.mp4 is in a and in b, but the videos' folders are flat: rename one of the two",
    ]
