"""Optional approximations that make sampling faster. They are decided on the host, once per clip, so that
one compiled program serves many clips.

drop-blank: foreground tokens that are white in every frame are dropped; the others keep their positions. The
number of kept tokens is rounded up to an eighth of the grid by keeping some blank ones, so a clip size needs
at most eight programs.

cache:N: the network runs on the first, every N-th and the last step. Between them its prediction is forecast
from the last two predictions. The fixed interval is that of FORA (arXiv 2407.01425), the first-order forecast
that of TaylorSeer (arXiv 2503.06923), here of the network's output only, so two latents are stored.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from gencompositor_jax.arch import ModelArch, VAEArch
from gencompositor_jax.errors import InputError

# Fractions of the foreground's tokens that may be kept: multiples of 1 / BUCKETS.
BUCKETS = 8
# Largest N of cache:N. Forecasts over longer intervals are useless.
MOST_CACHED = 10


@dataclasses.dataclass(frozen=True)
class Approximations:
    """What sampling approximates; the default is nothing. As text: drop-blank,cache:2."""

    drop_blank: bool = False
    cache: int = 1  # the network runs on every step whose index is a multiple of this

    def __str__(self) -> str:
        words = ["drop-blank"] * self.drop_blank + [f"cache:{self.cache}"] * (self.cache > 1)
        return ",".join(words)

    def check(self, steps: int) -> None:
        """Raises InputError if no step would be skipped."""
        if self.cache > 1 and computed_steps(steps, self.cache).all():
            raise InputError(f"fast={self}: a pass of {steps} steps has none to skip; pass more steps")


def parse(text: str | None, where: str = "fast") -> Approximations:
    """Parses `drop-blank`, `cache:N` (N from 2 to 10) or both, separated by a comma. None is neither.

    Raises InputError for any other text; the message names `where` it comes from.
    """
    if text is None:
        return Approximations()
    found: dict[str, int] = {}
    for word in text.split(","):
        name, _, number = word.strip().partition(":")
        known = (name == "drop-blank" and word.strip() == name) or (
            name == "cache" and number.isdecimal() and len(number) < 3 and 2 <= int(number) <= MOST_CACHED
        )
        if not known or name in found:
            raise InputError(
                f"{where}: {text!r}; pass drop-blank, cache:N with N from 2 to {MOST_CACHED}, "
                "or both separated by a comma"
            )
        found[name] = int(number or 1)
    return Approximations("drop-blank" in found, found.get("cache", 1))


def computed_steps(steps: int, every: int) -> Bool[np.ndarray, " {steps}"]:
    """Steps on which the network runs. The last one always does: its prediction is the result."""
    computed = np.arange(steps) % every == 0
    computed[-1] = True
    return computed


def shown_cells(
    foregrounds: Sequence[Float[np.ndarray, "T H W 3"]] | Float[np.ndarray, "B T H W 3"], arch: ModelArch
) -> Bool[np.ndarray, "rows columns"]:
    """The cells of the token grid in which some foreground isn't white in some frame.

    foregrounds: in [-1, 1], 1 is white, of the clips that are sampled together.
    """
    _, rows, columns = arch.token_grid
    cell = arch.codec.space_factor * arch.backbone.patch
    marked = (np.asarray(foregrounds) < 1).any(axis=(0, 1, -1))
    return np.asarray(marked.reshape(rows, cell, columns, cell).any(axis=(1, 3)))


def kept_tokens(
    foregrounds: Sequence[Float[np.ndarray, "T H W 3"]] | Float[np.ndarray, "B T H W 3"], arch: ModelArch
) -> Int[np.ndarray, " F"] | None:
    """Ascending int32 indices of the foreground tokens to keep; None for all of them.

    A cell of the token grid is kept for all frames or dropped for all; foregrounds: see `shown_cells`.
    """
    return tokens_of(shown_cells(foregrounds, arch), arch)


def tokens_of(shown: Bool[np.ndarray, "rows columns"], arch: ModelArch) -> Int[np.ndarray, " F"] | None:
    """`kept_tokens` for cells of `shown_cells`.

    A VAE's receptive field exceeds a latent's own pixels, so the neighbours of a cell that isn't blank are
    kept, too. Raises InputError for an architecture without foreground tokens.
    """
    if arch.fusion == "channels":
        raise InputError("fast=drop-blank: this checkpoint's network has no foreground tokens; leave it out")
    if isinstance(arch.codec, VAEArch):
        shown = _grown(shown)
    count, cells = int(shown.sum()), shown.size
    eighths = max(1, -(-count * BUCKETS // cells))
    size = -(-cells * eighths // BUCKETS)
    if size >= cells:
        return None
    blank = np.flatnonzero(~shown)
    filling = blank[np.arange(size - count) * len(blank) // max(1, size - count)]
    chosen = np.sort(np.concatenate([np.flatnonzero(shown), filling]))
    return (np.arange(arch.token_grid[0])[:, None] * cells + chosen).reshape(-1).astype(np.int32)


def _grown(shown: Bool[np.ndarray, "rows columns"]) -> Bool[np.ndarray, "rows columns"]:
    """`shown` and the eight neighbours of each of its cells."""
    rows, columns = shown.shape
    padded = np.pad(shown, 1)
    views = [padded[i : i + rows, j : j + columns] for i in range(3) for j in range(3)]
    return np.any(views, axis=0)
