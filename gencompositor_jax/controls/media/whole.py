"""Whether an image file is whole: copies that were cut off, and pages of zeros, aren't."""

import warnings
from pathlib import Path

from PIL import Image

from gencompositor_jax.controls.media import exr
from gencompositor_jax.controls.media.image_files import EXR
from gencompositor_jax.errors import InputError


def is_whole(path: Path, size: tuple[int, int]) -> bool:
    """Whether a file holds an image of this size (width, height) that can be decoded to its end."""
    if not path.is_file():
        return False
    if path.suffix.lower() == EXR:
        try:
            return exr.read(path).size == size
        except InputError:
            return False
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            image.load()
            return image.size == size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False
