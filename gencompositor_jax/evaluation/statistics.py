"""Means over clips and paired comparisons, with bootstrap intervals."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SAMPLES = 10_000  # bootstrap samples
LEVEL = 0.95


class Interval(NamedTuple):
    """A mean, and the bounds of its confidence interval; both None for a single value."""

    mean: float
    low: float | None
    high: float | None


def bootstrap(values: Sequence[float] | np.ndarray, seed: int = 0) -> Interval:
    """The mean of values over clips and its 95 % percentile bootstrap interval, clips drawn with replacement.

    NaN, of clips that lack the metric, is left out. Of differences between two methods on the same clips it
    is the paired bootstrap. The same values give the same interval.

    Raises ValueError if no value is left.
    """
    found = np.asarray(values, np.float64)
    found = found[~np.isnan(found)]
    if not len(found):
        raise ValueError("no clip has this metric")
    if len(found) == 1:
        return Interval(float(found[0]), None, None)
    draws = np.random.default_rng(seed).integers(len(found), size=(SAMPLES, len(found)))
    means = found[draws].mean(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(found.mean()), float(low), float(high))


def paired(ours: Sequence[float], theirs: Sequence[float], seed: int = 0) -> Interval:
    """`bootstrap` of ours - theirs, clip by clip."""
    return bootstrap(np.subtract(np.asarray(ours, np.float64), np.asarray(theirs, np.float64)), seed)


def crossed(values: np.ndarray, seed: int = 0) -> Interval:
    """The mean of values [seeds, clips] and its 95 % percentile bootstrap interval: seeds and clips are both
    drawn with replacement, every drawn seed on the same drawn clips.

    Columns of NaN, clips that lack the metric, are left out. Of differences between two methods it is paired
    by clip; by seed, too, if both have the same seeds. With one seed it is `bootstrap`.

    Raises ValueError if no value is left.
    """
    found = np.atleast_2d(np.asarray(values, np.float64))
    found = found[:, ~np.isnan(found).any(axis=0)]
    if not found.size:
        raise ValueError("no clip has this metric")
    if found.shape[1] == 1:
        return Interval(float(found.mean()), None, None)
    rng, (seeds, clips) = np.random.default_rng(seed), found.shape
    # How often each clip is drawn, and each seed: means are products with these counts.
    of_clips = rng.multinomial(clips, [1 / clips] * clips, size=SAMPLES) / clips
    of_seeds = rng.multinomial(seeds, [1 / seeds] * seeds, size=SAMPLES) / seeds
    means = np.einsum("ns,sc,nc->n", of_seeds, found, of_clips, optimize=True)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(found.mean()), float(low), float(high))
