"""ERoPE: positions of video and foreground tokens, and the tables made from them (paper section 3.3;
reference layouts).

The foreground is not aligned with the video, so its tokens must not share the video's rotary positions. ERoPE
shifts them by the grid's extent along one axis,

    (1)  theta_video = omega * p,        theta_foreground = omega * (p + Delta)

with p = (t, row, column) and Delta = (0, rows, 0) for `height`, (0, 0, columns) for `width`, (T, 0, 0) for
`time`; `shared` is the ablation Delta = 0. The released checkpoint builds its table for a grid of T x 2*rows
x columns and applies it row by row to [video, foreground]; with F = t for video and T + t for foreground this
gives a token

    (2)  t' = F // 2,   row' = row + (F mod 2) * rows,   column' = column

which is the `released` layout: unlike (1), but unique, and what its weights expect.

The tables are static, so they are made by NumPy in float64 and rounded once to float32.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gencompositor_jax.arch import Layout

Grid = tuple[int, int, int]


class Tables(NamedTuple):
    """cos and sin of the rotary angles, float32 [tokens, head_dim / 2], one column per rotated pair."""

    cos: np.ndarray
    sin: np.ndarray


def grid_indices(grid: Grid) -> np.ndarray:
    """(t, row, column) of each token of one stream, int [t*rows*columns, 3], t slowest."""
    return np.stack(np.meshgrid(*(np.arange(n) for n in grid), indexing="ij"), axis=-1).reshape(-1, 3)


def stream_indices(layout: Layout, grid: Grid) -> tuple[np.ndarray, np.ndarray, Grid]:
    """Grid index of every video and every foreground token under a layout, each int [N, 3], and the grid that
    holds both.
    """
    frames, rows, columns = grid
    video = grid_indices(grid)
    match layout:
        case "height":
            return video, video + [0, rows, 0], (frames, 2 * rows, columns)
        case "width":
            return video, video + [0, 0, columns], (frames, rows, 2 * columns)
        case "time":
            return video, video + [frames, 0, 0], (2 * frames, rows, columns)
        case "shared":
            return video, video, grid
        case "released":  # equation (2)
            both = np.concatenate([video, video + [frames, 0, 0]])
            frame, row, column = both.T
            both = np.stack([frame // 2, row + (frame % 2) * rows, column], axis=-1)
            return both[: len(video)], both[len(video) :], (frames, 2 * rows, columns)
    raise ValueError(f"unknown position layout {layout!r}")


def axis_positions(extent: Grid, base: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rotary position of each index along t, row and column.

    Frames count 0, 1, 2, ...; rows and columns are spread over the largest centred box of the grid's aspect
    inside `base` cells
    (rows, columns), rounded to whole cells: at the training size these are integers, elsewhere fractions.
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


def rotary_tables(indices: np.ndarray, extent: Grid, base: tuple[int, int], head_dim: int) -> Tables:
    """Rotary angles of tokens at `indices` [N, 3] of a grid `extent`: d/4 of the head for t, 3d/8 for rows,
    3d/8 for columns.
    """
    angles = []
    for axis, size in enumerate((head_dim // 4, head_dim * 3 // 8, head_dim * 3 // 8)):
        omega = 10000.0 ** (-np.arange(0, size, 2) / size)
        positions = axis_positions(extent, base)[axis][indices[:, axis]]
        angles.append(positions[:, None] * omega)
    theta = np.concatenate(angles, axis=-1)
    return Tables(np.cos(theta).astype(np.float32), np.sin(theta).astype(np.float32))


def fusion_tables(layout: Layout, grid: Grid, base_grid: tuple[int, int], head_dim: int) -> Tables:
    """Rotary tables of [video, foreground] tokens for the backbone; the base box is doubled along the axis
    the grid doubles.
    """
    video, foreground, extent = stream_indices(layout, grid)
    base = base_grid[0] * (extent[1] // grid[1]), base_grid[1] * (extent[2] // grid[2])
    return rotary_tables(np.concatenate([video, foreground]), extent, base, head_dim)


def plain_tables(grid: Grid, base_grid: tuple[int, int], head_dim: int) -> Tables:
    """Rotary tables of video tokens alone, for the background branch."""
    return rotary_tables(grid_indices(grid), grid, base_grid, head_dim)


def added_positions(indices: np.ndarray, width: int, scale: float) -> np.ndarray:
    """Sine-cosine table added to the tokens before the first block, float32 [N, width] (released checkpoint).

    A quarter of the width encodes t, then 3/8 the column and 3/8 the row, each sines first; rows and columns
    are divided by `scale`.
    """
    frame, row, column = indices.T.astype(np.float64)
    spatial = width * 3 // 4

    def encode(positions: np.ndarray, size: int) -> np.ndarray:
        omega = 10000.0 ** (-np.arange(size // 2) / (size / 2))
        different, which = np.unique(positions, return_inverse=True)  # few: the full table is large
        theta = different[:, None] * omega
        return np.concatenate([np.sin(theta), np.cos(theta)], axis=-1).astype(np.float32)[which]

    parts = [
        encode(frame, width - spatial),
        encode(column / scale, spatial // 2),
        encode(row / scale, spatial // 2),
    ]
    return np.concatenate(parts, axis=-1)


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Rotates consecutive pairs of the last axis by the tables' angles, in float32.

    x: [..., tokens, heads, head_dim]; cos, sin: [tokens, head_dim / 2]. Returns x's dtype. Pair (a, b)
    becomes
    (a cos - b sin, b cos + a sin).
    """
    pairs = x.astype(jnp.float32).reshape(*x.shape[:-1], -1, 2)
    a, b = pairs[..., 0], pairs[..., 1]
    cos, sin = cos[:, None, :], sin[:, None, :]
    return jnp.stack([a * cos - b * sin, b * cos + a * sin], axis=-1).reshape(x.shape).astype(x.dtype)
