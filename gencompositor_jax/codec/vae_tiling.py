"""Spatial tiles for the VAE: the pixels of each tile, and how overlapping results are blended.

The released scripts run the VAE on tiles. That changes its result, since group norm normalises one tile at a
time, so the rules here are the release's: tiles start at every stride, the last ones end at the border, and
each tile is blended with the tile above and the tile to the left, which are blended already.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from gencompositor_jax.arch import VAEArch
from gencompositor_jax.errors import InputError

Pair = tuple[int, int]  # (rows, columns)


@dataclasses.dataclass(frozen=True)
class TilePlan:
    """Tiles for encoding or for decoding: `size` and `stride` in input pixels, `blend` and `keep` in output
    pixels.
    """

    size: Pair
    stride: Pair
    blend: Pair
    keep: Pair

    def starts(self, axis: int, extent: int) -> range:
        """First row (axis 0) or column (axis 1) of each tile, for an input of `extent` rows or columns."""
        return range(0, extent, self.stride[axis])


def tile_plans(arch: VAEArch) -> tuple[TilePlan, TilePlan]:
    """Plans for encoding and for decoding.

    Raises:
        InputError: the architecture has no tiles, or the tile's size does not fit the overlap: pixel strides
            must be space_factor times the latent strides, and the kept part of a tile must be one stride.
    """
    if arch.tile is None:
        raise InputError("codec.tile is not set: this architecture has no tiles")
    s, overlap = arch.space_factor, arch.tile_overlap
    pixels = arch.tile
    latents = (pixels[0] // s, pixels[1] // s)

    def stride(size: Pair) -> Pair:
        return int(size[0] * (1 - overlap[0])), int(size[1] * (1 - overlap[1]))

    def blend(size: Pair) -> Pair:
        return int(size[0] * overlap[0]), int(size[1] * overlap[1])

    def plan(inputs: Pair, outputs: Pair) -> TilePlan:
        seam = blend(outputs)
        return TilePlan(inputs, stride(inputs), seam, (outputs[0] - seam[0], outputs[1] - seam[1]))

    encode, decode = plan(pixels, latents), plan(latents, pixels)
    for axis, name in enumerate(("height", "width")):
        fits = encode.stride[axis] == s * decode.stride[axis] > 0
        fits &= encode.keep[axis] == decode.stride[axis] and decode.keep[axis] == encode.stride[axis]
        if not fits or pixels[axis] % s:
            raise InputError(
                f"codec.tile={pixels}: its {name} does not fit the overlap {overlap[axis]:.4g}; "
                f"pass a multiple of {s} whose stride (size x (1 - overlap)) is a multiple of {s} too, "
                "such as the release's (240, 360)"
            )
    return encode, decode


def needs_tiles(plan: TilePlan, height: int, width: int) -> bool:
    """True if an input of this size is larger than one tile."""
    return height > plan.size[0] or width > plan.size[1]


def in_tiles(run: Callable[[jax.Array], jax.Array], x: jax.Array, plan: TilePlan) -> jax.Array:
    """Applies `run`, [B, T, h, w, C] -> [B, T', h', w', C'], to each tile of `x` and blends the results.

    Tiles of one shape share a loop: `run` is traced once per shape, at most 4 times, and processes one tile
    at a time.
    """
    return in_tiles_with_state(lambda piece, _: (run(piece), {}), x, plan, None)[0]


def in_tiles_with_state(
    run: Callable[[jax.Array, Any], tuple[jax.Array, Any]], x: jax.Array, plan: TilePlan, state: Any
) -> tuple[jax.Array, dict[str, Any]]:
    """`in_tiles` where `run` also takes each tile's state and returns its next one.

    state: what this function returned for the chunk before; None for the first, whose tiles get `{}`.
    Returns the result and the states, stacked for tiles of one shape.
    """
    rows, columns = plan.starts(0, x.shape[2]), plan.starts(1, x.shape[3])
    groups: dict[Pair, list[Pair]] = defaultdict(list)
    pieces = {}
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            piece = x[:, :, row : row + plan.size[0], column : column + plan.size[1]]
            pieces[i, j] = piece
            groups[piece.shape[2], piece.shape[3]].append((i, j))
    tiles, states = {}, {}
    for (height, width), members in groups.items():
        name = f"{height}x{width}"
        given = jnp.stack([pieces[m] for m in members]), {} if state is None else state[name]
        results, states[name] = lax.map(lambda tile: run(*tile), given)
        tiles.update({member: results[k] for k, member in enumerate(members)})
    lines = []
    for i in range(len(rows)):
        for j in range(len(columns)):
            if i:
                tiles[i, j] = blend_seam(tiles[i - 1, j], tiles[i, j], plan.blend[0], axis=2)
            if j:
                tiles[i, j] = blend_seam(tiles[i, j - 1], tiles[i, j], plan.blend[1], axis=3)
        kept = [tiles[i, j][:, :, : plan.keep[0], : plan.keep[1]] for j in range(len(columns))]
        lines.append(jnp.concatenate(kept, axis=3))
    return jnp.concatenate(lines, axis=2), states


def blend_seam(before: jax.Array, tile: jax.Array, extent: int, axis: int) -> jax.Array:
    """Blends the first `extent` rows (axis 2) or columns (axis 3) of `tile` with the last ones of `before`.

    The tile's weight is 0 in its first row and grows by 1 / extent. `extent` is limited to the smaller tile.
    """
    extent = min(before.shape[axis], tile.shape[axis], extent)
    ramp = jnp.arange(extent, dtype=tile.dtype) / extent
    weight = ramp.reshape([extent if a == axis else 1 for a in range(tile.ndim)])
    old = lax.slice_in_dim(before, before.shape[axis] - extent, before.shape[axis], axis=axis)
    new = lax.slice_in_dim(tile, 0, extent, axis=axis)
    rest = lax.slice_in_dim(tile, extent, tile.shape[axis], axis=axis)
    return jnp.concatenate([old * (1 - weight) + new * weight, rest], axis=axis)
