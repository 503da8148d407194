"""Plates of every depth: outside the mask a result is the plate bit for bit, and over(layer, plate) is it."""

import struct
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from gencompositor_jax.compositor import Compositor
from gencompositor_jax.controls.element.element import Element
from gencompositor_jax.controls.footage import load_background
from gencompositor_jax.controls.geometry.trajectory_text import parse_trajectory
from gencompositor_jax.controls.media import deep_images, exr
from gencompositor_jax.controls.media.codecs import CODINGS
from gencompositor_jax.controls.media.colour import Tags
from gencompositor_jax.controls.media.encoding import encoder
from gencompositor_jax.controls.media.image_files import read_header
from gencompositor_jax.controls.media.planes import layout_of, planes_of, to_rgb
from gencompositor_jax.controls.media.timecode import timecode_of
from gencompositor_jax.controls.media.video import probe
from gencompositor_jax.controls.plate.colour import LINEAR, conversion, plate_colour
from gencompositor_jax.controls.plate.delivery import plan
from gencompositor_jax.controls.plate.plate import open_plate
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.controls.shot import ElementLayer, RemovalLayer
from gencompositor_jax.controls.stage import make_stage
from gencompositor_jax.errors import InputError
from gencompositor_jax.inference.delivering import deliver

H, W, T = 32, 48, 5
OPTIONS = SamplingOptions(steps=1, detail="element")


def pictures() -> np.ndarray:
    """R'G'B' 0..1 with detail that 8 bits don't have: float32 [T, H, W, 3]."""
    y, x, t = np.mgrid[:H, :W, :T]
    values = np.stack([0.2 + x / 120, 0.3 + y / 90, 0.6 - x / 160 + t / 100], -1).transpose(2, 0, 1, 3)
    return (values + np.random.default_rng(0).uniform(0, 0.01, values.shape)).astype(np.float32)


def write_video(path: Path, layout: str, tags: Tags = Tags(1, 1, 1)) -> Path:  # noqa: B008 (frozen)
    with encoder(path, CODINGS["ffv1"], (W, H), 25.0, tags=tags, timecode="10:00:00:00") as put:
        for picture in pictures():
            frame = av.VideoFrame.from_ndarray((picture * 65535).astype(np.uint16), "rgb48le")
            put(frame.reformat(format=layout, dst_colorspace=tags.matrix))
    return path


@pytest.fixture
def plate(tmp_path):
    """Makes a plate of a kind."""

    def make(kind: str) -> Path:
        if kind.startswith("exr"):
            pytest.importorskip("OpenEXR")
            for t, picture in enumerate(pictures()):
                light = picture**2.2 * 4  # a third of it above white
                channels = {name: light[..., i].astype(np.float16) for i, name in enumerate("RGB")}
                exr.write(
                    tmp_path / f"plate.{1001 + t}.exr", channels | {"Z": light[..., 0]}, {"owner": "me"}
                )
            return tmp_path / "plate.####.exr"
        if kind.startswith("png"):
            for t, picture in enumerate(pictures()):
                depth = np.uint8 if kind == "png8" else np.uint16
                pixels = (picture * np.iinfo(depth).max).astype(depth)
                (tmp_path / f"plate_{95 + t:04}.png").write_bytes(deep_images.coded(".png", pixels))
            return tmp_path / "plate_%04d.png"
        tags = Tags(9, 18, 9) if kind == "hlg" else Tags(1, 1, 1)
        return write_video(tmp_path / "plate.mkv", {"hlg": "yuv420p10le"}.get(kind, kind), tags)

    return make


def delivered(model, background: Path, out: str, layer: str | None, removal: bool = False, **more):
    """The files, and the mask: bool [T, H, W]."""
    media = probe(background)
    colour = more.get("colour")
    delivery = plan(media, out, layer, **more)
    assert delivery is not None
    clip = load_background(media, T, window=T, colour=colour)
    element = np.zeros((T, 14, 14, 4), np.uint8)
    element[:, 2:12, 2:12] = (200, 40, 90, 255)
    element[:, 2:5, 2:12, 3] = 120
    removed = np.zeros((T, H, W), bool)
    removed[:, 12:20, 16:30] = True
    placed = ElementLayer(Element(element, "element"), parse_trajectory("16,16 30,18"))
    stage = make_stage(clip, [RemovalLayer(removed) if removal else placed], model.arch)
    composite = Compositor(model).render(stage, OPTIONS)
    facts = deliver(delivery.of_frames(T), composite, stage, OPTIONS.feather, lambda done, count: None)
    return np.asarray(composite.mask), facts


