"""Arguments of the Python API: their kinds, checked before anything is done with them."""

import numbers
import operator
import os
from typing import Any

import numpy as np

from gencompositor_jax.controls.media.images import ImageSequence
from gencompositor_jax.controls.media.stream import PictureStream
from gencompositor_jax.errors import InputError


def check_clip(name: str, given: object, *kinds: type) -> None:
    """Raises InputError unless `given` is a path, an array, a probed clip or of one of these kinds."""
    if not isinstance(given, (str, os.PathLike, np.ndarray, PictureStream, ImageSequence, *kinds)):
        raise _wrong(name, given, "a path or an array of frames")
    if isinstance(given, np.ndarray) and not given.size:
        raise InputError(
            f"{name}: an array of {given.shape} holds no frames; pass [frames, height, width, channels]"
        )
    _check_no_empty_path(name, given)


def check_paths(**given: object) -> None:
    """Raises InputError unless each is a path or None."""
    _check((str, os.PathLike), "a path", given)
    for name, path in given.items():
        _check_no_empty_path(name, path)


def check_texts(**given: object) -> None:
    """Raises InputError unless each is a text or None."""
    _check((str,), "a text", given)


def check_numbers(**given: object) -> None:
    """Raises InputError unless each is a real number, NumPy's too, or None."""
    _check((numbers.Real,), "a number", given)


def whole_or_none(name: str, given: Any) -> int | None:
    """An integer, NumPy's too, or None. Raises InputError for anything else."""
    try:
        return None if given is None else operator.index(given)
    except TypeError:
        raise _wrong(name, given, "an integer") from None


def _check_no_empty_path(name: str, given: object) -> None:
    if isinstance(given, str) and not given:
        raise InputError(f"{name}: an empty text where a path is expected")


def _check(kinds: tuple[type, ...], wanted: str, given: dict[str, object]) -> None:
    for name, value in given.items():
        if value is not None and not isinstance(value, kinds):
            raise _wrong(name, value, wanted)


def _wrong(name: str, given: object, wanted: str) -> InputError:
    return InputError(f"{name}: {type(given).__name__} where {wanted} is expected")
