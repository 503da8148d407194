"""Approximations that make sampling faster, for those who ask for them. What to skip is decided here, on the
host and once per clip, so that compiled programs serve one clip after the other.

drop-blank: foreground tokens that are white through the whole clip are left out of the network. Those that
stay keep their positions. Their number is rounded up to eighths of the grid (filled up with blank ones), so
that at most eight programs exist for a clip size.

cache:N: the network runs on every N-th step, on the first and on the last; in between its prediction is
forecast from the last two. A fixed interval as in FORA (arXiv 2407.01425), forecasting to first order as in
TaylorSeer (arXiv 2503.06923), of the network's output alone, so that two latents are all that is kept.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from gencompositor_jax.arch import ModelArch, VAEArch
from gencompositor_jax.errors import InputError

BUCKETS = 8  # lengths that the foreground may have, as parts of the whole
MOST_CACHED = 10  # steps; a forecast over more has nothing to do with the network


@dataclasses.dataclass(frozen=True)
class Approximations:
    """What sampling approximates; the default is nothing. As text: drop-blank,cache:2."""

    drop_blank: bool = False
    cache: int = 1  # the network runs on every so-many-th step

    def __str__(self) -> str:
        words = ["drop-blank"] * self.drop_blank + [f"cache:{self.cache}"] * (self.cache > 1)
        return ",".join(words)

    def check(self, steps: int) -> None:
        """Raises InputError where a pass of so many steps has none to skip."""
        if self.cache > 1 and computed_steps(steps, self.cache).all():
            raise InputError(f"fast={self}: a pass of {steps} steps has none to skip; take more steps")


def parse(text: str | None, where: str = "fast") -> Approximations:
    """Reads `drop-blank`, `cache:N` (N from 2 to 10) or both, separated by a comma; None is none.

    Raises InputError for anything else.
    """
    if text is None:
        return Approximations()
    found: dict[str, int] = {}
    for word in text.split(","):
        name, _, number = word.strip().partition(":")
        known = (name == "drop-blank" and word.strip() == name) or (
            name == "cache" and number.isdecimal() and 2 <= int(number) <= MOST_CACHED
        )
        if not known or name in found:
            raise InputError(
                f"{where}: {text!r}; pass drop-blank, cache:N with N from 2 to {MOST_CACHED}, "
                "or both with a comma between them"
            )
        found[name] = int(number or 1)
    return Approximations("drop-blank" in found, found.get("cache", 1))


def computed_steps(steps: int, every: int) -> np.ndarray:
    """bool [steps]: where the network runs. The last prediction is never forecast: it is the result."""
    computed = np.arange(steps) % every == 0
    computed[-1] = True
    return computed


def kept_tokens(foregrounds: Sequence[np.ndarray] | np.ndarray, arch: ModelArch) -> np.ndarray | None:
    """Which foreground tokens the network should be given: int32 [F], ascending. None: all of them.

    foregrounds: [B, T, H, W, 3] in [-1, 1], 1 being white, of the clips that are sampled together. A cell of
    the token grid is kept for all frames or for none. A VAE's latents see some way beyond their own pixels:
    cells next to one that isn't blank are kept, too.
    """
    t, rows, columns = arch.token_grid
    cell = arch.codec.space_factor * arch.backbone.patch
    marked = (np.asarray(foregrounds) < 1).any(axis=(0, 1, -1))
    shown = np.asarray(marked.reshape(rows, cell, columns, cell).any(axis=(1, 3)))
    if isinstance(arch.codec, VAEArch):
        shown = _grown(shown)
    count, cells = int(shown.sum()), shown.size
    eighths = max(1, -(-count * BUCKETS // cells))
    size = -(-cells * eighths // BUCKETS)
    if size >= cells:
        return None
    blank = np.flatnonzero(~shown)
    filling = blank[np.arange(size - count) * len(blank) // max(1, size - count)]  # evenly spread
    chosen = np.sort(np.concatenate([np.flatnonzero(shown), filling]))
    return (np.arange(t)[:, None] * cells + chosen).reshape(-1).astype(np.int32)


def _grown(shown: np.ndarray) -> np.ndarray:
    """bool [rows, columns] with the eight neighbours of every True."""
    rows, columns = shown.shape
    padded = np.pad(shown, 1)
    views = [padded[i : i + rows, j : j + columns] for i in range(3) for j in range(3)]
    return np.any(views, axis=0)
