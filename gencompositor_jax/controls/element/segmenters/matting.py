"""Alpha and colours at the edges of a mask: closed-form matting and foreground estimation, by pymatting.

Levin, Lischinski and Weiss, A closed-form solution to natural image matting, PAMI 30 (2008): with L the
matting Laplacian of a picture, alpha minimises

    (1)  a' L a + g sum (a - p)^2

over the pixels that are neither certainly inside nor certainly outside, where p is the mask's own value.
"""

import threading

import cv2
import numpy as np

from gencompositor_jax.errors import InputError

PIXELS = 1_000_000  # of a part that is solved at its own size: 400 bytes of each are in memory
PRIOR = 1e-2  # g of (1)
_SHARP = 8 / 255  # alpha this close to 0 or 1 is rounded to it, as that of clips is
_one_at_a_time = threading.Lock()  # numba's default threads can't be shared


def check_installed() -> None:
    """Raises InputError with the remedy where pymatting is missing."""
    try:
        import pymatting  # noqa: F401
    except ImportError as error:
        raise InputError(
            "segment: the edges of an element need pymatting, which isn't installed: "
            "pip install 'gencompositor-jax[matting]'"
        ) from error


def matte(frame: np.ndarray, probability: np.ndarray, reach: float) -> np.ndarray:
    """A frame's element with soft edges: uint8 RGB [H, W, 3] -> straight-alpha RGBA [H, W, 4].

    probability: float32 [H, W], 0..1, that a pixel is of the element. reach: pixels on both sides of its
    outline within which the edge may be.
    """
    out = np.dstack([frame, np.zeros(frame.shape[:2], np.uint8)])
    inside = (probability >= 0.5).view(np.uint8)
    if not inside.any():
        return out
    radius = max(2, round(reach))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    outer, inner = cv2.dilate(inside, disc), cv2.erode(inside, disc)
    x, y, w, h = cv2.boundingRect(outer)
    left, top = max(0, x - 4), max(0, y - 4)
    box = np.s_[top : y + h + 4, left : x + w + 4]
    out[box] = _solved(frame[box], probability[box], outer[box] > 0, inner[box] > 0)
    return out


def _solved(frame: np.ndarray, prior: np.ndarray, outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    from pymatting import estimate_foreground_ml

    height, width = prior.shape
    scale = min(1.0, (PIXELS / prior.size) ** 0.5)
    if scale < 1:
        small = max(3, round(width * scale)), max(3, round(height * scale))
        reduced = [
            cv2.resize(x.astype(kind), small, interpolation=cv2.INTER_AREA)
            for x, kind in ((frame, np.uint8), (prior, np.float32), (outer, np.float32), (inner, np.float32))
        ]
        alpha = _alpha(reduced[0], reduced[1], reduced[2] > 0, reduced[3] >= 1)
        alpha = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    else:
        alpha = _alpha(frame, prior, outer, inner)
    alpha = np.where(alpha < _SHARP, 0, np.where(alpha > 1 - _SHARP, 1, alpha))
    with _one_at_a_time:
        colours = estimate_foreground_ml(frame / 255.0, alpha.astype(np.float64))
    colours = np.where(alpha[..., None] < 1, np.rint(255 * colours.clip(0, 1)), frame)
    return np.dstack([colours, np.rint(255 * alpha)]).astype(np.uint8)


def _alpha(frame: np.ndarray, prior: np.ndarray, outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """(1) by conjugate gradients over the pixels between `inner` and `outer`: float32 [H, W]."""
    import scipy.sparse
    from pymatting import cf_laplacian, cg, ichol

    known = ~outer | inner
    alpha = inner.astype(np.float64).ravel()
    unknown = np.flatnonzero(~known)
    if len(unknown):
        with _one_at_a_time:
            rows = cf_laplacian(frame / 255.0, epsilon=1e-5, is_known=known)[unknown]
            g = scipy.sparse.identity(len(unknown)) * PRIOR
            system = (rows[:, unknown] + g).tocsc()
            right = PRIOR * prior.ravel()[unknown].astype(np.float64) - rows @ alpha
            alpha[unknown] = cg(system, right, M=ichol(system), rtol=1e-5, maxiter=500)
    return alpha.clip(0, 1).reshape(prior.shape).astype(np.float32)
