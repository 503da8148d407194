import csv
import json
import pickle
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gencompositor_jax.arch import ModelArch
from gencompositor_jax.controls.media.video_out import write_video
from gencompositor_jax.data_pipelines import build as build_module
from gencompositor_jax.data_pipelines import clip_record, records
from gencompositor_jax.data_pipelines.build import Settings, add_moments, build, inputs_of
from gencompositor_jax.data_pipelines.clip_list import centred, read_list
from gencompositor_jax.data_pipelines.records import ArrayRecordSource
from gencompositor_jax.data_pipelines.videocomp import VideoCompSource
from gencompositor_jax.errors import InputError
from tests.data_pipelines.videocomp_folder import CAPTION, clip, copy, cut_short, make_folder, write_csv

ARCH = ModelArch(frames=9, height=64, width=96)
SMALL = Settings(frames=9, height=64, width=96, clips_per_shard=2)
CLIPS = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("videocomp") / "data", range(CLIPS), frames=30)


@pytest.fixture(scope="module")
def built(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(folder, tmp_path_factory.mktemp("built") / "set").folder


def run(source: Path, out: Path, settings: Settings = SMALL, **options: object) -> build_module.Built:
    options = {"workers": 0, "progress": False, **options}
    return build(inputs_of(source, settings), out, settings, **options)  # type: ignore[arg-type]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_records_read_like_the_folder(folder, built):
    one, other = VideoCompSource(folder, ARCH), ArrayRecordSource(built, ARCH)
    assert len(one) == len(other) == CLIPS
    for index in range(CLIPS):
        for removal in (False, True):
            expected, got = (s.read(index, rng(), removal) for s in (one, other))
            assert expected.keys() == got.keys()
            for name, values in expected.items():
                assert values.shape == got[name].shape and values.dtype == got[name].dtype
                assert np.abs(values.astype(int) - got[name].astype(int)).mean() < 4, (index, removal, name)
            np.testing.assert_array_equal(expected["mask"], got["mask"])
    facts = other.record(3)
    assert (facts.name, facts.caption, facts.fps, facts.mask_is) == ("3.mp4@0", CAPTION, 8.0, "region")


def test_dataset_json_lists_the_shards(built):
    facts = json.loads((built / "dataset.json").read_text())
    assert [shard["clips"] for shard in facts["shards"]] == [2, 2, 1] and facts["clips"] == CLIPS
    assert sorted(p.name for p in built.glob("*.arrayrecord")) == [s["file"] for s in facts["shards"]]
    assert facts["broken"] == [] and facts["settings"]["fps"] == 8.0
    assert not list(built.glob("*.part"))


@pytest.mark.multiprocess
def test_worker_processes_build_the_same(folder, built, tmp_path):
    parallel = run(folder, tmp_path / "set", workers=2).folder
    for index in range(CLIPS):
        assert ArrayRecordSource(parallel, ARCH).record(index) == ArrayRecordSource(built, ARCH).record(index)


def test_an_interrupted_build_resumes(folder, built, tmp_path, monkeypatch):
    made: list[str] = []
    original = build_module.encode

    def stops_at_the_fourth(item, settings):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(item.name)
        return original(item, settings)

    out = tmp_path / "set"
    monkeypatch.setattr(build_module, "encode", stops_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        run(folder, out)
    assert sorted(p.name for p in out.glob("clips*")) == [
        "clips-00000-of-00003.arrayrecord",
        "clips-00000-of-00003.json",
    ]
    with pytest.raises(InputError, match="is incomplete: run the same"):
        ArrayRecordSource(out, ARCH)

    rest: list[str] = []

    def counts(item, settings):
        rest.append(item.name)
        return original(item, settings)

    monkeypatch.setattr(build_module, "encode", counts)
    assert run(folder, out).clips == CLIPS
    assert rest == ["2.mp4@0", "3.mp4@0", "4.mp4@0"]
    for index in range(CLIPS):
        assert ArrayRecordSource(out, ARCH).record(index) == ArrayRecordSource(built, ARCH).record(index)
    rest.clear()
    assert run(folder, out).clips == CLIPS and not rest  # nothing to do


def test_a_deleted_or_cut_shard_is_made_again(folder, built, tmp_path):
    out = copy(built, tmp_path / "set")
    shards = sorted(out.glob("*.arrayrecord"))
    shards[0].unlink()
    with pytest.raises(InputError, match=f"{shards[0].name}: is missing"):
        ArrayRecordSource(out, ARCH)
    cut_short(shards[1])
    with pytest.raises(InputError, match=r"is missing|has \d+ of its"):
        ArrayRecordSource(out, ARCH)
    run(folder, out)
    assert ArrayRecordSource(out, ARCH).record(2) == ArrayRecordSource(built, ARCH).record(2)


def test_a_flipped_bit_names_its_file(built, tmp_path):
    out = copy(built, tmp_path / "set")
    shard = sorted(out.glob("*.arrayrecord"))[1]
    data = bytearray(shard.read_bytes())
    at = data.index(b"\xff\xd8\xff", data.index(b"GENCLIP")) + 900  # within a picture of its first record
    data[at] ^= 4
    shard.write_bytes(data)
    source = ArrayRecordSource(out, ARCH)
    with pytest.raises(InputError, match=f"{shard.name}: record 0: .*mismatch.*copy the data set again"):
        source.read(2, rng(), False)
    assert source.read(3, rng(), False)["target"].shape == (9, 64, 96, 3)
    assert source.name(2) == f"{shard}[0]"


def test_broken_inputs_are_left_out_and_listed(folder, tmp_path):
    spoilt = copy(folder, tmp_path / "spoilt")
    cut_short(spoilt / "fg" / "1.mp4")
    (spoilt / "inpainted_sum" / "4.mp4").unlink()
    done = run(spoilt, tmp_path / "set", max_broken=0.4)
    assert done.clips == 3 and [entry["input"] for entry in done.broken] == ["1.mp4@0", "4.mp4@0"]
    assert "fg/1.mp4" in done.broken[0]["problem"] and "inpainted_sum/4.mp4" in done.broken[1]["problem"]
    source = ArrayRecordSource(tmp_path / "set", ARCH)  # one of its shards is empty
    assert [source.record(i).name for i in range(3)] == ["0.mp4@0", "2.mp4@0", "3.mp4@0"]
    assert run(spoilt, tmp_path / "set", max_broken=0.4).broken == done.broken
    with pytest.raises(InputError, match=r"2 of 5 inputs are broken.*--max-broken 0.2.*fg/1\.mp4.*sum/4"):
        run(spoilt, tmp_path / "other", max_broken=0.2)


def test_other_settings_and_other_files_are_refused(folder, built, tmp_path):
    with pytest.raises(InputError, match="quality 90 instead of 80"):
        run(folder, built, Settings(frames=9, height=64, width=96, clips_per_shard=2, quality=80))
    fewer = copy(folder, tmp_path / "fewer")
    write_csv(fewer, [["0.mp4", 0, 30, 24, CAPTION]])
    with pytest.raises(InputError, match="other inputs"):
        run(fewer, built)
    with pytest.raises(InputError, match="holds other files"):
        run(folder, folder / "GTs")
    with pytest.raises(InputError, match="can't be made"):
        run(folder, folder / "data.csv" / "set")


def test_leftovers_of_a_killed_build_are_removed(folder, built, tmp_path):
    out = copy(built, tmp_path / "set")
    for name in ("dataset.json", "clips-00001-of-00003.json"):
        (out / name).rename(out / f".{name}.abc.part")
    (out / "dataset.json").write_bytes((built / "dataset.json").read_bytes())
    assert run(folder, out).clips == CLIPS
    assert not list(out.glob(".*")) and len(ArrayRecordSource(out, ARCH)) == CLIPS
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / ".dataset.json.abc.part").touch()
    assert run(folder, tmp_path / "new").clips == CLIPS


def test_the_folder_may_move(folder, built, tmp_path):
    assert run(copy(folder, tmp_path / "moved"), built).clips == CLIPS


def test_too_little_disk_space_is_refused_before_any_work(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**5))
    with pytest.raises(InputError, match="GB needed"):
        run(folder, tmp_path / "set")
    assert not list((tmp_path / "set").iterdir())


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"frames": 0}, "--frames 0"),
        ({"clips_per_shard": 0}, "--clips-per-shard 0"),
        ({"fps": float("nan")}, "--fps nan"),
        ({"quality": 101}, "--quality 101"),
    ],
)
def test_bad_settings(folder, changes, match):
    with pytest.raises(InputError, match=match):
        inputs_of(folder, Settings(**changes))


