import pytest

from gencompositor_jax.controls.media.overwriting import check_no_input
from gencompositor_jax.errors import InputError


def test_an_output_is_no_input(tmp_path):
    clip, link = tmp_path / "a.mp4", tmp_path / "b.mp4"
    clip.touch()
    link.symlink_to(clip)
    for output in (clip, link, tmp_path / "." / "a.mp4"):
        with pytest.raises(InputError, match="is an input of this run"):
            check_no_input([tmp_path / "new.mp4", output], ["missing.mp4", clip])
    check_no_input([tmp_path / "new.mp4"], ["missing.mp4", clip])


@pytest.mark.parametrize("output", ["shots", "shots/plate.####.png", "shots/plate.%04d.png"])
@pytest.mark.parametrize("given", ["shots", "shots/plate.####.png", "shots/plate.0002.png"])
def test_a_sequence_is_the_same_by_any_name(tmp_path, output, given):
    (tmp_path / "shots").mkdir()
    for number in range(1, 4):
        (tmp_path / f"shots/plate.{number:04d}.png").touch()
    with pytest.raises(InputError, match="is an input of this run"):
        check_no_input([tmp_path / output], [tmp_path / given])


@pytest.mark.parametrize("output", ["shots/comp.####.png", "shots/out.mp4", "other/plate.####.png", "new"])
def test_other_files_of_an_input_s_folder_may_be_written(tmp_path, output):
    (tmp_path / "shots").mkdir()
    for name in ("shots/plate.0001.png", "shots/out.mp4"):
        (tmp_path / name).touch()
    check_no_input([tmp_path / output], [tmp_path / "shots", tmp_path / "shots/plate.####.png"])
