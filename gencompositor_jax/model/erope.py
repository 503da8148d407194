"""ERoPE, extended rotary position embedding (paper, section 4.4): positions of video and foreground tokens,
and the tables computed from them.

The foreground is not aligned with the video, so its tokens must not share the video's rotary positions. ERoPE
shifts them along one axis by the grid's extent (paper, equation 8):

    (1)  theta_video = omega p,        theta_foreground = omega (p + Delta)

p = (t, row, column) is a token's position and Delta = (0, rows, 0) for the layout `height`, (0, 0, columns)
for `width`, (T, 0, 0) for `time`; the ablation `shared` has Delta = 0. The paper uses `height` and finds the
three equivalent (appendix F).

The layout `trajectory` is an extension. The foreground is drawn a whole number of tokens (dy, dx) away from
its place in the target, one pair per latent frame and clip, and its tokens have the positions of that place,
shifted as in `height`:

    (1a)  theta_foreground = omega (p + (0, dy, dx) + Delta),   Delta = (0, rows, 0)

An element's token in the target and the one in the foreground then differ by Delta, whatever the trajectory.

The released checkpoint builds its table for a grid of T x 2 rows x columns and applies it row by row to
[video, foreground]. With F = t for the video and F = T + t for the foreground, a token's position is

    (2)  t' = F // 2,   row' = row + (F mod 2) rows,   column' = column

This is the layout `released`. It differs from (1), positions are still unique, and the released weights need
it.

Angles (released checkpoint): d/4 of a head of size d rotates by t, 3d/8 by the row and 3d/8 by the column,
each part of size s with the frequencies

    (3)  omega_k = 10000^(-2k/s),   k = 0 .. s/2 - 1

and every consecutive pair (a, b) of a head is rotated by its angle:

    (4)  (a, b) <- (a cos theta - b sin theta, b cos theta + a sin theta)

The tables are static: NumPy computes them in float64 and rounds once to float32. With offsets they depend on
the batch and are computed in float32, under jit.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from gencompositor_jax.arch import Layout

Grid = tuple[int, int, int]


class Tables(NamedTuple):
    """cos and sin of the rotary angles, float32, one column per rotated pair."""

    cos: Float[np.ndarray | jax.Array, "*batch tokens d//2"]
    sin: Float[np.ndarray | jax.Array, "*batch tokens d//2"]


def grid_indices(grid: Grid) -> Int[np.ndarray, "N 3"]:
    """(t, row, column) of each token of one stream, t slowest."""
    return np.stack(np.meshgrid(*(np.arange(n) for n in grid), indexing="ij"), axis=-1).reshape(-1, 3)


def stream_indices(layout: Layout, grid: Grid) -> tuple[Int[np.ndarray, "N 3"], Int[np.ndarray, "N 3"], Grid]:
    """Positions of the video's and of the foreground's tokens, and the extent of the grid that holds both.

    Equation (2) for `released`, equation (1) for the other layouts; `trajectory` with offsets 0.
    """
    frames, rows, columns = grid
    video = grid_indices(grid)
    match layout:
        case "height" | "trajectory":
            return video, video + [0, rows, 0], (frames, 2 * rows, columns)
        case "width":
            return video, video + [0, 0, columns], (frames, rows, 2 * columns)
        case "time":
            return video, video + [frames, 0, 0], (2 * frames, rows, columns)
        case "shared":
            return video, video, grid
        case "released":
            both = np.concatenate([video, video + [frames, 0, 0]])
            frame, row, column = both.T
            both = np.stack([frame // 2, row + (frame % 2) * rows, column], axis=-1)
            return both[: len(video)], both[len(video) :], (frames, 2 * rows, columns)
    raise ValueError(f"unknown position layout {layout!r}")


def axis_positions(
    extent: Grid, base: tuple[int, int]
) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " rows"], Float[np.ndarray, " columns"]]:
    """Rotary position of each index along t, row and column.

    Frames count 0, 1, 2, ... Rows and columns are fitted into `base` (rows, columns) cells: they are spread
    over the largest centred box of the grid's aspect ratio, rounded to whole cells. Positions are integers at
    the training size and fractions at other sizes.
    """
    frames, rows, columns = extent
    base_rows, base_columns = base
    if rows / columns > base_rows / base_columns:
        box_rows, box_columns = base_rows, round(base_rows / rows * columns)
    else:
        box_rows, box_columns = round(base_columns / columns * rows), base_columns
    top, left = round((base_rows - box_rows) / 2), round((base_columns - box_columns) / 2)
    return (
        np.arange(frames, dtype=np.float64),
        np.linspace(top, top + box_rows, rows, endpoint=False),
        np.linspace(left, left + box_columns, columns, endpoint=False),
    )


def rotary_tables(
    indices: Int[np.ndarray, "tokens 3"], extent: Grid, base: tuple[int, int], head_dim: int
) -> Tables:
    """Rotary tables of tokens at `indices` of a grid `extent`: equation (3)."""
    theta = _angles(_positions(indices, axis_positions(extent, base)), head_dim)
    return Tables(np.cos(theta).astype(np.float32), np.sin(theta).astype(np.float32))


def _positions(indices: np.ndarray, axes: Iterable[np.ndarray]) -> np.ndarray:
    """Rotary positions [tokens, 3] of tokens, from those of each index along each axis."""
    return np.stack([axis[i] for axis, i in zip(axes, indices.T, strict=True)], axis=-1)


def _angles(positions: Any, head_dim: int) -> Any:
    """Positions [..., 3] -> angles [..., head_dim / 2], for NumPy and JAX arrays, in their dtype."""
    angles = []
    for axis, size in enumerate((head_dim // 4, head_dim * 3 // 8, head_dim * 3 // 8)):
        omega = (10000.0 ** (-np.arange(0, size, 2) / size)).astype(positions.dtype)
        angles.append(positions[..., axis, None] * omega)
    return (jnp if isinstance(positions, jax.Array) else np).concatenate(angles, axis=-1)


def fusion_tables(
    layout: Layout,
    grid: Grid,
    base_grid: tuple[int, int],
    head_dim: int,
    offsets: Int[jax.Array, "B t 2"] | None = None,
) -> Tables:
    """Rotary tables of the backbone's [video, foreground] tokens, with a batch axis if there are offsets.

    `base_grid` is doubled along the axis that the layout doubles. offsets: of the layout `trajectory`, (rows,
    columns) from each foreground token to its place in the target; None for 0.
    """
    video, foreground, extent = stream_indices(layout, grid)
    indices = np.concatenate([video, foreground])
    base = base_grid[0] * (extent[1] // grid[1]), base_grid[1] * (extent[2] // grid[2])
    if offsets is None:
        return rotary_tables(indices, extent, base, head_dim)
    axes = axis_positions(extent, base)
    steps = np.array([axis[1] - axis[0] if len(axis) > 1 else 1.0 for axis in axes[1:]], np.float32)
    moved = jnp.repeat(offsets.astype(jnp.float32) * steps, grid[1] * grid[2], axis=1)  # one row per token
    moved = jnp.pad(moved, ((0, 0), (len(video), 0), (1, 0)))
    theta = _angles(jnp.asarray(_positions(indices, axes), jnp.float32) + moved, head_dim)
    return Tables(jnp.cos(theta), jnp.sin(theta))


def plain_tables(grid: Grid, base_grid: tuple[int, int], head_dim: int) -> Tables:
    """Rotary tables of the background branch's video tokens: RoPE without a shift."""
    return rotary_tables(grid_indices(grid), grid, base_grid, head_dim)