def rgba_of(path: Path) -> np.ndarray:
    if path.suffix == ".mkv" or path.suffix == ".mov":
        with av.open(str(path)) as container:
            return np.stack([f.to_ndarray(format="rgba64le") for f in container.decode(video=0)])
    return np.stack([deep_images.read(file) for file in sorted(path.parent.glob(path.name))])


def over(layer: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """Straight uint16 RGBA over values 0..1."""
    values = layer / 65535
    return values[..., 3:] * values[..., :3] + (1 - values[..., 3:]) * plate


@pytest.mark.parametrize("removal", [False, True])
def test_an_exr_plate(small_model, plate, tmp_path, removal):
    given = plate("exr")
    out, layer = str(tmp_path / "comp.####.exr"), str(tmp_path / "edit.####.exr")
    mask, facts = delivered(small_model, given, out, layer, removal, exr_layers=True)
    assert facts["plate"]["depth"] == "half" and facts["plate"]["unseen"] > 0.1
    assert facts["layer"]["error"] < 2**-11
    for t in range(T):
        before, after, edit = (exr.read(tmp_path / f"{n}.{1001 + t}.exr") for n in ("plate", "comp", "edit"))
        assert after.header["owner"] == "me" and np.array_equal(after.channels["Z"], before.channels["Z"])
        assert np.array_equal(after.channels["mask.A"] > 0, mask[t])
        assert (edit.channels["A"][~mask[t]] == 0).all() and edit.channels["A"].max() > 0.5
        for name in "RGB":
            old, new = before.channels[name], after.channels[name]
            assert np.array_equal(old[~mask[t]].view(np.uint16), new[~mask[t]].view(np.uint16))
            assert (old != new)[mask[t]].any()
            alpha = edit.channels["A"].astype(np.float32)
            made = edit.channels[name].astype(np.float32) + (1 - alpha) * old
            assert np.abs(made - new.astype(np.float32)).max() <= 2**-11 * np.maximum(old, new).max()
            assert np.array_equal(edit.channels[name], after.channels[f"edit.{name}"])
            difference = after.channels[f"difference.{name}"].astype(np.float32)
            assert np.abs(difference - (new.astype(np.float32) - old)).max() < 2**-8
        assert (after.channels["foreground.A"].max() > 0.9) == (not removal)


@pytest.mark.parametrize(
    ("kind", "layer", "worst"),
    [("png8", "edit_####.png", 0.01 / 255), ("png16", "edit_####.tif", 1.01 / 65535)],
)
def test_image_plates(small_model, plate, tmp_path, kind, layer, worst):
    given = plate(kind)
    mask, facts = delivered(small_model, given, str(tmp_path / "comp_####.png"), str(tmp_path / layer))
    before, after = rgba_of(tmp_path / "plate_*.png"), rgba_of(tmp_path / "comp_*.png")
    assert sorted(p.name for p in tmp_path.glob("comp_*"))[0] == "comp_0095.png"
    assert before.dtype == after.dtype == (np.uint8 if kind == "png8" else np.uint16)
    assert np.array_equal(before[~mask], after[~mask]) and (before != after)[mask].any()
    top = np.iinfo(before.dtype).max
    found = rgba_of(tmp_path / layer.replace("####", "*"))
    assert np.abs(over(found, before / top) - after / top).max() <= worst
    assert (found[~mask] == 0).all() and facts["plate"]["depth"] == kind.removeprefix("png")


@pytest.mark.parametrize("kind", ["yuv420p", "yuv422p10le", "hlg", "gbrp12le"])
def test_video_plates(small_model, plate, tmp_path, kind):
    given = plate(kind)
    layer = "edit.mov" if kind == "hlg" else "edit.mkv"
    mask, facts = delivered(
        small_model, given, str(tmp_path / "comp.mkv"), str(tmp_path / layer), codec="ffv1"
    )
    before, after = coded(given), coded(tmp_path / "comp.mkv")
    assert before[0].layout == after[0].layout and len(after) == T
    assert timecode_of(tmp_path / "comp.mkv", 0, 25.0) == "10:00:00:00"
    for t in range(T):
        for old, new in zip(before[t].samples, after[t].samples, strict=True):
            outside = ~mask[t]
            if old.shape != mask[t].shape:
                across = W // old.shape[1]
                outside = outside.reshape(old.shape[0], -1, old.shape[1], across).any(axis=(1, 3))
            assert np.array_equal(old[outside], new[outside]) and (old != new).any()
    found, plates = rgba_of(tmp_path / layer), np.stack([to_rgb(p) for p in before])
    error = np.abs(over(found, plates) - np.stack([to_rgb(p) for p in after]))[mask]
    # Subsampled chroma differs at the element's edge; ProRes has losses.
    assert error.mean() < (0.0002 if kind == "gbrp12le" else 0.015)
    assert facts["layer"]["error"] < 0.01
    assert facts["plate"]["colour"] == ("HLG" if kind == "hlg" else "Rec.709")
    outside_alpha = found[~mask][:, 3].max()
    assert outside_alpha == 0 if layer == "edit.mkv" else outside_alpha < 65


def turned(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """The video with a display matrix, in MP4."""
    out = path.with_name("turned.mp4")
    with av.open(str(path)) as given, av.open(str(out), "w") as made:
        stream = made.add_stream("libx264", rate=25, options={"qp": "0", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = W, H, given.streams.video[0].pix_fmt
        for frame in given.decode(video=0):
            made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
    data = bytearray(out.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", *(65536 * m for m in (a, b, 0, c, d, 0, 0, 0)), 1 << 30)
    out.write_bytes(data)
    return out


@pytest.mark.parametrize(
    ("kind", "matrix", "upright"),
    [
        ("yuv420p", (-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
        ("yuv422p10le", (-1, 0, 0, 1), lambda p: p[:, ::-1]),
    ],
)
def test_a_turned_plate_comes_out_upright_with_its_own_samples(
    small_model, plate, tmp_path, kind, matrix, upright
):
    given = turned(plate(kind), *matrix)
    mask, _ = delivered(small_model, given, str(tmp_path / "c.mkv"), None, codec="ffv1")
    for old, new, inside in zip(coded(given), coded(tmp_path / "c.mkv"), mask, strict=True):
        before, after = upright(old.samples[0]), new.samples[0]
        assert np.array_equal(before[~inside], after[~inside]) and (before != after)[inside].any()
        corner = upright(old.samples[1])[-2:], new.samples[1][-2:]
        assert np.array_equal(*corner)


def test_a_plate_turned_by_a_right_angle(plate):
    found = open_plate(turned(plate("yuv420p"), 0, 1, -1, 0))
    (frame, *_) = found.from_frame(0)
    assert found.shape == (T, W, H)
    assert np.array_equal(frame.planes.samples[2], np.rot90(coded(found.path)[0].samples[2], 3))
    (found.path.parent / "plate.mkv").unlink()
    with pytest.raises(InputError, match="it is turned and its chroma can't be"):
        open_plate(turned(plate("yuv422p10le"), 0, 1, -1, 0))


def test_a_video_plate_in_a_named_colour(small_model, tmp_path):
    """An untagged file is read, and written, as what it is said to be."""
    given = write_video(tmp_path / "plate.mkv", "yuv420p10le", Tags(2, 2, 2))
    delivered(small_model, given, str(tmp_path / "c.mkv"), None, codec="ffv1", colour="HLG")
    with av.open(str(tmp_path / "c.mkv")) as container:
        frame = next(container.decode(video=0))
    assert (int(frame.colorspace), int(frame.color_trc), int(frame.color_primaries)) == (9, 18, 9)


@pytest.mark.parametrize("channels", [3, 4])
def test_image_plates_of_8_bits_as_ffv1(small_model, tmp_path, channels):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (T, H, W, channels)).astype(np.uint8)
    for t in range(T):
        (tmp_path / f"plate_{t:04}.png").write_bytes(deep_images.coded(".png", pixels[t]))
    given = tmp_path / "plate_####.png"
    mask, _ = delivered(small_model, given, str(tmp_path / "c.mkv"), None, codec="ffv1")
    with av.open(str(tmp_path / "c.mkv")) as container:
        layout = "rgba" if channels == 4 else "rgb24"
        found = np.stack([frame.to_ndarray(format=layout) for frame in container.decode(video=0)])
    assert np.array_equal(found[~mask], pixels[~mask]) and (found != pixels)[mask].any()


def test_an_exr_plate_with_overscan(small_model, tmp_path):
    """Its data window is larger than the picture; what is outside of it stays, too."""
    pytest.importorskip("OpenEXR")
    channels = {name: np.random.default_rng(0).random((H + 6, W + 8)).astype(np.float16) for name in "RGB"}
    window = np.array([(0, 0), (W - 1, H - 1)], np.int32)
    data = np.array([(-4, -3), (W + 3, H + 2)], np.int32)
    header = {"displayWindow": tuple(window), "dataWindow": tuple(data)}
    for t in range(T):
        exr.write(tmp_path / f"plate.{t:04}.exr", channels, header)
    mask, _ = delivered(small_model, tmp_path / "plate.####.exr", str(tmp_path / "c.####.exr"), None)
    found = exr.read(tmp_path / "c.0002.exr")
    assert found.at == (-4, -3) and found.size == (W, H)
    inside = np.pad(mask[2], ((3, 3), (4, 4)))
    assert np.array_equal(found.channels["R"][~inside], channels["R"][~inside])
    assert (found.channels["R"] != channels["R"])[inside].mean() > 0.5


def coded(path: Path) -> list:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    layout = layout_of(frames[0], int(frames[0].colorspace) if int(frames[0].colorspace) != 2 else 1)
    assert layout is not None
    return [planes_of(frame, layout) for frame in frames]


def test_a_plate_in_a_named_colour(small_model, plate, tmp_path):
    """What the network sees is converted; the result has the plate's own values."""
    pytest.importorskip("PyOpenColorIO")
    given = plate("exr")
    mask, facts = delivered(small_model, given, str(tmp_path / "comp.####.exr"), None, colour="ACEScg")
    assert facts["plate"]["colour"] == "ACEScg"
    before, after = (exr.read(tmp_path / f"{name}.1003.exr") for name in ("plate", "comp"))
    assert np.array_equal(before.channels["R"][~mask[2]], after.channels["R"][~mask[2]])


def light_of(values: np.ndarray) -> np.ndarray:
    """sRGB's curve, IEC 61966-2-1."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def test_light_out_of_an_encoded_plate(small_model, plate, tmp_path):
    """EXR out of PNG: the plate's light outside the mask, and over(layer, plate) is the composite."""
    pytest.importorskip("OpenEXR")
    out, layer = str(tmp_path / "comp.####.exr"), str(tmp_path / "edit.####.exr")
    given = plate("png16")
    mask, facts = delivered(small_model, given, out, layer, exr_layers=True, output_colour="linear")
    assert facts["plate"]["colour"] == "sRGB" and facts["layer"]["error"] < 2**-11
    assert facts["output"] == {"depth": "half", "colour": "linear", "clipped": 0.0}
    plates = light_of(rgba_of(tmp_path / "plate_*.png") / 65535)
    for t in range(T):
        comp, edit = (exr.read(tmp_path / f"{name}.{95 + t:04}.exr") for name in ("comp", "edit"))
        for i, name in enumerate("RGB"):
            new, old = comp.channels[name].astype(np.float32), plates[t, ..., i]
            assert np.abs(new - old)[~mask[t]].max() < 2**-11 and np.abs(new - old)[mask[t]].max() > 0.01
            made = edit.channels[name] + (1 - edit.channels["A"].astype(np.float32)) * old
            assert np.abs(made - new).max() < 2**-9
        foreground = np.stack([comp.channels[f"foreground.{name}"] for name in "RGB"], -1)
        solid = comp.channels["foreground.A"] == 1
        assert np.abs(foreground[solid] - light_of(np.array([200, 40, 90]) / 255)).max() < 2**-10


@pytest.mark.parametrize(
    ("name", "codec", "tags", "white"),
    [("PQ", "prores-4444", (9, 16, 9), 0.58), ("Rec.709", "h264-10", (1, 1, 1), 1.0)],
)
def test_video_out_of_light(small_model, plate, tmp_path, name, codec, tags, white):
    """The values of the format, by its curve; what is above white is clipped where the format has no more."""
    given, out = plate("exr"), tmp_path / "c.mov"
    mask, facts = delivered(small_model, given, str(out), None, codec=codec, output_colour=name)
    with av.open(str(out)) as container:
        frame = next(container.decode(video=0))
    assert (int(frame.colorspace), int(frame.color_trc), int(frame.color_primaries)) == tags
    found = frame.reformat(format="rgb48le", src_colorspace=tags[0], interpolation=0x4 | 0x40000 | 0x6000)
    values = found.to_ndarray()[~mask[0]] / 65535
    light = exr.read(given.with_name("plate.1001.exr"))
    expected = conversion(LINEAR, plate_colour(name))(
        np.stack([light.channels[each] for each in "RGB"], axis=-1).astype(np.float32)
    )
    assert np.abs(values - np.clip(expected, 0, 1)[~mask[0]]).mean() < 0.012  # the codec's losses
    assert (facts["output"]["clipped"] > 0.2) == (name == "Rec.709")
    assert facts["output"]["colour"] == name and facts["output"]["depth"] == "16"
    assert conversion(LINEAR, plate_colour(name))(np.ones((1, 3)))[0, 0] == pytest.approx(white, abs=0.01)


def test_images_state_their_colour(small_model, plate, tmp_path):
    given = plate("exr")
    delivered(small_model, given, str(tmp_path / "c_####.png"), None, output_colour="PQ")
    header = read_header(tmp_path / "c_1001.png")
    assert header.colour is not None and header.colour[1:] == ("pq", "bt2020")


def test_the_plates_own_colour_asked_for_stays_bit_for_bit(small_model, tmp_path):
    given = write_video(tmp_path / "plate.mkv", "yuv420p10le", Tags(2, 2, 2))
    out = str(tmp_path / "c.mkv")
    mask, facts = delivered(small_model, given, out, None, codec="ffv1", output_colour="Rec.709")
    before, after = coded(given)[0], coded(tmp_path / "c.mkv")[0]
    assert "output" not in facts and before.layout.format == after.layout.format
    assert np.array_equal(before.samples[0][~mask[0]], after.samples[0][~mask[0]])
    with av.open(out) as container:
        assert int(next(container.decode(video=0)).color_trc) == 1


@pytest.mark.parametrize(
    ("kind", "out", "more", "message"),
    [
        ("png16", "a_####.exr", {}, "EXR has linear light, sRGB is encoded: pass --output-colour"),
        ("png16", "a_####.jpg", {}, "images are written as .png, .tif"),
        ("png16", "a_####.png", {"codec": "ffv1"}, "are images, which have no --codec ffv1"),
        ("png16", "a", {"codec": "ffv1"}, "--codec ffv1 is written to .mkv"),
        ("png16", "a.mp4", {"exr_layers": True}, "--exr-layers: only EXR images have layers"),
        ("png16", "a.mp4", {"layer": "e_####.exr"}, "--layer .*: EXR has linear light"),
        ("exr", "a_####.png", {}, ".png doesn't keep linear light in floats .linear."),
        ("exr", "a.mkv", {"codec": "ffv1"}, "no video keeps linear light in floats"),
        ("exr", "a.mp4", {"output_colour": "PQ"}, "--output-colour PQ: .*a.mp4 is a viewing copy"),
        ("exr", "a_####.exr", {"output_colour": "sRGB"}, "EXR has linear light, sRGB is encoded"),
        ("png16", "a.mkv", {"codec": "ffv1", "output_colour": "linear"}, "no video keeps linear light"),
        ("png16", "a.mp4", {"codec": "hevc-10"}, "--codec hevc-10: needs frames of 64x64 pixels"),
        ("png16", "a_####.png", {"output_colour": "709"}, "--output-colour 709: unknown"),
        ("exr", "a.mp4", {"layer": "e.mov"}, "--layer .*: only EXR keeps linear light in floats"),
    ],
)
def test_what_cannot_be_kept_is_refused(plate, tmp_path, kind, out, more, message):
    more = {"layer": None} | more
    if more["layer"] is not None:
        more["layer"] = str(tmp_path / more["layer"])
    with pytest.raises(InputError, match=message):
        plan(probe(plate(kind)), str(tmp_path / out), **more)


def test_a_viewing_copy_needs_no_plate(plate, tmp_path):
    media = probe(plate("png16"))
    assert plan(media, str(tmp_path / "a.mp4"), None) is None
    assert plan(media, str(tmp_path / "a.mp4"), None, codec="h264") is None
    found = plan(media, str(tmp_path / "a.mp4"), str(tmp_path / "edit.mov"))
    assert found is not None and found.out is None and found.plate.depth == "16"
    assert plan(probe(cv2_plate(tmp_path)), str(tmp_path / "a.mp4"), str(tmp_path / "edit.mov")) is None


def cv2_plate(folder: Path) -> Path:
    (folder / "eight").mkdir()
    cv2.imwrite(str(folder / "eight" / "0001.png"), np.zeros((H, W, 3), np.uint8))
    return folder / "eight"
