"""A folder of images as a clip, one per frame in the order of the numbers in their names; or one image."""

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from gencompositor_jax.controls.media.inputs import check_size
from gencompositor_jax.errors import InputError

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"))
_ORIENTATION = 0x0112  # the Exif tag; 5 to 8 lie on their side


def is_image(path: Path) -> bool:
    """Whether a file is read as one still picture, by its name."""
    return path.suffix.lower() in SUFFIXES


def list_images(folder: Path) -> list[Path]:
    """The images of a folder in natural order (frame_2 before frame_10). InputError where there are none.

    Hidden files and files that aren't images are passed over, folders inside are not entered.
    """
    files = [p for p in folder.iterdir() if is_image(p) and not p.name.startswith(".") and p.is_file()]
    if not files:
        others = sum(1 for _ in folder.iterdir())
        raise InputError(
            f"{folder}: no images in this folder ({others} other entries): "
            f"it needs one image per frame ({', '.join(sorted(s[1:] for s in SUFFIXES))})"
        )
    return sorted(files, key=_natural)


def survey_images(paths: Sequence[Path]) -> tuple[int, int, bool]:
    """(width, height, whether any has alpha) of images that are all of one size. Reads their headers only.

    InputError names the first that differs from the first image, that is no image, or that is too large.
    """
    first: tuple[int, int] | None = None
    alpha = False
    for path in paths:
        with _opened(path) as image:
            width, height = image.size
            if image.getexif().get(_ORIENTATION, 1) >= 5:
                width, height = height, width
            alpha = alpha or image.has_transparency_data
        check_size(path, width, height)
        first = first or (width, height)
        if (width, height) != first:
            raise InputError(
                f"{path}: is {width}x{height}, but {paths[0].name} beside it is {first[0]}x{first[1]}: "
                "all images of a folder must have one size"
            )
    assert first is not None, "list_images gives at least one"
    return *first, alpha


def read_images(paths: Sequence[Path], alpha: bool) -> Iterator[np.ndarray]:
    """Each image as uint8 [H, W, 3], or straight-alpha RGBA [H, W, 4]; upright as its Exif tag says."""
    for path in paths:
        with _opened(path) as image:
            yield _pixels(ImageOps.exif_transpose(image), alpha)


def _pixels(image: Image.Image, alpha: bool) -> np.ndarray:
    if image.mode.startswith("I"):  # 16-bit grey: Pillow would clip it to 255 instead of scaling it
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    return np.asarray(image.convert("RGBA" if alpha else "RGB"))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An image whose every failure, now or while it is decoded, is an InputError that names it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # check_size has the say
            with Image.open(path) as image:
                yield image
    except UnidentifiedImageError as error:
        raise InputError(
            f"{path}: is not an image, whatever its name says: remove it or export it again"
        ) from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: is larger than any image we read: scale it down") from error
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: is damaged ({error}): export it again") from error


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Sort key: runs of digits compare as numbers, the rest as text."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]
