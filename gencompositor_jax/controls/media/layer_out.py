"""The edit layer as a file: RGBA of 16 bits in PNG or TIFF images or FFV1, or ProRes 4444."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np

from gencompositor_jax.controls.media import deep_images
from gencompositor_jax.controls.media.codecs import Coding
from gencompositor_jax.controls.media.colour import Tags
from gencompositor_jax.controls.media.encoding import BT709, encoder
from gencompositor_jax.controls.media.image_files import EXR
from gencompositor_jax.controls.media.numbering import is_pattern, numbered
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import PathLike, atomic_write, check_output

IMAGES = (".png", ".tif", ".tiff")
_PRORES = {"profile": "4444", "alpha_bits": "16"}
VIDEOS = {
    ".mov": Coding("prores_ks", "yuva444p10le", 10, _PRORES, (".mov",)),
    ".mkv": Coding("ffv1", "gbrap16le", 16, {"level": "3", "g": "1"}, (".mkv",), lossless=True),
}


def check_layer_output(
    path: PathLike, numbers: Iterable[int], overwrite: bool, of_exr: bool = False, option: str = "--layer"
) -> None:
    """`check_layer_name`, and `check_output` for a layer whose frames have these numbers."""
    check_layer_name(path, of_exr, option)
    path = Path(path)
    is_video = path.suffix.lower() in VIDEOS
    for file in [path] if is_video else [numbered(path, number) for number in numbers]:
        check_output(file, overwrite)


def check_layer_name(path: PathLike, of_exr: bool = False, option: str = "--layer") -> None:
    """Raise InputError if a name is neither a pattern of images (`edit_####.png`) nor a video (.mov, .mkv).

    of_exr: whether its values are light, which only EXR layers have. option: that named it.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if of_exr and not (suffix == EXR and is_pattern(path.name)):
        raise InputError(
            f"{option} {path}: only EXR keeps linear light in floats: pass edit_####.exr, or --output-colour "
            "Rec.709"
        )
    if suffix == EXR and is_pattern(path.name) and not of_exr:
        remedy = ", or --output-colour linear" if option == "--layer" else ""
        raise InputError(
            f"{option} {path}: EXR has linear light, here are encoded values: pass edit.mov or edit_####.png"
            f"{remedy}"
        )
    if not (suffix in (*IMAGES, EXR) and is_pattern(path.name)) and suffix not in VIDEOS:
        raise InputError(
            f"{option} {path}: pass a name such as edit.mov (ProRes 4444), edit.mkv (FFV1), edit_####.png, "
            "edit_####.tif, or edit_####.exr over an EXR plate"
        )


@contextmanager
def layer_writer(
    path: PathLike,
    size: tuple[int, int],
    fps: float,
    *,
    numbers: Iterable[int] | None = None,
    tags: Tags = BT709,
    timecode: str | None = None,
    overwrite: bool = False,
) -> Iterator[Callable[[np.ndarray], None]]:
    """Yield a function that writes the next straight-alpha uint16 frame [H, W, 4]; not for EXR.

    size: (width, height). numbers: of images, which appear under their names once they are complete; from 0.
    tags: of the plate's colours. timecode: of the first frame, for videos.
    """
    path, number = Path(path), iter(itertools.count() if numbers is None else numbers)
    suffix = path.suffix.lower()

    def put_image(frame: np.ndarray) -> None:
        with atomic_write(numbered(path, next(number)), overwrite) as part:
            part.write_bytes(deep_images.coded(suffix, frame))

    if suffix in IMAGES:
        yield put_image
        return
    with encoder(
        path, VIDEOS[suffix], size, fps, tags=tags, timecode=timecode, overwrite=overwrite
    ) as put_frame:
        yield lambda frame: put_frame(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgba64le"))


def write_layer(
    path: PathLike,
    frames: Iterator[np.ndarray],
    fps: float,
    *,
    numbers: Iterable[int] | None = None,
    timecode: str | None = None,
    overwrite: bool = False,
) -> None:
    """`layer_writer` for frames that an iterator makes, one at a time."""
    start = next(frames)
    size = start.shape[1], start.shape[0]
    with layer_writer(path, size, fps, numbers=numbers, timecode=timecode, overwrite=overwrite) as put:
        put(start)
        for frame in frames:
            put(frame)
