"""Bringing large arrays into another layout, and looking through them, in little time and memory."""

import math
from typing import Any

import cv2
import numpy as np

BLOCK = 256  # side of what is transposed at a time where OpenCV can't: two such blocks fit a core's cache
TILE = 512  # side of what OpenCV transposes at a time
PAD = 32  # elements between the rows of a tile, so that they don't compete for the same places in the cache


def contiguous(array: np.ndarray) -> np.ndarray:
    """The array in C order.

    NumPy transposes one element at a time, jumping through memory. Plain transposes, also those whose rows or
    columns were split into several axes afterwards, go through OpenCV tile by tile, others block by block:
    ten and four times as fast.
    """
    if array.flags.c_contiguous:
        return array
    for rows, columns in ((array.shape[0], -1), (-1, array.shape[-1])):
        try:
            flat = array.reshape(rows, columns, copy=False)
        except ValueError:
            continue
        if flat.dtype.itemsize in (2, 4) and flat.strides[0] == flat.dtype.itemsize:
            integers = np.dtype(f"i{flat.dtype.itemsize}")
            return _by_tiles(flat.T.view(integers)).view(array.dtype).reshape(array.shape)
    return _by_blocks(array)


def _by_tiles(array: np.ndarray) -> np.ndarray:
    """The transpose of a matrix of integers whose rows are contiguous.

    OpenCV is fast where all it touches is in the cache, so each tile goes to its place over a small matrix.
    """
    rows, columns = array.shape
    out, tile = np.empty((columns, rows), array.dtype), np.empty((TILE, TILE + PAD), array.dtype)
    for i in range(0, rows, TILE):
        for j in range(0, columns, TILE):
            some = array[i : i + TILE, j : j + TILE]
            turned = tile[: some.shape[1], : some.shape[0]]
            cv2.transpose(some, dst=turned)
            out[j : j + TILE, i : i + TILE] = turned
    return out


def _by_blocks(array: np.ndarray) -> np.ndarray:
    out = np.empty(array.shape, array.dtype)
    fast = min(range(array.ndim), key=lambda i: abs(array.strides[i]) if array.shape[i] > 1 else math.inf)
    width = BLOCK if fast != array.ndim - 1 else max(1, array.shape[-1])
    for i in range(0, array.shape[fast], BLOCK):
        rows = (*(slice(None),) * fast, slice(i, i + BLOCK))
        for j in range(0, array.shape[-1], width):
            out[rows][..., j : j + width] = array[rows][..., j : j + width]
    return out


def has_only_numbers(array: np.ndarray) -> bool:
    """False where a floating-point array holds NaN or infinity; needs no memory of the array's size."""
    if array.dtype.itemsize > 4:
        return bool(np.isfinite(array).all())
    kind: Any = {2: np.uint16, 4: np.uint32}[array.dtype.itemsize]
    bits = np.ascontiguousarray(array).reshape(-1).view(kind)
    # Exponent all ones: infinity or NaN. The sign bit is taken away first.
    sign = kind(np.iinfo(kind).max >> 1)
    limit = int(np.array(np.inf, array.dtype).view(kind))
    scratch = np.empty(min(bits.size, 2**18), kind)
    for start in range(0, bits.size, scratch.size or 1):
        some = bits[start : start + scratch.size]
        if np.bitwise_and(some, sign, out=scratch[: some.size]).max() >= limit:
            return False
    return True