def added_positions(
    indices: Int[np.ndarray, "tokens 3"], width: int, scale: float
) -> Float[np.ndarray, "tokens {width}"]:
    """Sine-cosine table added to the embedded tokens, float32 (released checkpoint).

    A quarter of the width encodes t, then 3/8 the column and 3/8 the row, each with its sines first. Rows and
    columns are divided by `scale`.
    """
    frame, row, column = indices.T.astype(np.float64)
    spatial = width * 3 // 4

    def encode(positions: np.ndarray, size: int) -> np.ndarray:
        omega = 10000.0 ** (-np.arange(size // 2) / (size / 2))
        # The full table is large and has few distinct rows.
        different, which = np.unique(positions, return_inverse=True)
        theta = different[:, None] * omega
        return np.concatenate([np.sin(theta), np.cos(theta)], axis=-1).astype(np.float32)[which]

    parts = [
        encode(frame, width - spatial),
        encode(column / scale, spatial // 2),
        encode(row / scale, spatial // 2),
    ]
    return np.concatenate(parts, axis=-1)


def rotate(
    x: Float[jax.Array, "*batch S heads d"],
    cos: Float[jax.Array | np.ndarray, "*#batch S d//2"],
    sin: Float[jax.Array | np.ndarray, "*#batch S d//2"],
) -> Float[jax.Array, "*batch S heads d"]:
    """Equation (4), computed in float32, in x's dtype."""
    pairs = x.astype(jnp.float32).reshape(*x.shape[:-1], -1, 2)
    a, b = pairs[..., 0], pairs[..., 1]
    cos, sin = cos[..., None, :], sin[..., None, :]
    return jnp.stack([a * cos - b * sin, b * cos + a * sin], axis=-1).reshape(x.shape).astype(x.dtype)
