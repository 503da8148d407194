"""After Effects' keyframe data, the text that it copies: `Adobe After Effects 8.0 Keyframe Data`.

Its y points down from the upper left corner of the frame, and pixel centres are at halves: the centre of our
pixel (x, y) is at (x + 1/2, y + 1/2) there. Rotations are clockwise, scales in percent. The layer's anchor
point goes to the position, as the element's anchor does. The text says nothing about interpolation: key
frames are connected by straight lines, which is what After Effects makes of pasted ones.
"""

import re
from typing import NamedTuple

import numpy as np

from gencompositor_jax.controls.geometry.path import Path
from gencompositor_jax.controls.keyframes.motion import Motion
from gencompositor_jax.controls.keyframes.numbers import number_of
from gencompositor_jax.errors import InputError, listed

_HEAD = re.compile(r"Adobe After Effects [\d.]+ Keyframe Data")
_POSITION = ("Transform", "Position")


class Block(NamedTuple):
    """The key frames of one property."""

    frames: np.ndarray  # float [K], increasing; [0] where it isn't animated
    values: np.ndarray  # float [K, columns]

    def at(self, frames: np.ndarray, column: int) -> np.ndarray:
        """The values of a column at other frames."""
        return np.interp(frames, self.frames, self.values[:, column])


class KeyframeData(NamedTuple):
    """A text, taken apart."""

    rate: float  # frames per second
    stretch: float  # width of a pixel of the composition in square ones
    blocks: dict[tuple[str, ...], Block]


def read_after_effects(text: str, node: str | None = None) -> tuple[Motion, float]:
    """The movement in keyframe data, and its frames per second.

    node: words of the property's title that is the position, such as "Track Point #1"; None is the layer's
    position, else the only point. Raises InputError naming the line or the property.
    """
    data = _parse(text)
    blocks = data.blocks
    split = [blocks.get(("Transform", f"{axis} Position")) for axis in "XY"]
    if node is None and split[0] is not None and split[1] is not None:
        position = [(split[0], 0), (split[1], 0)]
    else:
        block = blocks[_position_of(data, node)]
        position = [(block, 0), (block, 1)]
    scale = blocks.get(("Transform", "Scale"))
    rotation = blocks.get(("Transform", "Rotation")) or blocks.get(("Transform", "Z Rotation"))
    used = [block for block in (*(b for b, _ in position), scale, rotation) if block is not None]
    frames = np.unique(
        np.concatenate([block.frames for block in used if len(block.frames) > 1] or [np.zeros(1)])
    )
    x, y = (block.at(frames, column) for block, column in position)
    sizes = None
    if scale is not None:
        sizes = scale.at(frames, 0) / 100
        if scale.values.shape[1] > 1 and np.abs(scale.at(frames, 1) / 100 - sizes).max() > 1e-4:
            raise InputError("Transform Scale: differs between x and y, and elements aren't squeezed")
    turns = None if rotation is None else -rotation.at(frames, 0)
    xy = np.stack([x * data.stretch - 0.5, y - 0.5], axis=1)
    notes = ("the text has no interpolation: key frames are connected by straight lines",)
    return Motion(frames, xy, sizes, turns, notes=notes if len(frames) > 1 else ()), data.rate


