"""The screen of a clip: a plain background, measured at the borders, and how much a pixel differs from it."""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from gencompositor_jax.controls.element.checkerboard import checkerboard
from gencompositor_jax.controls.media.frames import Frames
from gencompositor_jax.errors import InputError, within

_NAMED = {"white": (255, 255, 255), "green": (0, 255, 0), "blue": (0, 0, 255)}
_SAMPLED_FRAMES = 16  # frames of a clip from which its background is measured
_MIN_CHROMA = 30.0  # length in the Cb-Cr plane from which a colour is keyed by its hue
_MIN_AGREEMENT = 0.5  # fraction of the border pixels that must have one colour to be the background
_MIN_PRESENT = 0.2  # the same if the user named the colour
_SECOND = 0.15  # fraction of the border pixels from which a second colour may be the background
_FILLED = 0.95  # fraction of the top edge from which a colour fills it
_CBCR = np.array([[-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)  # ITU-R BT.601


@dataclasses.dataclass(frozen=True)
class Screen:
    """A plain background, measured in a clip, and the thresholds of the scores."""

    name: str  # "white" or the colour "#rrggbb" that was measured
    rgb: tuple[float, float, float]  # 0..255
    hue: bool  # keyed by hue (score 1: none of the screen's chroma), else by contrast (score in 8-bit levels)
    clear: float  # scores up to this are background
    firm: float  # scores above this are element
    solid: float  # scores from this on are opaque element


def measure_screen(frames: Frames, key: str, name: str) -> Screen:
    """Measure the background's colour and noise at the frame's borders.

    Args:
        frames: uint8 RGB [T, H, W, 3].
        key: "white", "green", "blue", "#RRGGBB", or "auto" for the colour of the borders.
        name: the clip's, for messages.

    Raises:
        InputError: the key is unknown, its colour isn't at the borders, or (auto) the borders don't have
            one colour that can be keyed. The message names the keys to try.
    """
    with within("key"):
        wanted = None if key == "auto" else parse_key(key)
    border = _border(frames).astype(np.float32)
    if wanted is None:
        wanted = _dominant(border)
        fraction = _near(border, wanted).mean()
        found = _hex(wanted)
        if (squares := checkerboard(frames[0])) is not None:
            light = min(min(colour) for colour in squares) >= 200
            remedy = "--key white, or a clip with alpha" if light else "a clip with alpha, or a mask (--mask)"
            raise InputError(
                f"{name}: no alpha, and the borders are a checkerboard of {_hex(squares[0])} and "
                f"{_hex(squares[1])}: its transparency was drawn as squares; pass {remedy}"
            )
        if (other := _second_screen(frames, border, wanted)) is not None:
            share = _near(border, other).mean()
            raise InputError(
                f"{name}: no alpha, and the borders have two colours, {found} ({fraction:.0%}) and "
                f"{_hex(other)} ({share:.0%}); name the background's: --key {_key_of(wanted)} or "
                f"{_key_of(other)}"
            )
        if fraction < _MIN_AGREEMENT:
            raise InputError(
                f"{name}: no alpha, and the borders don't have one colour ({fraction:.0%} are near {found}); "
                "name the key (--key white, green, blue or '#RRGGBB') or pass a mask clip (--mask)"
            )
        if _key_of(wanted) == "white":
            key = "white"
        elif _chroma(wanted) >= _MIN_CHROMA:
            key = found
        else:
            raise InputError(
                f"{name}: no alpha, and the borders are {found}, neither white nor a saturated colour; "
                f"if that is the background, pass --key '{found}', else a mask clip (--mask)"
            )
    if key == "white":
        at_border = (border.min(axis=-1) >= 200) & (np.ptp(border, axis=-1) <= 40)
    else:
        at_border = _near(border, wanted)
        if key in _NAMED:  # the name gives the hue; the colour is measured
            at_border = _same_hue(border, wanted)
    if at_border.mean() < _MIN_PRESENT:
        raise InputError(
            f"{name}: key {key} was tried, but only {at_border.mean():.0%} of the border pixels have it "
            f"(most are near {_hex(_dominant(border))}); pass another --key or a mask clip (--mask)"
        )
    rgb = np.median(border[at_border], axis=0)
    hue = key != "white" and _chroma(rgb) >= _MIN_CHROMA / 2
    screen = Screen(
        "white" if key == "white" else _hex(rgb),
        (float(rgb[0]), float(rgb[1]), float(rgb[2])),
        hue,
        0.0,
        0.0,
        0.0,
    )
    noise = float(np.percentile(score(border[at_border], screen), 98))
    if hue:
        clear = min(max(0.15, noise + 0.05), 0.4)
        return dataclasses.replace(screen, clear=clear, firm=clear + 0.15, solid=clear + 0.4)
    # Coding leaves blocks of up to 8 levels around an element even if the borders are perfectly flat.
    firm = 14 + 2 * noise
    return dataclasses.replace(screen, clear=6 + noise, firm=firm, solid=firm)


def parse_key(key: str) -> np.ndarray:
    """Colour of "white", "green", "blue" or "#RRGGBB", float32 RGB [3]; InputError for anything else."""
    if key in _NAMED:
        return np.array(_NAMED[key], np.float32)
    if re.fullmatch(r"#[0-9a-fA-F]{6}", key):
        return np.array([int(key[i : i + 2], 16) for i in (1, 3, 5)], np.float32)
    raise InputError(f"{key!r}: known are auto, alpha, white, green, blue and a colour '#RRGGBB'")


def score(pixels: np.ndarray, screen: Screen) -> np.ndarray:
    """The difference of each pixel from the screen, [..., 3] -> float32 [...], at least 0.

    By hue: 1 - (c . k/|k| - |c x k/|k||) / |k|, with c the pixel's chroma in the Cb-Cr plane and k the
    screen's. It is 1 for neutral pixels and for hues at least 45 degrees away, and linear in mixtures of them
    with the screen. By contrast: the largest difference over the channels, 0..255, linear in all mixtures.
    """
    colour = np.array(screen.rgb, np.float32)
    if not screen.hue:
        difference = np.abs(pixels.astype(np.float32) - colour)
        return np.maximum(np.maximum(difference[..., 0], difference[..., 1]), difference[..., 2])
    k = _CBCR @ colour
    length = float(np.hypot(*k))
    axes = np.stack([k, [-k[1], k[0]]]).astype(np.float32) / length @ _CBCR
    turned = pixels.astype(np.float32) @ axes.T
    return np.maximum(1 - (turned[..., 0] - np.abs(turned[..., 1])) / length, 0)


def _border(frames: Frames) -> np.ndarray:
    """Pixels of a thin ring at the frame's edge, uint8 [N, 3], of frames spread over the clip."""
    chosen = np.linspace(0, len(frames) - 1, min(_SAMPLED_FRAMES, len(frames))).astype(int)
    h, w = frames.shape[1:3]
    width = max(1, min(h, w) // 60)
    ring = np.ones((h, w), bool)
    ring[width : h - width, width : w - width] = False
    return np.concatenate([frames[int(t)][ring] for t in chosen])


def _second_screen(frames: Frames, border: np.ndarray, first: np.ndarray) -> np.ndarray | None:
    """A second plain colour at the borders, which may be the background as well; None if there is none.

    An element that covers most of the borders has the first colour. A background surrounds the element, so
    that a first colour which fills the top edge is one.
    """
    rest = border[~_near(border, first)]
    if len(rest) < _SECOND * len(border) or _near(_top(frames), first).mean() >= _FILLED:
        return None
    second = _dominant(rest)
    if _chroma(first) >= _MIN_CHROMA and _same_hue(second[None], first).all():
        return None  # uneven light
    near = np.count_nonzero(_near(rest, second))
    return second if near >= max(_SECOND * len(border), _MIN_AGREEMENT * len(rest)) else None


def _top(frames: Frames) -> np.ndarray:
    """Pixels of the top edge of frames spread over the clip."""
    chosen = np.linspace(0, len(frames) - 1, min(_SAMPLED_FRAMES, len(frames))).astype(int)
    rows = max(1, min(frames.shape[1:3]) // 60)
    return np.concatenate([frames[int(t)][:rows].reshape(-1, 3) for t in chosen]).astype(np.float32)


def _key_of(colour: np.ndarray) -> str:
    """The value of --key for a colour, quoted for a shell."""
    return "white" if colour.min() >= 215 and np.ptp(colour) <= 24 else f"'{_hex(colour)}'"


def _dominant(border: np.ndarray) -> np.ndarray:
    """The most frequent colour, float32 [3]: the median around the fullest bin of a coarse histogram."""
    cells = (border.astype(np.int32) // 16) @ np.array([256, 16, 1])
    centre = np.bincount(cells).argmax()
    middle = np.array([centre // 256, centre // 16 % 16, centre % 16]) * 16 + 8
    return np.median(border[_near(border, middle)], axis=0).astype(np.float32)


def _near(pixels: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return np.abs(pixels - colour).max(axis=-1) <= 40


def _same_hue(pixels: np.ndarray, colour: np.ndarray) -> np.ndarray:
    c, k = pixels @ _CBCR.T, _CBCR @ colour
    length = np.hypot(c[:, 0], c[:, 1])
    return (length >= _MIN_CHROMA / 2) & (c @ k >= 0.8 * length * np.hypot(*k))


def _chroma(colour: np.ndarray) -> float:
    return float(np.hypot(*(_CBCR @ np.asarray(colour, np.float32))))


def _hex(colour: np.ndarray | Sequence[float]) -> str:
    return "#" + "".join(f"{round(float(c)):02x}" for c in colour)
