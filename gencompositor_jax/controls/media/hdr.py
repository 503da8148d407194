"""From HDR and wide gamut to the working space, whose values a BT.1886 display shows with BT.709's primaries.

Light is linear and relative to reference white, 203 cd/m2 (ITU-R BT.2408), which becomes the SDR white.

    (1)  PQ:   F = 10000 (max(V^(1/m2) - c1, 0) / (c2 - c3 V^(1/m2)))^(1/m1)      BT.2100, table 4
    (2)  HLG:  E = V^2 / 3 for V <= 1/2, else (exp((V - c) / a) + b) / 12         BT.2100, table 5
               F = 1000 E^1.2
    (3)  tone mapping: the Hermite spline of BT.2390, 5.4.1, between PQ values
    (4)  SDR:  V = F^(1/2.4)                                                      BT.1886

BT.2100 applies HLG's gamma of 1.2 to the luminance; here it is applied to each component, as the gamma of an
SDR system is, so that SDR pictures that were converted to HLG component by component come back unchanged.
(3) is applied to the largest component and scales the others with it, which keeps the hue.
"""

import functools
from typing import NamedTuple

import cv2
import numpy as np

from gencompositor_jax.controls.media.colour import Primaries, Transfer

WHITE = 203.0  # cd/m2
_LEVELS = 65536  # of 16-bit values
_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 4096 * 128, 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_A = 0.17883277
_B, _C = 1 - 4 * _A, 0.5 - _A * np.log(4 * _A)
# CIE 1931 (x, y) of red, green and blue, with the white D65
CHROMATICITIES: dict[Primaries, tuple[tuple[float, float], ...]] = {
    "bt709": ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    "bt2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    "p3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
D65 = (0.3127, 0.3290)
_STRIP = 1 << 18  # pixels converted at once: they stay in the processor's cache


def pq_to_light(values: np.ndarray) -> np.ndarray:
    """(1): values 0..1 to cd/m2."""
    root = np.asarray(values, np.float64) ** (1 / _M2)
    return 10000 * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1)


def light_to_pq(light: np.ndarray) -> np.ndarray:
    """The inverse of (1): cd/m2 to 0..1."""
    power = (np.asarray(light, np.float64) / 10000) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


def hlg_to_light(values: np.ndarray) -> np.ndarray:
    """(2): values 0..1 to cd/m2 on a display of 1000 cd/m2."""
    values = np.asarray(values, np.float64)
    scene = np.where(values <= 0.5, values**2 / 3, (np.exp((values - _C) / _A) + _B) / 12)
    return 1000 * scene**1.2


def light_to_hlg(light: np.ndarray) -> np.ndarray:
    """The inverse of (2): cd/m2 to 0..1."""
    scene = (np.asarray(light, np.float64) / 1000) ** (1 / 1.2)
    bright = _A * np.log(np.maximum(12 * scene - _B, 1e-9)) + _C
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), bright)


def roll_off(light: np.ndarray, peak: float) -> np.ndarray:
    """(3): light up to `peak` to light up to `WHITE`, in cd/m2; unchanged if the peak isn't above it.

    With e the PQ value relative to the peak's, m that of white and k = 1.5 m - 0.5, values below k are kept.
    """
    if peak <= WHITE:
        return np.minimum(light, WHITE)
    top = light_to_pq(np.array(peak))
    m = float(light_to_pq(np.array(WHITE)) / top)
    k = 1.5 * m - 0.5
    e = np.minimum(light_to_pq(light) / top, 1)
    t = np.maximum(e - k, 0) / (1 - k)
    spline = (2 * t**3 - 3 * t**2 + 1) * k + (t**3 - 2 * t**2 + t) * (1 - k) + (3 * t**2 - 2 * t**3) * m
    return np.asarray(pq_to_light(np.where(e < k, e, spline) * top))


def to_bt709(primaries: Primaries) -> np.ndarray:
    """[3, 3]: linear light with these primaries to BT.709's, both with the white D65."""
    return np.linalg.inv(_to_xyz("bt709")) @ _to_xyz(primaries)


class Tables(NamedTuple):
    """`convert` by tables: one entry for each 16-bit value."""

    light: np.ndarray  # float32 [65536]: of a component, 1 is reference white
    gain: np.ndarray | None  # float32 [65536]: of (3), by the largest component; None without tone mapping
    matrix: np.ndarray  # float32 [3, 3]
    encoded: np.ndarray  # uint8 [65536]: of the square root of light, so that dark values are apart


@functools.lru_cache(maxsize=8)
def tables(transfer: Transfer, primaries: Primaries, peak: float) -> Tables:
    """The tables of a colour; `peak`: cd/m2, the brightest that is to be distinguished (HDR only)."""
    values = np.arange(_LEVELS) / (_LEVELS - 1)
    gain = None
    if transfer == "sdr":
        light = values**2.4
    else:
        nits = pq_to_light(values) if transfer == "pq" else hlg_to_light(values)
        light = nits / WHITE
        gain = np.ones(_LEVELS)
        np.divide(roll_off(nits, peak), nits, out=gain, where=nits > 0)
        gain = gain.astype(np.float32)
    encoded = np.rint(255 * values ** (2 / 2.4)).astype(np.uint8)
    return Tables(light.astype(np.float32), gain, to_bt709(primaries).astype(np.float32), encoded)


def convert(values: np.ndarray, to: Tables) -> np.ndarray:
    """R'G'B' or R'G'B'A, uint16 [H, W, 3 or 4], to the working space: uint8 of that shape.

    Components beyond BT.709's gamut, or brighter than white, are clipped.
    """
    out: np.ndarray = np.empty(values.shape, np.uint8)
    rows = max(1, _STRIP // values.shape[1])
    for top in range(0, len(values), rows):
        part = values[top : top + rows]
        light = to.light[part[..., :3]]
        if to.gain is not None:
            light *= to.gain[part[..., :3].max(axis=-1)][..., None]
        light = np.clip(cv2.transform(light, to.matrix), 0, 1, out=light)
        root = np.sqrt(light, out=light)
        out[top : top + rows, ..., :3] = to.encoded[(root * (_LEVELS - 1) + 0.5).astype(np.uint16)]
        if values.shape[-1] == 4:
            out[top : top + rows, ..., 3] = (part[..., 3].astype(np.uint32) + 128) // 257
    return out


def peak_of(values: np.ndarray, transfer: Transfer) -> float:
    """The brightest light of a picture in cd/m2, of uint16 R'G'B' [H, W, 3], without single pixels."""
    brightest = np.percentile(values.max(axis=-1), 99.95) / (_LEVELS - 1)
    return float((pq_to_light if transfer == "pq" else hlg_to_light)(brightest))


def _to_xyz(primaries: Primaries) -> np.ndarray:
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in CHROMATICITIES[primaries]]).T
    x, y = D65
    return columns * np.linalg.solve(columns, np.array([x / y, 1, (1 - x - y) / y]))
