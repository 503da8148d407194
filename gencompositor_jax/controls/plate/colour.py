"""From a plate's own values to the working space and back, in floats that aren't clipped.

`sRGB`, `Rec.709`, `Rec.2020`, `P3`, `HLG`, `PQ` and `linear` (with BT.709's primaries, encoded by sRGB's
curve) are built in: the same conversions as in `media.hdr`, with inverses. All other names are colour spaces
of one version of OpenColorIO's ACES studio configuration (extra `colour`).

Light is what two colours have in common: linear, with BT.709's primaries, 1 is white (203 cd/m2 of HDR).
sRGB's curve leads to it from `sRGB`, an exponent of 2.4 (BT.1886) from `Rec.709`, `Rec.2020` and `P3`.
"""

import difflib
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from gencompositor_jax.controls.media import hdr
from gencompositor_jax.controls.media.colour import Colour, Primaries, Tags, Transfer
from gencompositor_jax.errors import InputError
from gencompositor_jax.fields import shorten

OCIO_CONFIG = "studio-config-v2.2.0_aces-v1.3_ocio-v2.4"
OCIO_WORKING = "sRGB - Texture"
OCIO_LIGHT = "Linear Rec.709 (sRGB)"
# H.273's numbers of the colours of videos.
TAGS = {
    "sRGB": Tags(1, 13, 1),
    "Rec.709": Tags(1, 1, 1),
    "Rec.2020": Tags(9, 14, 9),
    "P3": Tags(1, 1, 12),
    "HLG": Tags(9, 18, 9),
    "PQ": Tags(9, 16, 9),
    "sRGB - Display": Tags(1, 13, 1),
    "Rec.1886 Rec.709 - Display": Tags(1, 1, 1),
    "Rec.1886 Rec.2020 - Display": Tags(9, 14, 9),
    "Rec.2100-HLG - Display": Tags(9, 18, 9),
    "Rec.2100-PQ - Display": Tags(9, 16, 9),
    "ST2084-P3-D65 - Display": Tags(9, 16, 12),
}
_UNTAGGED = Tags(1, 2, 2)  # of other colours: FFmpeg needs a matrix
_SDR = 2.4  # the exponent of BT.1886
_PEAK = 1000.0  # cd/m2 of HDR whose peak isn't measured
_LEVELS = 4096
_LARGEST = 65504.0  # of half floats
_STRIP = 1 << 20  # pixels converted at once

Convert = Callable[[np.ndarray], np.ndarray]  # float32 [..., 3] -> the same


class PlateColour(NamedTuple):
    """What the values of a plate mean."""

    name: str
    to_working: Convert  # 0..1 is what is displayed
    from_working: Convert
    to_light: Convert
    from_light: Convert
    # sdr: has no light above white. hdr: is tone-mapped to the working space. scene: all others.
    kind: Literal["scene", "sdr", "hdr"] = "sdr"
    is_linear: bool = False  # whether values are proportional to light

    @property
    def tags(self) -> Tags:
        """Of videos with these values."""
        return TAGS.get(self.name, _UNTAGGED)


def plate_colour(name: str, peak: float = _PEAK, option: str = "--plate-colour") -> PlateColour:
    """The colour of a name; `peak`: cd/m2, of HLG and PQ. InputError for one that isn't known, naming the
    option.
    """
    builtin: dict[str, Callable[[], PlateColour]] = {
        "srgb": lambda: SRGB,
        "rec.709": lambda: REC709,
        "linear": lambda: LINEAR,
        "rec.2020": lambda: of_display("sdr", "bt2020", 0.0),
        "p3": lambda: of_display("sdr", "p3", 0.0),
        "hlg": lambda: of_display("hlg", "bt2020", peak),
        "pq": lambda: of_display("pq", "bt2020", peak),
    }
    if name.lower() in builtin:
        return builtin[name.lower()]()
    return _of_ocio(name, option)


def conversion(source: PlateColour, target: PlateColour) -> Convert:
    """Values of one colour as those of another, not clipped.

    HDR is tone-mapped to colours of SDR displays, as it is to the working space; white is white elsewhere.
    """
    maps = source.kind == "hdr" and target.kind == "sdr"

    def convert(values: np.ndarray) -> np.ndarray:
        flat = np.ascontiguousarray(values, np.float32).reshape(-1, 3)
        out = np.empty_like(flat)
        for first in range(0, len(flat), _STRIP):
            part = slice(first, first + _STRIP)
            light = REC709.to_light(source.to_working(flat[part])) if maps else source.to_light(flat[part])
            out[part] = target.from_light(light)
        return out.reshape(values.shape)

    return convert


def of_video(colour: Colour, peak: float) -> PlateColour:
    """The colour that the tags of a video state."""
    if colour.is_working_space:
        return REC709
    return of_display(colour.transfer, colour.primaries, peak)