def test_sources_can_be_pickled_and_shared_by_threads(built):
    source = ArrayRecordSource(built, ARCH)
    data = pickle.dumps(source)
    assert len(data) < 3000
    other = pickle.loads(data)
    expected = [source.record(i) for i in range(CLIPS)]
    got: list[object] = []
    threads = [
        threading.Thread(target=lambda: got.extend(other.record(i) == expected[i] for i in range(CLIPS)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [True] * 8 * CLIPS


def test_folders_without_a_data_set_are_refused(tmp_path, built, folder):
    for wrong in (tmp_path, folder, tmp_path / "nowhere"):
        with pytest.raises(InputError, match="holds no data set"):
            ArrayRecordSource(wrong, ARCH)
    with pytest.raises(InputError, match="9 frames, 64 pixels high and 96 wide.*--frames 49"):
        ArrayRecordSource(built, ModelArch())
    out = copy(built, tmp_path / "set")
    facts = json.loads((out / "dataset.json").read_text())
    (out / "dataset.json").write_text(json.dumps({**facts, "version": 7}))
    with pytest.raises(InputError, match="version 7"):
        ArrayRecordSource(out, ARCH)
    (out / "dataset.json").write_text("[]")
    with pytest.raises(InputError, match="an object is expected"):
        ArrayRecordSource(out, ARCH)


def test_moments_are_added_to_a_copy(built, tmp_path):
    def moments(frames: np.ndarray) -> np.ndarray:
        return frames[::4, ::8, ::8].astype(np.float32) / 255

    out = add_moments(built, tmp_path / "set", ARCH, moments, "a toy", progress=False).folder
    source, before = ArrayRecordSource(out, ARCH), ArrayRecordSource(built, ARCH)
    assert (source.moments_of, before.moments_of) == ("a toy", None)
    for removal in (False, True):
        clip_read = source.read(1, rng(), removal)
        assert clip_read["target_moments"].shape == (3, 8, 12, 3)
        np.testing.assert_allclose(clip_read["target_moments"], moments(clip_read["target"]), atol=1e-3)
    with pytest.raises(InputError, match="other moments"):
        add_moments(built, out, ARCH, moments, "another", progress=False)


def test_a_full_disk_leaves_no_shard(folder, tmp_path, monkeypatch):
    class Full:
        def __init__(self, path: str, options: str) -> None:
            Path(path).write_bytes(b"half")

        def write(self, data: bytes) -> None:
            raise RuntimeError("write() failed: No space left on device")

        def is_open(self) -> bool:
            return True

        def close(self) -> None:
            raise RuntimeError("FAILED_PRECONDITION")

    monkeypatch.setattr(records, "ArrayRecordWriter", Full)
    with pytest.raises(InputError, match=r"clips-00000.*No space left"):
        run(folder, tmp_path / "set")
    assert [p.name for p in (tmp_path / "set").iterdir()] == ["dataset.json"]


# Lists of your own clips.


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("listed")
    made = clip(1, 30, (64, 96), 72)
    for name in ("GTs", "filtered_mask", "inpainted_sum"):
        write_video(folder / f"{name}.mp4", made[name], 24)
    with open(folder / "clips.csv", "w", newline="") as file:
        rows = [
            ["GTs.mp4", "filtered_mask.mp4", "inpainted_sum.mp4", "A disc."],
            ["GTs.mp4", "filtered_mask.mp4"],
        ]
        csv.writer(file).writerows([["target", "mask", "background", "caption"], *rows])
    return folder / "clips.csv"


def test_a_list_gives_the_element_the_mask_and_the_background(listed, tmp_path):
    out = run(listed, tmp_path / "set").folder
    source = ArrayRecordSource(out, ARCH)
    record, made = source.record(0), clip(1, 30, (64, 96), 72)
    assert (record.mask_is, record.caption, record.name) == ("silhouette", "A disc.", "GTs.mp4")
    taken = np.arange(9) * 3
    outline = made["filtered_mask"][taken][..., 0] > 127
    assert (clip_record.mask_of(record) != outline).mean() < 0.01
    read = source.read(0, rng(), False)
    assert read["mask"].sum() > outline.sum() * 1.1  # inflated when read
    assert np.abs(read["target"].astype(int) - made["GTs"][taken]).mean() < 4
    # The element in the middle has the colours that the target has under the mask.
    for foreground, target, inside in zip(read["foreground"], made["GTs"][taken], outline, strict=True):
        element = (foreground < 220).any(-1)  # JPEG rings a little around it
        rows, columns = np.nonzero(element)
        assert abs(rows.mean() - 31.5) < 1.5 and abs(columns.mean() - 47.5) < 1.5
        assert element.sum() == pytest.approx(inside.sum(), rel=0.06)
        assert np.abs(foreground[element].mean(0) - target[inside].mean(0)).max() < 6
    assert np.abs(source.read(0, rng(), True)["target"].astype(int) - made["inpainted_sum"][taken]).mean() < 4
    # The second clip has no background.
    np.testing.assert_array_equal(source.read(1, rng(), True)["target"], read["target"])


def test_a_jsonl_list_with_start_and_a_still_mask(listed, tmp_path):
    write_video(
        listed.parent / "still.mp4", clip(1, 30, (64, 96), 72)["filtered_mask"][:1], 24, overwrite=True
    )
    file = listed.parent / "clips.jsonl"
    file.write_text(
        json.dumps({"target": "GTs.mp4", "mask": "still.mp4", "start": 0.25, "name": "late"}) + "\n\n"
    )
    settings = Settings(frames=5, height=64, width=96)
    source = ArrayRecordSource(
        run(file, tmp_path / "set", settings).folder, ModelArch(frames=5, height=64, width=96)
    )
    assert source.record(0).name == "late"
    expected = clip(1, 30, (64, 96), 72)["GTs"][6 + 3 * np.arange(5)]
    assert np.abs(source.read(0, rng(), False)["target"].astype(int) - expected).mean() < 4
    masks = clip_record.mask_of(source.record(0))
    assert (masks == masks[:1]).all()


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ({"target": "GTs.mp4", "mask": "nowhere.mp4"}, "nowhere.mp4: no such file"),
        ({"target": "GTs.mp4", "mask": "filtered_mask.mp4", "start": 1.0}, r"GTs\.mp4: has \d frames"),
        ({"target": "GTs.mp4", "mask": "small.mp4"}, r"small\.mp4: 48x32 pixels, but .*GTs\.mp4 has 96x64"),
        ({"target": "slow.mp4", "mask": "filtered_mask.mp4"}, r"slow\.mp4: has 4 frames per second"),
        ({"target": "GTs.mp4", "mask": "black.mp4"}, r"black\.mp4: the mask is black"),
        ({"target": "GTs.mp4", "mask": "filtered_mask.mp4", "background": "small.mp4"}, r"small\.mp4: 48x32"),
    ],
)
def test_broken_lines_are_named(listed, tmp_path, line, match):
    made = clip(1, 30, (64, 96), 72)
    write_video(listed.parent / "small.mp4", made["GTs"][:, ::2, ::2], 24, overwrite=True)
    write_video(listed.parent / "slow.mp4", made["GTs"], 4, overwrite=True)
    write_video(listed.parent / "black.mp4", np.zeros_like(made["GTs"]), 24, overwrite=True)
    file = listed.parent / "broken.jsonl"
    file.write_text(json.dumps(line))
    with pytest.raises(InputError, match=f"1 of 1 inputs are broken.*{match}"):
        run(file, tmp_path / "set")


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("a.csv", "target,mask\n", "lists no clip"),
        ("a.csv", "target,maske\na,b\n", "line 2: unknown field maske"),
        ("a.csv", "target,mask\na\n", "line 2: field mask is missing"),
        ("a.csv", "target,mask,start\na,b,soon\n", "line 2: start 'soon'"),
        (
            "a.csv",
            "target,mask,caption\na,b,dark, rainy\n",
            "line 2: has 4 columns, the header line has 3: put double quotes around a text with commas",
        ),
        ("a.csv", "target,mask\na,b\nc,d\na,b\n", "line 4: is the same clip as line 2: remove one"),
        ("a.jsonl", '{"target": "a", "mask": "b"}\n{not json', "line 2, column 2"),
        ("a.jsonl", "[1]", "line 1: isn't an object"),
        ("a.jsonl", '{"target": "a", "mask": "b", "start": [1]}', "line 1: start"),
    ],
)
def test_errors_of_a_list_name_the_line(tmp_path, name, text, match):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=match):
        read_list(tmp_path / name)


def test_centring_moves_whole_pixels():
    rng = np.random.default_rng(3)
    frames = rng.integers(0, 256, (4, 20, 30, 3), np.uint8)
    alpha = np.zeros((4, 20, 30), np.uint8)
    alpha[0, 0:5, 25:30] = 255  # in a corner
    alpha[1, 3:20, 0:30] = 255  # as wide as the frame
    alpha[2, 7, 7] = 255
    out = centred(frames, alpha)
    np.testing.assert_array_equal(out[0, 7:12, 12:17], frames[0, 0:5, 25:30])
    np.testing.assert_array_equal(out[1, 1:18], frames[1, 3:20])
    np.testing.assert_array_equal(out[2, 9, 14], frames[2, 7, 7])
    assert (out[3] == 255).all() and (out == 255).all(-1).sum() >= 4 * 600 - 25 - 17 * 30 - 1
