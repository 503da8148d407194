"""From a plate's own values to the working space and back, in floats that aren't clipped.

`sRGB`, `Rec.709`, `Rec.2020`, `P3`, `HLG`, `PQ` and `linear` (with BT.709's primaries, encoded by sRGB's
curve) are built in: the same conversions as in `media.hdr`, with inverses. All other names are colour spaces
of one version of OpenColorIO's ACES studio configuration (extra `colour`).
"""

import difflib
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gencompositor_jax.controls.media import hdr
from gencompositor_jax.controls.media.colour import Colour, Primaries, Transfer
from gencompositor_jax.errors import InputError
from gencompositor_jax.fields import shorten

OCIO_CONFIG = "studio-config-v2.2.0_aces-v1.3_ocio-v2.4"
OCIO_WORKING = "sRGB - Texture"
_SDR = 2.4  # the exponent of BT.1886
_PEAK = 1000.0  # cd/m2 of HDR whose peak isn't measured
_LEVELS = 4096
_LARGEST = 65504.0  # of half floats


class PlateColour(NamedTuple):
    """What the values of a plate mean."""

    name: str
    to_working: Callable[[np.ndarray], np.ndarray]  # float32 [..., 3] -> the same; 0..1 is what is displayed
    from_working: Callable[[np.ndarray], np.ndarray]
    is_linear: bool = False  # whether values are proportional to light


def _same(values: np.ndarray) -> np.ndarray:
    return values


SRGB = PlateColour("sRGB", _same, _same)


def plate_colour(name: str, peak: float = _PEAK) -> PlateColour:
    """The colour of a name; `peak`: cd/m2, of HLG and PQ. InputError for one that isn't known."""
    builtin: dict[str, Callable[[], PlateColour]] = {
        "srgb": lambda: SRGB,
        "rec.709": lambda: SRGB._replace(name="Rec.709"),
        "linear": lambda: LINEAR,
        "rec.2020": lambda: of_display("sdr", "bt2020", 0.0),
        "p3": lambda: of_display("sdr", "p3", 0.0),
        "hlg": lambda: of_display("hlg", "bt2020", peak),
        "pq": lambda: of_display("pq", "bt2020", peak),
    }
    if name.lower() in builtin:
        return builtin[name.lower()]()
    return _of_ocio(name)


def of_video(colour: Colour, peak: float) -> PlateColour:
    """The colour that the tags of a video state."""
    if colour.is_working_space:
        return SRGB._replace(name="Rec.709")
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

    def from_working(values: np.ndarray) -> np.ndarray:
        light = hdr.WHITE * (_light(values) @ from_709)
        light /= np.interp(light.max(axis=-1), mapped, gain)[..., None]
        encoded = hdr.light_to_pq(np.abs(light)) if transfer == "pq" else hdr.light_to_hlg(np.abs(light))
        return np.asarray(np.sign(light) * encoded, np.float32)

    return PlateColour(name, to_working, from_working)


def _light(values: np.ndarray) -> np.ndarray:
    """BT.1886 to linear light, float64; keeps the sign."""
    return np.asarray(np.sign(values) * np.abs(np.asarray(values, np.float64)) ** _SDR)


def _display(light: np.ndarray) -> np.ndarray:
    """The inverse of `_light`, float32."""
    return np.asarray(np.sign(light) * np.abs(light) ** (1 / _SDR), np.float32)


def _srgb_encoded(light: np.ndarray) -> np.ndarray:
    size = np.abs(light)
    encoded = np.where(size <= 0.0031308, 12.92 * size, 1.055 * size ** (1 / 2.4) - 0.055)
    return np.asarray(np.sign(light) * encoded, np.float32)


def _srgb_decoded(values: np.ndarray) -> np.ndarray:
    size = np.abs(values)
    light = np.where(size <= 0.04045, size / 12.92, ((size + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.sign(values) * light, np.float32)


LINEAR = PlateColour("linear", _srgb_encoded, _srgb_decoded, is_linear=True)


def _of_ocio(name: str) -> PlateColour:
    config = _ocio()
    found = config.getColorSpace(name)
    if found is None:
        known = ["sRGB", "Rec.709", "Rec.2020", "P3", "HLG", "PQ", "linear", *config.getColorSpaceNames()]
        near = difflib.get_close_matches(name, known, 3, 0.3) or known[:7]
        raise InputError(f"--plate-colour {shorten(name)}: unknown; such as {', '.join(near)}")
    linear = found.getEncoding() == "scene-linear"
    space = found.getName()
    return PlateColour(space, _processor(space, OCIO_WORKING), _processor(OCIO_WORKING, space), linear)


def _processor(source: str, target: str) -> Callable[[np.ndarray], np.ndarray]:
    made = _ocio().getProcessor(source, target).getDefaultCPUProcessor()

    def apply(values: np.ndarray) -> np.ndarray:
        out = np.array(values, np.float32, order="C")
        made.applyRGB(out)
        return np.nan_to_num(out, nan=0.0, posinf=_LARGEST, neginf=-_LARGEST)

    return apply


@functools.cache
def _ocio() -> Any:
    try:
        import PyOpenColorIO
    except ImportError as error:
        raise InputError(
            "--plate-colour: names other than sRGB, Rec.709, Rec.2020, P3, HLG, PQ and linear need "
            f"OpenColorIO ({error}): pip install 'gencompositor-jax[colour]'"
        ) from error
    try:
        return PyOpenColorIO.Config.CreateFromBuiltinConfig(OCIO_CONFIG)
    except PyOpenColorIO.Exception as error:
        raise InputError(
            f"--plate-colour: this OpenColorIO has no {OCIO_CONFIG}: install 2.4 or newer"
        ) from error
