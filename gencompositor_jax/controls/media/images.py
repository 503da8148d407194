"""Images as a clip: a folder with one image per frame, ordered by the numbers in the names, or one image."""

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from gencompositor_jax.controls.media.inputs import DEFAULT_FPS, check_size
from gencompositor_jax.errors import InputError

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"))
_ORIENTATION = 0x0112  # the Exif tag; values 5 to 8 swap width and height


@dataclass(frozen=True, eq=False)
class ImageSequence:
    """Images that are the frames of a clip; all have one size."""

    path: Path  # the folder, or the single image
    images: tuple[Path, ...]
    width: int  # pixels, after the rotation of the Exif tag
    height: int
    has_alpha: bool
    fps: float = DEFAULT_FPS
    has_audio: bool = False
    codec: str = "images"
    notes: tuple[str, ...] = ()  # for the user

    @property
    def frames(self) -> int:
        """The number of images."""
        return len(self.images)


def is_image(path: Path) -> bool:
    """Whether a file is read as a single image, by its suffix."""
    return path.suffix.lower() in SUFFIXES


def read_headers(path: Path) -> ImageSequence:
    """The images of a folder, or one image, from their headers.

    InputError names the first image that differs from the first in size, is too large, or is no image.
    """
    images = _list_images(path) if path.is_dir() else [path]
    size: tuple[int, int] | None = None
    alpha = False
    for file in images:
        with _opened(file) as image:
            width, height = image.size
            if image.getexif().get(_ORIENTATION, 1) >= 5:
                width, height = height, width
            alpha = alpha or image.has_transparency_data
        check_size(file, width, height)
        size = size or (width, height)
        if (width, height) != size:
            raise InputError(
                f"{file}: is {width}x{height}, but {images[0].name} is {size[0]}x{size[1]}: "
                "all images of a folder must have the same size"
            )
    assert size is not None
    return ImageSequence(path, tuple(images), *size, alpha)


def read_images(paths: Sequence[Path], alpha: bool) -> Iterator[np.ndarray]:
    """Each image as uint8 [H, W, 3], or straight-alpha RGBA [H, W, 4], rotated as its Exif tag says."""
    for path in paths:
        with _opened(path) as image:
            yield _pixels(ImageOps.exif_transpose(image), alpha)


def _list_images(folder: Path) -> list[Path]:
    """The images of a folder in natural order (frame_2 before frame_10). InputError if there are none.

    Hidden files, files that are no images and subfolders are ignored.
    """
    files = [p for p in folder.iterdir() if is_image(p) and not p.name.startswith(".") and p.is_file()]
    if not files:
        others = sum(1 for _ in folder.iterdir())
        raise InputError(
            f"{folder}: no images in this folder ({others} other entries): "
            f"pass one with an image per frame ({', '.join(sorted(s[1:] for s in SUFFIXES))})"
        )
    return sorted(files, key=_natural)


def _pixels(image: Image.Image, alpha: bool) -> np.ndarray:
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip to 255 instead of scaling
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    return np.asarray(image.convert("RGBA" if alpha else "RGB"))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image; any failure, also while it is decoded, is an InputError that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # check_size limits the size
            with Image.open(path) as image:
                yield image
    except UnidentifiedImageError as error:
        raise InputError(
            f"{path}: is not an image, despite its name: remove it or export it again"
        ) from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: is too large for an image: scale it down") from error
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: is damaged ({error}): export it again") from error


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Sort key: runs of digits compare as numbers, the rest as text."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]
