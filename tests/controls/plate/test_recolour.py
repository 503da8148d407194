"""Plates in another colour: values against OpenColorIO's, and what else of a file stays."""

import numpy as np
import pytest

from gencompositor_jax.controls.media import exr, hdr
from gencompositor_jax.controls.media.exr import Exr
from gencompositor_jax.controls.plate.colour import LINEAR, OCIO_CONFIG, SRGB, conversion, plate_colour
from gencompositor_jax.controls.plate.pixels import ExrFrame, ImageFrame
from gencompositor_jax.controls.plate.recolour import in_colour, whole_of
from gencompositor_jax.errors import InputError

LIGHT = np.random.default_rng(0).gamma(1, 1, (500, 3)).astype(np.float32)  # a third of it above white
GREY = LIGHT[:, :1].repeat(3, axis=1)


def by_ocio(source: str, target: str, values: np.ndarray) -> np.ndarray:
    ocio = pytest.importorskip("PyOpenColorIO")
    config = ocio.Config.CreateFromBuiltinConfig(OCIO_CONFIG)
    out = np.array(values, np.float32)
    config.getProcessor(source, target).getDefaultCPUProcessor().applyRGB(out)
    return out


@pytest.mark.parametrize(
    ("name", "space", "nits", "light"),
    [
        ("sRGB", "sRGB Encoded Rec.709 (sRGB)", 100, LIGHT),
        ("Rec.709", "Rec.1886 Rec.709 - Display", 100, LIGHT),
        ("Rec.2020", "Rec.1886 Rec.2020 - Display", 100, LIGHT),
        ("PQ", "Rec.2100-PQ - Display", hdr.WHITE, LIGHT),
        # Of colours, OpenColorIO applies HLG's gamma to the luminance, `hdr` to each component.
        ("HLG", "Rec.2100-HLG - Display", hdr.WHITE, GREY),
        ("ACEScg", "ACEScg", 100, LIGHT),
        ("ACEScct", "ACEScct", 100, LIGHT),
    ],
)
def test_light_has_the_values_of_opencolorio(name, space, nits, light):
    """White is 1 there, and 100 cd/m2 of HDR displays; here white is 203 cd/m2."""
    expected = by_ocio("Linear Rec.709 (sRGB)", space, light * np.float32(nits / 100))
    colour = plate_colour(name)
    found = conversion(LINEAR, colour)(light)
    assert np.abs(found - expected).max() < 5e-5 * max(1, np.abs(expected).max())
    seen = found if colour.kind != "hdr" else np.clip(found, 0, 1.2)
    assert np.abs(conversion(colour, LINEAR)(seen) - light).max() < 2e-3 * light.max()


def test_reference_white_of_hdr():
    """ITU-R BT.2408: 203 cd/m2 are 58 % of PQ and 75 % of HLG."""
    white = np.ones((1, 3), np.float32)
    assert conversion(SRGB, plate_colour("PQ"))(white)[0] == pytest.approx([0.58] * 3, abs=2e-3)
    assert conversion(SRGB, plate_colour("HLG"))(white)[0] == pytest.approx([0.75] * 3, abs=2e-3)


@pytest.mark.parametrize("name", ["HLG", "PQ"])
def test_hdr_is_tone_mapped_to_sdr_as_it_is_for_viewing(name):
    values = np.random.default_rng(1).integers(0, 65536, (8, 8, 3)).astype(np.uint16)
    read = hdr.convert(values, hdr.tables(name.lower(), "bt2020", 1000.0))
    found = conversion(plate_colour(name), plate_colour("Rec.709"))(values / np.float32(65535))
    assert np.abs(255 * np.clip(found, 0, 1) - read).max() < 0.51
    light = conversion(plate_colour(name), LINEAR)(values / np.float32(65535))
    assert light.max() > 3  # which isn't


def test_encoded_images_become_light_with_premultiplied_alpha():
    pixels = np.random.default_rng(2).integers(0, 256, (6, 8, 4)).astype(np.uint8)
    frame, values = ImageFrame(pixels), whole_of(ImageFrame(pixels), (6, 8))
    light, clipped = in_colour(frame, values, conversion(SRGB, LINEAR), LINEAR)
    alpha = pixels[..., 3] / 255
    assert clipped == 0 and light.exr.dtype == np.float16 and light.exr.size == (8, 6)
    assert np.abs(light.exr.channels["A"] - alpha).max() < 2**-11
    expected = np.asarray(LINEAR.from_working(values)) * alpha[..., None]
    assert np.abs(light.rgb((slice(0, 6), slice(0, 8))) - expected).max() < 2**-11
    assert light.exr.header["chromaticities"][:2] == (0.64, 0.33)


def test_exr_keeps_all_but_its_colours(tmp_path):
    pytest.importorskip("OpenEXR")
    channels = {name: LIGHT[: 8 * 10, i].reshape(8, 10) for i, name in enumerate("RGB")}
    window, data = [(0, 0), (7, 5)], [(-1, -1), (8, 6)]
    header = {
        "displayWindow": tuple(np.array(window, np.int32)),
        "dataWindow": tuple(np.array(data, np.int32)),
        "owner": "me",
        "chromaticities": (0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329),
    }
    depth = np.arange(80, dtype=np.float32).reshape(8, 10)
    exr.write(tmp_path / "a.exr", channels | {"Z": depth}, header)
    frame, target = ExrFrame(exr.read(tmp_path / "a.exr")), plate_colour("ACEScg")
    made, _ = in_colour(frame, whole_of(frame, (6, 8)), conversion(LINEAR, target), target)
    exr.write(tmp_path / "b.exr", made.exr.channels, made.exr.header)
    found = exr.read(tmp_path / "b.exr")
    assert np.array_equal(found.channels["Z"], depth) and found.header["owner"] == "me"
    assert found.at == (-1, -1) and found.dtype == np.float32
    light = np.stack([channels[name] for name in "RGB"], axis=-1)
    expected = by_ocio("Linear Rec.709 (sRGB)", "ACEScg", light)
    assert np.abs(np.stack([found.channels[name] for name in "RGB"], -1) - expected).max() < 1e-5
    assert np.ravel(found.header["chromaticities"])[:2] == pytest.approx([0.713, 0.293])


def test_what_is_above_white_is_clipped_and_counted():
    light = ExrFrame(Exr({name: np.full((4, 4), 2, np.float16) for name in "RGB"}, {}, (4, 4), (0, 0)))
    light.exr.channels["G"][0] = 0.5
    light.exr.channels["R"][0] = light.exr.channels["B"][0] = 0.5
    found, clipped = in_colour(light, whole_of(light, (4, 4)), conversion(LINEAR, SRGB), SRGB)
    assert clipped == 12 and (found.pixels[1:] == 65535).all()
    assert found.pixels[0, 0] == pytest.approx([round(65535 * 0.7353570)] * 3, abs=2)


def test_an_unknown_colour_names_the_option():
    pytest.importorskip("PyOpenColorIO")
    with pytest.raises(InputError, match="--output-colour Rec709: unknown; such as"):
        plate_colour("Rec709", option="--output-colour")
