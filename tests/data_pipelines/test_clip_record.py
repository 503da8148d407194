import dataclasses
import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gencompositor_jax.arch import Inflation, ModelArch, tiny
from gencompositor_jax.data_pipelines import clip_record
from gencompositor_jax.data_pipelines.clip_record import Record, decode, encode, from_bytes, to_bytes
from gencompositor_jax.errors import InputError
from gencompositor_jax.masks.inflation import inflate
from tests.data_pipelines.videocomp_folder import clip

INFLATION = tiny().inflation


@pytest.fixture(scope="module")
def videos() -> dict[str, np.ndarray]:
    made = clip(3, 5, (64, 96), 64)
    foreground = np.full((5, 64, 96, 3), 255, np.uint8)
    foreground[:, :, 16:80] = made["fg"]
    mask = made["filtered_mask"][..., 0] > 127
    return {
        "target": made["GTs"],
        "background": made["inpainted_sum"],
        "foreground": foreground,
        "mask": mask,
    }


def record(videos: dict[str, np.ndarray], **changes: object) -> Record:
    facts = {"name": "a", "caption": "ein Käfer 🐞", "fps": 8.0, "mask_is": "region"}
    return encode(**{**facts, **videos, **changes})  # type: ignore[arg-type]


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2)))


def test_a_clip_survives_encoding(videos):
    read = from_bytes(to_bytes(record(videos)))
    assert (read.caption, read.fps, read.frames, read.height, read.width) == ("ein Käfer 🐞", 8.0, 5, 64, 96)
    whole = decode(read, INFLATION, removal=False)
    assert (
        psnr(whole["target"], videos["target"]) > 38 and psnr(whole["foreground"], videos["foreground"]) > 38
    )
    assert whole["scene"] is whole["target"]
    np.testing.assert_array_equal(whole["mask"], videos["mask"])
    assert whole["mask"].dtype == bool
    removed = decode(read, INFLATION, removal=True)
    assert psnr(removed["target"], videos["background"]) > 38 and (removed["foreground"] == 255).all()


def test_only_the_parts_of_the_sample_are_decoded(videos):
    whole = record(videos)
    decode(dataclasses.replace(whole, background=b"junk"), INFLATION, removal=False)
    decode(dataclasses.replace(whole, target=b"junk", foreground=b"junk"), INFLATION, removal=True)
    with pytest.raises(InputError, match="'a': its target is damaged"):
        decode(dataclasses.replace(whole, target=b"junk"), INFLATION, removal=False)


def test_silhouettes_are_inflated_and_regions_are_not(videos):
    outline = decode(record(videos, mask_is="silhouette"), INFLATION, False)["mask"]
    np.testing.assert_array_equal(outline, inflate(videos["mask"], INFLATION))
    assert outline.sum() > videos["mask"].sum()
    released = decode(record(videos, mask_is="silhouette"), Inflation(), False)["mask"]
    assert released.sum() > outline.sum()


def test_without_a_background_removal_reads_a_composite(videos):
    bare = record(videos, background=None)
    whole, asked = decode(bare, INFLATION, False), decode(bare, INFLATION, True)
    for name, values in whole.items():
        np.testing.assert_array_equal(values, asked[name])


def test_no_element_is_white(videos):
    white = record(videos, foreground=np.full((5, 64, 96, 3), 255, np.uint8))
    assert white.foreground == b"" and (decode(white, INFLATION, False)["foreground"] == 255).all()


def test_the_foreground_is_stored_as_its_box(videos):
    kept = record(videos)
    top, left, height, width = kept.foreground_box
    assert height * width < 0.5 * 64 * 96
    outside = np.ones((64, 96), bool)
    outside[top : top + height, left : left + width] = False
    assert (decode(kept, INFLATION, False)["foreground"][:, outside] == 255).all()


def test_moments_follow_the_target(videos):
    rng = np.random.default_rng(0)
    target, background = rng.standard_normal((2, 2, 8, 12, 6))
    with_both = from_bytes(to_bytes(clip_record.with_moments(record(videos), target, background)))
    for removal, expected in ((False, target), (True, background)):
        moments = decode(with_both, INFLATION, removal)["target_moments"]
        np.testing.assert_array_equal(moments, expected.astype(np.float16))
        assert moments.dtype == np.float16
    assert "target_moments" not in decode(record(videos), INFLATION, False)
    with pytest.raises(ValueError, match="pass moments of target"):
        clip_record.with_moments(record(videos), target, None)


@given(st.binary(max_size=40), st.binary(max_size=9), st.text(max_size=9), st.integers(0, 2**40))
def test_any_record_survives_its_bytes(target, mask, name, number):
    one = Record(
        name, name, number / 7, number, 2, 3, "region", (0, 1, 2, 3), target, b"", mask, b"\0", (1, 2, 3, 4)
    )
    assert from_bytes(to_bytes(one)) == one


def test_the_layout_is_the_documented_one(videos):
    """Parsed by the table of docs/data.md, without this package."""
    data = to_bytes(record(videos))
    assert data[:7] == b"GENCLIP" and data[7] == 1
    (length,) = struct.unpack_from("<I", data, 8)
    header = json.loads(data[12 : 12 + length])
    at, parts = 12 + length, {}
    for name, size in header["parts"]:
        parts[name], at = data[at : at + size], at + size
    assert at == len(data) and header["mask_is"] == "region"
    lengths = struct.unpack_from("<5I", parts["target"])
    assert parts["target"][20:23] == b"\xff\xd8\xff" and 20 + sum(lengths) == len(parts["target"])


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda data: b"PNG" + data, "isn't a clip"),
        (lambda data: b"", "isn't a clip"),
        (lambda data: data[:7] + b"\x09" + data[8:], "version 9, this release reads version 1"),
        (lambda data: data[:-5], "damaged clip"),
        (lambda data: data[:10], "damaged clip"),
        (lambda data: data.replace(b'"fps"', b'"fqs"'), "damaged clip"),
    ],
)
def test_other_bytes_are_refused(videos, spoil, match):
    with pytest.raises(InputError, match=match):
        from_bytes(spoil(to_bytes(record(videos))))


def test_clips_of_another_size_are_refused(videos):
    one = record(videos)
    clip_record.check_fits(one, ModelArch(frames=5, height=64, width=96))
    with pytest.raises(InputError, match="5 frames, 64 pixels high.*--frames 9"):
        clip_record.check_fits(one, ModelArch(frames=9, height=64, width=96))
