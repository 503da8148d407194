"""What is made of a composite beside its video: the rows of the contact sheet, and the edit as a layer."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gencompositor_jax.controls.geometry.edit_layer import over, solve_layer
from gencompositor_jax.controls.geometry.window import cut, piece
from gencompositor_jax.controls.media import layer_out
from gencompositor_jax.controls.media.frames import Computed, Frames
from gencompositor_jax.controls.media.sheet import overlaid
from gencompositor_jax.controls.media.timecode import timecode_of
from gencompositor_jax.controls.shot import covers

if TYPE_CHECKING:
    from gencompositor_jax.controls.stage import Stage
    from gencompositor_jax.files import PathLike
    from gencompositor_jax.inference.rendering import Composite

SMALL = 0.5  # fraction of the frame below which a window gets a row of its own


def sheet_rows(composite: "Composite", stage: "Stage") -> list[tuple[str, Frames]]:
    """The rows of the contact sheet; a small window gets a row of its own."""
    if composite.mask.shape == composite.background.shape[:3]:
        mask = overlaid(composite.background, composite.mask, paths_of(stage))
    else:  # the model's own frames
        mask = overlaid(composite.frames, composite.mask)
    rows = [
        ("input", composite.background),
        ("mask", mask),
        ("foreground", composite.foreground),
        ("result", composite.frames),
    ]
    window = stage.shots[-1].window
    fraction = np.prod(window.size) / np.prod(composite.frames.shape[1:3])
    if composite.frames is not composite.raw and fraction < SMALL:

        def closer(first: int, stop: int) -> np.ndarray:
            return cut(composite.frames[first:stop], piece(window, slice(first, stop)))

        rows.append(("closer", Computed((len(composite.frames), *window.size, 3), closer)))
    return rows


def paths_of(stage: "Stage") -> np.ndarray | None:
    """The paths of the layers that have one, float [L, T, 2] in native pixels, for `overlay`."""
    found = [shot.path.xy for shot in stage.shots if shot.path is not None]
    return np.stack(found) if found else None


def write_element_clips(path: "PathLike", stage: "Stage", overwrite: bool) -> Iterator[tuple[Path, str]]:
    """Writes what was cut out of each layer's clip, as `layer_out` does: yields its file, and how it was cut.

    Several layers have their number in the name. Raises InputError where a file can't be written.
    """
    elements = [shot.element for shot in stage.shots if shot.element is not None]
    for number, element in enumerate(elements, 1):
        file = Path(path) if len(elements) == 1 else Path(path).with_stem(f"{Path(path).stem}_{number}")
        layer_out.check_layer_output(file, range(len(element.frames)), overwrite, option="--save-element")
        deep = (frame.astype(np.uint16) * 257 for frame in element.frames)
        layer_out.write_layer(file, deep, stage.background.fps, overwrite=overwrite)
        yield file, element.key


def write_edit_layer(path: "PathLike", composite: "Composite", stage: "Stage", overwrite: bool) -> float:
    """Writes the edit as a layer; `layer_out` says what the name decides.

    Returns the largest error of `over` before the layer is encoded, in
    8-bit levels.
    """
    worst = 0.0

    def layers() -> Iterator[np.ndarray]:
        nonlocal worst
        cover = covers(stage.shots, composite.mask)
        for plate, frame, solid in zip(composite.background, composite.frames, cover, strict=True):
            layer = solve_layer(plate, frame, solid, 65535)
            worst = max(worst, float(np.abs(over(layer, plate) - frame).max()))
            yield layer

    plate = stage.background
    timecode = timecode_of(Path(plate.path), round(plate.start * plate.fps), plate.fps)
    layer_out.write_layer(
        path, layers(), plate.fps, numbers=plate.numbers, timecode=timecode, overwrite=overwrite
    )
    return worst
