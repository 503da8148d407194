"""The edit on the plate's own values: what the working picture lacks is kept where the plate is visible."""

import numpy as np
import pytest

from gencompositor_jax.controls.geometry.edit_layer import premultiplied_layer
from gencompositor_jax.controls.media import hdr
from gencompositor_jax.controls.media.exr import Exr
from gencompositor_jax.controls.plate.carry import carry, see
from gencompositor_jax.controls.plate.colour import LINEAR, of_display, plate_colour
from gencompositor_jax.controls.plate.pixels import ExrFrame, ImageFrame
from gencompositor_jax.errors import InputError

SIZE = 12, 16
INSIDE = np.zeros(SIZE, bool)
INSIDE[3:9, 4:12] = True


def light(value: float) -> ExrFrame:
    channels = {name: np.full(SIZE, value, np.float16) for name in "RGB"} | {"Z": np.ones(SIZE, np.float32)}
    return ExrFrame(Exr(channels, {"displayWindow": np.array([(0, 0), (15, 11)])}, (16, 12), (0, 0)))


def carried(frame, composite_of, cover=0.0, colour=LINEAR):
    seen = see(frame, INSIDE, colour)
    picture = seen.picture_of(SIZE)
    composite = np.where(INSIDE[..., None], composite_of(picture), picture)
    return seen, carry(seen, composite, np.full(seen.inside.shape, cover, np.float32), colour)


def test_without_an_edit_it_is_the_plate_bit_for_bit():
    pixels = np.random.default_rng(0).integers(0, 65536, (*SIZE, 3)).astype(np.uint16)
    _, found = carried(ImageFrame(pixels), lambda p: p, colour=of_display("pq", "bt2020", 600.0))
    assert np.array_equal(found.frame.pixels, pixels)


def test_a_shadow_over_light_above_white_is_a_ratio():
    seen, found = carried(light(8.0), lambda p: 0.5 * p)  # p is 1, white
    assert seen.unseen == INSIDE.sum()
    shadow = float(LINEAR.from_working(np.float32(0.5)))
    new = found.frame.exr.channels["R"].astype(float)
    assert new[INSIDE] == pytest.approx(8 * shadow, rel=1e-3) and (new[~INSIDE] == 8).all()
    assert (found.frame.exr.channels["Z"] == 1).all()


def test_a_glow_is_a_difference_and_an_opaque_element_hides_the_plate():
    _, glow = carried(light(0.2), lambda p: p + 25.5)
    before = LINEAR.to_working(np.float32(0.2))
    assert glow.frame.exr.channels["G"][6, 8] == pytest.approx(LINEAR.from_working(before + 0.1), rel=1e-3)
    _, opaque = carried(light(8.0), lambda p: np.full_like(p, 100.0), cover=1.0)
    there = opaque.frame.exr.channels["B"][INSIDE].astype(float)
    assert there == pytest.approx(float(LINEAR.from_working(np.float32(100 / 255))), rel=1e-3)


def test_what_does_not_fit_the_file_is_clipped_and_counted():
    colour = plate_colour("Rec.2020")
    pixels = np.full((*SIZE, 3), 255, np.uint8)
    pixels[..., 1:] = 0  # far outside BT.709
    seen, found = carried(ImageFrame(pixels), lambda p: p + 60, colour=colour)
    assert seen.unseen == found.clipped == INSIDE.sum()
    assert (found.frame.pixels[~INSIDE] == pixels[~INSIDE]).all()


def test_a_data_window_grows_where_the_edit_needs_it():
    channels = {name: np.ones((4, 4), np.float16) for name in "RGB"}
    header = {"displayWindow": np.array([(10, 20), (25, 31)]), "dataWindow": np.array([(12, 22), (15, 25)])}
    frame = ExrFrame(Exr(channels, header, (16, 12), (2, 2)))
    _, found = carried(frame, lambda p: p * 0 + 255, cover=1.0)
    exr = found.frame.exr
    assert exr.at == (0, 0) and exr.channels["R"].shape == SIZE
    assert (exr.channels["R"][INSIDE] == 1).all() and exr.channels["R"].sum() == INSIDE.sum() + 16 - 6
    assert np.array_equal(exr.header["dataWindow"], header["displayWindow"])


def test_the_layer_over_light_is_premultiplied_and_needs_no_light_below_zero():
    rng = np.random.default_rng(1)
    plate = rng.gamma(1, 2, (40, 3)).astype(np.float16).astype(np.float32)
    after = (plate * rng.uniform(0, 2, (40, 3))).astype(np.float32)
    layer = premultiplied_layer(plate, after, rng.random(40).astype(np.float32) * (np.arange(40) % 2))
    made = layer[:, :3].astype(np.float32) + (1 - layer[:, 3:].astype(np.float32)) * plate
    assert (np.abs(made - after) / np.maximum(plate, after)).max() < 2**-11
    assert layer.min() >= 0 and layer[:, 3].max() <= 1
    assert (premultiplied_layer(plate, plate, np.zeros(40, np.float32)) == 0).all()


@pytest.mark.parametrize("name", ["Rec.709", "Rec.2020", "P3", "HLG", "PQ", "linear", "ACEScg", "ACEScct"])
def test_colours_have_inverses(name):
    if name.startswith("ACES"):
        pytest.importorskip("PyOpenColorIO")
    colour = plate_colour(name)
    picture = np.random.default_rng(0).uniform(0.02, 1, (500, 3)).astype(np.float32)
    values = colour.from_working(picture)
    assert np.abs(colour.to_working(values) - picture).max() < 2e-3
    assert colour.is_linear == (name in ("linear", "ACEScg"))


@pytest.mark.parametrize("transfer", ["hlg", "pq"])
def test_the_working_picture_of_hdr_is_that_of_the_reader(transfer):
    values = np.random.default_rng(0).integers(0, 65536, (16, 16, 3)).astype(np.uint16)
    read = hdr.convert(values, hdr.tables(transfer, "bt2020", 1000.0))
    found = of_display(transfer, "bt2020", 1000.0).to_working(values / np.float32(65535))
    assert np.abs(255 * np.clip(found, 0, 1) - read).max() < 0.51


def test_an_unknown_colour_names_the_nearest():
    pytest.importorskip("PyOpenColorIO")
    with pytest.raises(InputError, match="--plate-colour ACESgg: unknown; such as ACES"):
        plate_colour("ACESgg")
