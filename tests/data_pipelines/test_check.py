import shutil
from pathlib import Path

import pytest

from gencompositor_jax.controls.media.video import read_video
from gencompositor_jax.controls.media.video_out import write_video
from gencompositor_jax.data_pipelines.check import Problem, check, table
from gencompositor_jax.errors import InputError
from tests.data_pipelines.videocomp_folder import CAPTION, copy, cut_short, damage, make_folder, write_csv


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("videocomp") / "data", range(3), frames=30)


def found(folder: Path, **options: object) -> list[tuple[str, str, str]]:
    report = check(folder, frames=9, progress=False, **options)  # type: ignore[arg-type]
    return [(p.kind, p.file, p.problem) for p in report.problems]


def test_a_complete_folder_has_no_problems(folder):
    report = check(folder, frames=9, decode=True, progress=False)
    assert (report.rows, report.usable, report.files, report.problems) == (3, 3, 15, [])
    assert "3, of which 3 are usable" in table(report) and "problems  0" in table(report)


def test_each_kind_of_problem_is_found(folder, tmp_path):
    spoilt = copy(folder, tmp_path / "spoilt")
    (spoilt / "fg" / "white_video.mp4").unlink()
    (spoilt / "inpainted_sum" / "0.mp4").unlink()
    cut_short(spoilt / "GTs" / "1.mp4")
    shutil.copy(folder / "fg" / "2.mp4", spoilt / "filtered_mask" / "2.mp4")
    shutil.copy(folder / "GTs" / "0.mp4", spoilt / "fg" / "2.mp4")
    some = read_video(folder / "GTs" / "0.mp4").frames[:20]
    write_video(spoilt / "filtered_masked_video" / "2.mp4", some, 24, overwrite=True)
    assert [(kind, file) for kind, file, _ in found(spoilt)] == [
        ("missing file", "fg/white_video.mp4"),
        ("missing file", "inpainted_sum/0.mp4"),
        ("unreadable", "GTs/1.mp4"),
        ("size", "fg/2.mp4"),
        ("size", "filtered_mask/2.mp4"),
        ("frame count", "filtered_masked_video/2.mp4"),
    ]


def test_rows_are_compared_with_their_videos(folder, tmp_path):
    spoilt = copy(folder, tmp_path / "spoilt")
    rows = [["0.mp4", 0, 31, 24, CAPTION], ["1.mp4", 0, 30, 30, CAPTION], ["2.mp4", "x", 30, 24, CAPTION]]
    write_csv(spoilt, [*rows, ["2.mp4", 0, 30, 24, "too short"], ["2.mp4", 0, 20, 24, CAPTION]])
    assert found(spoilt) == [
        ("csv", "data.csv", "line 4: start_frame 'x' isn't a number"),
        ("frame count", "GTs/0.mp4", "30 frames, its row ends at 31"),
        ("rate", "GTs/1.mp4", "24 frames per second, its row says 30"),
    ]
    report = check(spoilt, frames=9, progress=False)
    assert (report.rows, report.usable, sum(report.unusable.values())) == (5, 2, 2)


def test_damage_shows_when_decoded(folder, tmp_path):
    spoilt = copy(folder, tmp_path / "spoilt")
    damage(spoilt / "GTs" / "1.mp4")
    assert found(spoilt) == []
    assert [p[:2] for p in found(spoilt, decode=True)] == [("damaged", "GTs/1.mp4")]


def test_a_long_list_is_shortened_in_the_table(folder):
    report = check(folder, frames=9, progress=False)
    report.problems.extend(Problem("size", f"GTs/{n}.mp4", "odd") for n in range(25))
    lines = table(report).splitlines()
    assert lines[-1] == "  and 5 more; --json lists all" and sum("odd" in line for line in lines) == 20
    assert report.to_json()["problems"][24]["file"] == "GTs/24.mp4"


def test_what_cannot_be_checked_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        check(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no CSV"):
        check(tmp_path)
    with pytest.raises(InputError, match="--frames 0"):
        check(folder, frames=0)