@functools.lru_cache(maxsize=8)
def of_display(transfer: Transfer, primaries: Primaries, peak: float) -> PlateColour:
    """Display-referred values with a transfer function and primaries."""
    to_709, from_709 = hdr.to_bt709(primaries).T, np.linalg.inv(hdr.to_bt709(primaries)).T
    name = {"sdr": {"bt709": "Rec.709", "bt2020": "Rec.2020", "p3": "P3"}[primaries]}.get(
        transfer, transfer.upper()
    )
    if transfer == "sdr":
        return PlateColour(
            name,
            lambda values: _display(_light(values) @ to_709),
            lambda values: _display(_light(values) @ from_709),
            lambda values: _float(_light(values) @ to_709),
            lambda light: _display(np.asarray(light, np.float64) @ from_709),
        )
    decode = hdr.pq_to_light if transfer == "pq" else hdr.hlg_to_light
    # Tone mapping by the largest component, as factors of light: by light, and by mapped light.
    nits = decode(np.linspace(0, 1, _LEVELS))
    nits = np.append(nits[nits < peak], peak) if peak > hdr.WHITE else np.array([0.0, hdr.WHITE])
    mapped = hdr.roll_off(nits, peak)
    gain = np.ones_like(nits)
    np.divide(mapped, nits, out=gain, where=nits > 0)

    def to_working(values: np.ndarray) -> np.ndarray:
        light = decode(np.clip(values, 0, 1.2))
        largest = light.max(axis=-1)
        mapping = np.where(
            largest > nits[-1], hdr.WHITE / np.maximum(largest, 1), np.interp(largest, nits, gain)
        )
        return _display(light * (mapping / hdr.WHITE)[..., None] @ to_709)

    def encoded(light: np.ndarray) -> np.ndarray:
        size = np.abs(light)
        return _float(
            np.sign(light) * (hdr.light_to_pq(size) if transfer == "pq" else hdr.light_to_hlg(size))
        )

    def from_working(values: np.ndarray) -> np.ndarray:
        light = hdr.WHITE * (_light(values) @ from_709)
        return encoded(light / np.interp(light.max(axis=-1), mapped, gain)[..., None])

    def to_light(values: np.ndarray) -> np.ndarray:
        return _float(decode(np.clip(values, 0, 1.2)) @ to_709 / hdr.WHITE)

    def from_light(light: np.ndarray) -> np.ndarray:
        return encoded(hdr.WHITE * np.asarray(light, np.float64) @ from_709)

    return PlateColour(name, to_working, from_working, to_light, from_light, "hdr")


def _same(values: np.ndarray) -> np.ndarray:
    return values


def _float(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float32)


def _light(values: np.ndarray) -> np.ndarray:
    """BT.1886 to linear light, float64; keeps the sign."""
    return np.asarray(np.sign(values) * np.abs(np.asarray(values, np.float64)) ** _SDR)


def _display(light: np.ndarray) -> np.ndarray:
    """The inverse of `_light`, float32."""
    return _float(np.sign(light) * np.abs(light) ** (1 / _SDR))


def _srgb_encoded(light: np.ndarray) -> np.ndarray:
    size = np.abs(light)
    encoded = np.where(size <= 0.0031308, 12.92 * size, 1.055 * size ** (1 / 2.4) - 0.055)
    return _float(np.sign(light) * encoded)


def _srgb_decoded(values: np.ndarray) -> np.ndarray:
    size = np.abs(values)
    light = np.where(size <= 0.04045, size / 12.92, ((size + 0.055) / 1.055) ** 2.4)
    return _float(np.sign(values) * light)


SRGB = PlateColour("sRGB", _same, _same, _srgb_decoded, _srgb_encoded)
REC709 = PlateColour("Rec.709", _same, _same, lambda values: _float(_light(values)), _display)
LINEAR = PlateColour("linear", _srgb_encoded, _srgb_decoded, _same, _same, "scene", is_linear=True)


def _of_ocio(name: str, option: str) -> PlateColour:
    config = _ocio(option)
    found = config.getColorSpace(name)
    if found is None:
        known = ["sRGB", "Rec.709", "Rec.2020", "P3", "HLG", "PQ", "linear", *config.getColorSpaceNames()]
        near = difflib.get_close_matches(name, known, 3, 0.3) or known[:7]
        raise InputError(f"{option} {shorten(name)}: unknown; such as {', '.join(near)}")
    space, encoding = found.getName(), found.getEncoding()
    kind: Any = "sdr" if encoding == "sdr-video" else "scene"
    return PlateColour(
        space,
        _processor(config, space, OCIO_WORKING),
        _processor(config, OCIO_WORKING, space),
        _processor(config, space, OCIO_LIGHT),
        _processor(config, OCIO_LIGHT, space),
        kind,
        is_linear=encoding == "scene-linear",
    )


def _processor(config: Any, source: str, target: str) -> Convert:
    made = config.getProcessor(source, target).getDefaultCPUProcessor()

    def apply(values: np.ndarray) -> np.ndarray:
        out = np.array(values, np.float32, order="C")
        made.applyRGB(out)
        return np.nan_to_num(out, nan=0.0, posinf=_LARGEST, neginf=-_LARGEST)

    return apply


@functools.cache
def _ocio(option: str) -> Any:
    try:
        import PyOpenColorIO
    except ImportError as error:
        raise InputError(
            f"{option}: names other than sRGB, Rec.709, Rec.2020, P3, HLG, PQ and linear need "
            f"OpenColorIO ({error}): pip install 'gencompositor-jax[colour]'"
        ) from error
    try:
        return PyOpenColorIO.Config.CreateFromBuiltinConfig(OCIO_CONFIG)
    except PyOpenColorIO.Exception as error:
        raise InputError(f"{option}: this OpenColorIO has no {OCIO_CONFIG}: install 2.4 or newer") from error
