"""A long clip as overlapping windows of latent frames: pure functions.

A network that was trained for `size` latent frames evaluates the windows one by one. Their predictions p_w of
a latent frame j are cross-faded into one, at every step of the solver (MultiDiffusion, arXiv 2302.08113):

    (1)  p(j) = sum over windows w of c_w(j) p_w(j),        sum over w of c_w(j) = 1

The solver then advances the whole clip. Noise is drawn by the clip's own latent frames, so windows see the
same latents and the same noise where they overlap.
"""

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

OVERLAP = 1 / 3  # least overlap of two windows, as a fraction of a window


def window_starts(total: int, size: int) -> tuple[int, ...]:
    """First latent frames of the windows over `total` latent frames, ascending: from 0 to total - size.

    As few as overlap by at least `OVERLAP`, and by one latent frame, spread evenly. A clip of up to `size`
    latent frames has one.
    """
    if total <= size:
        return (0,)
    step = max(1, size - max(1, round(OVERLAP * size)))
    count = -(-(total - size) // step) + 1
    return tuple(int(start) for start in np.linspace(0, total - size, count).round())


def cross_fade(starts: tuple[int, ...], size: int, total: int) -> Float[np.ndarray, "W size"]:
    """The weights c_w of (1), float32: linear ramps over the overlap with the windows before and after.

    Every window has a weight above 0 in all of its latent frames.
    """
    at = np.arange(size)
    ramps = np.ones((len(starts), size))
    for w, start in enumerate(starts):
        if w > 0:
            ramps[w] = np.minimum(ramps[w], (at + 1) / (starts[w - 1] + size - start + 1))
        if w < len(starts) - 1:
            ramps[w] = np.minimum(ramps[w], (size - at) / (start + size - starts[w + 1] + 1))
    summed = np.zeros(total)
    for start, ramp in zip(starts, ramps, strict=True):
        summed[start : start + size] += ramp
    shares = [ramp / summed[start : start + size] for start, ramp in zip(starts, ramps, strict=True)]
    return np.stack(shares).astype(np.float32)


def block_key(key: PRNGKeyArray, block: int | jax.Array) -> PRNGKeyArray:
    """The key of a block of `size` latent frames, counted from the clip's start: the noise of a latent frame
    is a function of its index. The first block has the clip's own key, as a clip of one window.
    """
    return jax.numpy.where(block == 0, key, jax.random.fold_in(key, block))
