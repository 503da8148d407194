"""Images as a clip: a folder with one image per frame, in the order of their numbers, or one image file.

An image file is one frame, or as many as it has pages: animated WebP, APNG and AVIF, multi-page TIFF.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from gencompositor_jax.controls.media.image_files import (
    Header,
    read_header,
    read_mask_pages,
    read_pages,
)
from gencompositor_jax.controls.media.inputs import DEFAULT_FPS
from gencompositor_jax.controls.media.numbering import in_order, is_pattern, matching, sheet_among
from gencompositor_jax.errors import InputError

Gaps = Literal["hold", "error"]  # what numbers missing in a sequence mean

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".tga", ".avif", ".exr"))
_SHORTEST = 10  # milliseconds of an image in an animation that is read in its own rhythm


@dataclass(frozen=True, eq=False)
class ImageSequence:
    """Images that are the frames of a clip; all have one size."""

    path: Path  # the folder, the pattern, or the single image
    images: tuple[Path, ...]  # a file for each frame
    pages: tuple[int, ...]  # which page of it
    width: int  # pixels, after the rotation of the Exif tag
    height: int
    has_alpha: bool
    fps: float = DEFAULT_FPS
    is_animation: bool = False  # with a rate of its own
    has_audio: bool = False
    codec: str = "images"
    notes: tuple[str, ...] = ()  # for the user
    first: int = 0  # number of the first frame, as in the files' names
    step: int = 1  # from frame to frame; 0 if the numbers have no such distance

    @property
    def frames(self) -> int:
        """The number of frames."""
        return len(self.images)


def is_image(path: Path) -> bool:
    """Whether a file is read as an image, by its suffix."""
    return path.suffix.lower() in SUFFIXES


def read_headers(path: Path, gaps: Gaps = "hold") -> ImageSequence:
    """The images of a folder, of a pattern (`name_####.png`), or of one file, from their headers.

    `gaps`: "hold" repeats the image before a missing number, "error" raises. InputError names the first
    image that differs from the first in size, is too large, or is no image.
    """
    if path.is_dir():
        return _sequence(path, _list_images(path), gaps)
    if is_pattern(path.name) and not path.exists():
        return _sequence(path, matching(path.parent, path.name), gaps)
    header = read_header(path)
    pages, fps = _timed(header)
    return ImageSequence(
        path,
        (path,) * len(pages),
        pages,
        header.width,
        header.height,
        header.has_alpha,
        fps=fps,
        is_animation=bool(header.milliseconds),
        codec=header.kind.lower() if header.milliseconds else "images",
        notes=() if header.colour is None else header.colour.notes,
    )


def read_images(paths: Sequence[Path], alpha: bool) -> Iterator[np.ndarray]:
    """Each image as uint8 [H, W, 3], or straight-alpha RGBA [H, W, 4], rotated as its Exif tag says."""
    return _read(paths, [0] * len(paths), alpha)


def read_frames(media: ImageSequence, indices: Sequence[int], alpha: bool) -> Iterator[np.ndarray]:
    """The frames with these numbers, increasing, one at a time: uint8 [H, W, 3 or 4]."""
    return _read([media.images[i] for i in indices], [media.pages[i] for i in indices], alpha)


def read_mask_frames(
    media: ImageSequence, indices: Sequence[int]
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """`read_frames` as masks, see `image_files.read_mask_pages`."""
    for path, pages in _runs([media.images[i] for i in indices], [media.pages[i] for i in indices]):
        yield from read_mask_pages(path, iter(pages))


def _read(paths: Sequence[Path], pages: Sequence[int], alpha: bool) -> Iterator[np.ndarray]:
    for path, run in _runs(paths, pages):
        yield from read_pages(path, iter(run), alpha)


def _runs(paths: Sequence[Path], pages: Sequence[int]) -> Iterator[tuple[Path, list[int]]]:
    """Each file once, with the pages that follow each other in it."""
    start = 0
    for i in range(1, len(paths) + 1):
        if i == len(paths) or paths[i] != paths[start]:
            yield paths[start], list(pages[start:i])
            start = i


def _sequence(path: Path, files: list[Path], gaps: Gaps) -> ImageSequence:
    sheet = _contact_sheet(files)
    found = in_order([file for file in files if file != sheet])
    if found.missing and gaps == "error":
        raise InputError(
            f"{path}: the numbers {found.missing} are missing: render them, or pass --gaps hold to repeat "
            "the frame before"
        )
    first: Header | None = None
    alpha = False
    for file in dict.fromkeys(found.files):
        header = read_header(file)
        first = first or header
        alpha = alpha or header.has_alpha
        if (header.width, header.height) != (first.width, first.height):
            raise InputError(
                f"{file}: is {header.width}x{header.height}, but {found.files[0].name} is {first.width}x"
                f"{first.height}: all images of a folder must have the same size; name those that are meant "
                "by a pattern, such as name_####.png"
            )
    assert first is not None
    notes = [] if first.colour is None else list(first.colour.notes)
    if sheet is not None:
        notes.append(f"{sheet.name} left out: it is the contact sheet of these images")
    if found.missing:
        notes.append(
            f"the numbers {found.missing} are missing: the frame before is held (--gaps error refuses)"
        )
    if found.doubled:
        names = ", ".join(p.name for p in found.doubled[:5])
        more = f" and {len(found.doubled) - 5} more" if len(found.doubled) > 5 else ""
        notes.append(f"{names}{more} left out: other files have the same numbers")
    pages = (0,) * len(found.files)
    return ImageSequence(
        path,
        found.files,
        pages,
        first.width,
        first.height,
        alpha,
        notes=tuple(notes),
        first=found.first,
        step=found.step,
    )


def _contact_sheet(files: list[Path]) -> Path | None:
    """The one that this program writes beside numbered images: named after them, and of another size."""
    sheet = sheet_among(files)
    if sheet is None:
        return None
    own, other = (read_header(path) for path in (sheet, next(path for path in files if path != sheet)))
    return None if (own.width, own.height) == (other.width, other.height) else sheet


def _list_images(folder: Path) -> list[Path]:
    """The images of a folder. InputError if there are none.

    Hidden files, files that are no images and subfolders are ignored.
    """
    files = [p for p in folder.iterdir() if is_image(p) and not p.name.startswith(".") and p.is_file()]
    if not files:
        others = sum(1 for _ in folder.iterdir())
        raise InputError(
            f"{folder}: no images in this folder ({others} other entries): "
            f"pass one with an image per frame ({', '.join(sorted(s[1:] for s in SUFFIXES))})"
        )
    return files


def _timed(header: Header) -> tuple[tuple[int, ...], float]:
    """The pages as frames of a constant rate, and the rate: a page that stays longer is repeated."""
    if not header.milliseconds:
        return header.pages, DEFAULT_FPS
    times = [max(round(t), 1) for t in header.milliseconds]
    unit = math.gcd(*times)
    if unit < _SHORTEST:
        return header.pages, 1000 * len(times) / sum(header.milliseconds)
    pages = [page for page, time in zip(header.pages, times, strict=True) for _ in range(time // unit)]
    return tuple(pages), 1000 / unit
