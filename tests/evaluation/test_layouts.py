"""HYouTube's layout in both spellings, and the ways in which methods store results."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gencompositor_jax.controls.media.video_out import write_video
from gencompositor_jax.errors import InputError
from gencompositor_jax.evaluation import layouts

NAMES = ["00010", "00005", "00000"]  # as written; read in order


def images(folder: Path, value: int, names: list[str] = NAMES, ending: str = ".png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(np.full((16, 24, 3), value + int(name[-5:]), np.uint8)).save(
            folder / f"{name}{ending}"
        )
    return folder


def reference(root: Path, target: str = "Ground-truth", mask: str = "Mask") -> Path:
    images(root / target / "abc", 50)
    for item in ("object_0", "object_1"):
        images(root / mask / "abc" / item, 200)
    return root


@pytest.mark.parametrize("spelling", [("Ground-truth", "Mask"), ("real_videos", "foreground_mask")])
def test_both_spellings_are_read(tmp_path, spelling):
    clips = layouts.reference_clips(reference(tmp_path, *spelling))
    assert [clip.name for clip in clips] == ["abc/object_0", "abc/object_1"]
    assert layouts.frame_names(clips[0].mask) == sorted(NAMES)
    frames = layouts.read_clip(clips[0].target, sorted(NAMES))
    assert frames[:, 0, 0, 0].tolist() == [50, 55, 60] and clips[0].composite is None


def test_a_list_chooses_the_clips(tmp_path):
    reference(tmp_path)
    line = "real_videos/abc foreground_mask/abc/object_1 synthetic_composite_videos/abc/object_1\n"
    (tmp_path / "test_list.txt").write_text(line)
    assert [clip.name for clip in layouts.reference_clips(tmp_path)] == ["abc/object_1"]
    (tmp_path / "test_list.txt").write_text(line.replace("object_1", "object_7"))
    with pytest.raises(InputError, match="object_7: is missing"):
        layouts.reference_clips(tmp_path)


@pytest.mark.parametrize("place", ["abc/object_0", "abc_object_0"])
def test_results_in_folders(tmp_path, place):
    clips = layouts.reference_clips(reference(tmp_path / "reference"))
    images(tmp_path / "results" / place, 90)
    found = layouts.result_of(tmp_path / "results", clips[0])
    assert layouts.read_clip(found, sorted(NAMES))[:, 0, 0, 0].tolist() == [90, 95, 100]
    with pytest.raises(InputError, match=r"abc/object_1: .*\(1 of 2 clips are missing"):
        layouts.check_complete(tmp_path / "results", clips)


def test_results_in_a_flat_folder_with_suffixes(tmp_path):
    clip = layouts.reference_clips(reference(tmp_path / "reference"))[0]
    flat = images(tmp_path / "results", 90, [f"abc_object_0_{name}" for name in NAMES], ".png")
    found = layouts.result_of(flat, clip)
    assert layouts.read_clip(found, sorted(NAMES))[:, 0, 0, 0].tolist() == [90, 95, 100]


def test_the_image_called_harmonized_is_the_result(tmp_path):
    folder = images(tmp_path, 20)
    for path in sorted(folder.glob("*.png")):
        path.rename(folder / f"{path.stem}_real.png")
    for name in NAMES:
        Image.fromarray(np.full((16, 24, 3), 7, np.uint8)).save(folder / f"{name}_harmonized.png")
    assert (layouts.read_clip(folder, sorted(NAMES)) == 7).all()


def test_a_video_is_read_in_order_and_must_have_as_many_frames(tmp_path):
    clip = layouts.reference_clips(reference(tmp_path / "reference"))[0]
    frames = np.repeat(np.arange(3, dtype=np.uint8)[:, None, None, None] * 60, 3, -1)
    frames = np.broadcast_to(frames, (3, 16, 24, 3)).copy()
    (tmp_path / "results" / "abc").mkdir(parents=True)
    write_video(tmp_path / "results" / "abc" / "object_0.mp4", frames, 8)
    found = layouts.result_of(tmp_path / "results", clip)
    assert np.abs(layouts.read_clip(found, sorted(NAMES)).astype(int) - frames).max() <= 2
    with pytest.raises(InputError, match="3 frames, its reference has 2"):
        layouts.read_clip(found, NAMES[:2])


def test_a_single_object_may_have_the_name_of_its_video(tmp_path):
    images(tmp_path / "reference" / "Ground-truth" / "abc", 50)
    images(tmp_path / "reference" / "Mask" / "abc" / "object_0", 200)
    (clip,) = layouts.reference_clips(tmp_path / "reference")
    images(tmp_path / "results" / "abc", 90)
    assert layouts.result_of(tmp_path / "results", clip) == tmp_path / "results" / "abc"


def test_the_folder_of_a_video_with_two_objects_is_no_result(tmp_path):
    clips = layouts.reference_clips(reference(tmp_path / "reference"))
    images(tmp_path / "results" / "abc", 90)
    with pytest.raises(InputError, match="2 of 2 clips"):
        layouts.check_complete(tmp_path / "results", clips)
    with pytest.raises(InputError, match="1 of 1 clips"):  # of which one is scored
        layouts.check_complete(tmp_path / "results", clips[:1])


def test_missing_and_ambiguous_images_are_named(tmp_path):
    folder = images(tmp_path, 20)
    with pytest.raises(InputError, match="no image named 00020"):
        layouts.read_clip(folder, ["00020"])
    (folder / "00000.png").rename(folder / "a_00000.png")
    images(folder, 20, ["00000"]).joinpath("00000.png").rename(folder / "b_00000.png")
    with pytest.raises(InputError, match="2 images named 00000"):
        layouts.read_clip(folder, ["00000"])


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="HYouTube's layout"):
        layouts.reference_clips(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        layouts.check_complete(tmp_path / "nowhere", [])


def test_images_are_in_the_order_of_their_numbers_and_hidden_files_are_none(tmp_path):
    for number in range(11):
        Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "._3.png").write_bytes(b"of a Mac")
    (tmp_path / "12.png").mkdir()
    names = layouts.frame_names(tmp_path)
    assert names == [str(number) for number in range(11)]
    assert layouts.read_clip(tmp_path, names)[:, 0, 0, 0].tolist() == list(range(11))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no images"):
        layouts.frame_names(tmp_path / "empty")


def test_names_with_points_and_spaces(tmp_path):
    images(tmp_path / "Ground-truth" / "my video", 50)
    for item in ("object.1", "the object"):
        images(tmp_path / "Mask" / "my video" / item, 200)
    (tmp_path / "Mask" / "my video" / ".hidden").mkdir()
    names = ["my video/object.1", "my video/the object"]
    assert [clip.name for clip in layouts.reference_clips(tmp_path)] == names
    listed = tmp_path / "test_list.txt"
    listed.write_text("Ground-truth/my video Mask/my video/the object\n")
    assert [clip.name for clip in layouts.reference_clips(tmp_path)] == names[1:]
    listed.write_text(2 * "Mask/my video/the object\n")
    with pytest.raises(InputError, match="the object stands in it twice"):
        layouts.reference_clips(tmp_path)
    listed.write_bytes("Mask/my video/the object".encode("utf-16"))
    with pytest.raises(InputError, match=r"test_list.txt: is UTF-16"):
        layouts.reference_clips(tmp_path)


def test_masks_of_ones_are_named(tmp_path):
    grey = np.zeros((2, 4, 4, 3), np.uint8)
    assert not layouts.inside(grey, tmp_path).any()
    grey[0, 1, 1] = 255
    assert layouts.inside(grey, tmp_path).sum() == 1
    with pytest.raises(InputError, match="largest value is 1: write the element as 255"):
        layouts.inside(grey // 255, tmp_path)