def write_after_effects(frames: np.ndarray, path: Path, rate: float, size: tuple[int, int]) -> str:
    """Keyframe data to paste onto a layer: a key in each of `frames` [T], for a path of T frames.

    size: (width, height) of the layer's footage.
    """
    head = {
        "Units Per Second": f"{rate:.10g}",
        "Source Width": size[0],
        "Source Height": size[1],
        "Source Pixel Aspect Ratio": 1,
        "Comp Pixel Aspect Ratio": 1,
    }
    lines = ["Adobe After Effects 8.0 Keyframe Data", ""]
    lines += [f"\t{name}\t{value}" for name, value in head.items()]
    flat, full = np.zeros(len(frames)), np.full(len(frames), 100.0)
    percent = 100 * path.scale
    for title, columns, values in (
        ("Position", "X pixels\tY pixels\tZ pixels", (path.xy[:, 0] + 0.5, path.xy[:, 1] + 0.5, flat)),
        ("Scale", "X percent\tY percent\tZ percent", (percent, percent, full)),
        ("Rotation", "Degrees", (-path.rotation,)),
    ):
        lines += ["", f"Transform\t{title}", f"\tFrame\t{columns}\t"]
        for i, frame in enumerate(frames):
            row = "\t".join(f"{column[i] + 0.0:.10g}" for column in values)
            lines.append(f"\t{frame:.10g}\t{row}\t")
    return "\n".join([*lines, "", "", "End of Keyframe Data", ""])


def _parse(text: str) -> KeyframeData:
    lines = re.split(r"\r\n|\r|\n", text)
    if not _HEAD.match(lines[0].strip()):
        raise InputError(f"begins with {lines[0][:40]!r}, not with 'Adobe After Effects 8.0 Keyframe Data'")
    head: dict[str, str] = {}
    blocks: dict[tuple[str, ...], Block] = {}
    title: tuple[str, ...] = ()
    rows: list[list[float]] = []
    for number, line in enumerate([*lines[1:], "End"], start=2):
        cells = [cell.strip() for cell in line.split("\t")]
        if cells[0]:  # a property's title, or the end
            if rows:
                blocks[title] = _block(rows, title)
            title, rows = tuple(cell for cell in cells if cell), []
            if cells[0].startswith("End of") or cells[0] == "End":
                break
        elif not title:
            if len(cells) > 2:
                head[cells[1]] = cells[2]
        elif len(cells) > 2 and cells[1] != "Frame" and any(cells):
            rows.append(_numbers(cells[1:], number))
    found = []
    for name, default, low, high in (
        ("Units Per Second", "", 0.01, 1000),
        ("Comp Pixel Aspect Ratio", "1", 0.1, 10),
    ):
        value = number_of(head.get(name, default))
        if value is None or not low <= value <= high:
            raise InputError(
                f"{name} {head.get(name, default)[:20]!r}: a number from {low} to {high} is expected"
            )
        found.append(value)
    return KeyframeData(found[0], found[1], blocks)


def _numbers(cells: list[str], number: int) -> list[float]:
    """A frame, 0 where none is given, and values."""
    while cells and not cells[-1]:
        cells = cells[:-1]
    found = [number_of(cell or "0") for cell in cells]
    if None in found:
        raise InputError(f"line {number}: {' '.join(cells)[:40]!r}: numbers are expected")
    return [value for value in found if value is not None]


def _block(rows: list[list[float]], title: tuple[str, ...]) -> Block:
    if len({len(row) for row in rows}) != 1 or len(rows[0]) < 2:
        raise InputError(f"{' '.join(title)}: its rows have different numbers of values")
    table = np.array(rows)
    if (np.diff(table[:, 0]) <= 0).any():
        raise InputError(f"{' '.join(title)}: frames must increase")
    return Block(table[:, 0], table[:, 1:])


def _position_of(data: KeyframeData, node: str | None) -> tuple[str, ...]:
    """The title of the property that is the position."""
    if node is None and _POSITION in data.blocks:
        return _POSITION
    points = [
        title
        for title, block in data.blocks.items()
        if block.values.shape[1] >= 2 and title[-1] not in ("Anchor Point", "Scale", "Point of Interest")
    ]
    fits = [title for title in points if node is None or node in " ".join(title)]
    if node is None and len(fits) > 1:  # of a tracker, which has several points
        fits = [title for title in fits if title[-1] == "Feature Center"] or fits
    if len(fits) != 1:
        known = listed([" ".join(title) for title in points]) or "none"
        raise InputError(f"{len(fits)} positions fit, there are: {known}: pass words of one by --node")
    return fits[0]
