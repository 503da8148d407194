"""A list of your own clips: a video, a mask of the element in it, and optionally the empty scene.

The list is a CSV with a header line, or a JSONL file with one object per line. Columns: `target` and `mask`
(videos or folders of images; a mask may be a single image), and optionally `background`, `caption`, `name`,
`start` (seconds). Paths are relative to the list. The foreground is derived: the pixels under the mask, moved
to the centre of the frame, on white.
"""

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from gencompositor_jax.controls.geometry.view import make_view, mask_to_model, to_model
from gencompositor_jax.controls.media.masks import read_mask
from gencompositor_jax.controls.media.video import Media, probe, read_video
from gencompositor_jax.data_pipelines.source import ClipArrays
from gencompositor_jax.data_pipelines.videocomp import column_count
from gencompositor_jax.errors import InputError
from gencompositor_jax.fields import Text, read, shorten, shown
from gencompositor_jax.files import open_table, parse_json

INSIDE = 128  # grey from which a pixel of a mask is inside
OPTIONAL = ("background", "caption", "name", "start")
KNOWN = ("target", "mask", *OPTIONAL)


@dataclasses.dataclass(frozen=True)
class ListedClip:
    """One line of a list."""

    folder: Path
    target: str
    mask: str
    background: str = ""
    caption: str = ""
    name: str = ""  # the target's path if none is given
    start: float = 0.0  # seconds


def read_list(path: Path) -> list[ListedClip]:
    """The clips of a .csv or .jsonl file. Raises InputError, naming the line, for what can't be read."""
    try:
        with open_table(path) as file:
            if path.suffix.lower() == ".csv":
                reader = csv.DictReader(file)
                lines = [(reader.line_num, fields) for fields in reader]
            else:
                lines = [
                    (n, parse_json(text, str(path), n)) for n, text in enumerate(file, 1) if text.strip()
                ]
    except csv.Error as error:
        raise InputError(f"{path}: can't be read as a list of clips ({error})") from error
    clips: list[ListedClip] = []
    known: dict[ListedClip, int] = {}
    for number, fields in lines:
        clip = _clip(path, number, fields)
        if clip in known:
            raise InputError(
                f"{path}: line {number}: is the same clip as line {known[clip]}: remove one of the two"
            )
        known[clip] = number
        clips.append(clip)
    if not clips:
        raise InputError(f"{path}: lists no clip")
    return clips


def read_listed(clip: ListedClip, frames: int, size: tuple[int, int], fps: float) -> ClipArrays:
    """One listed clip at the model's size: target, foreground, mask (the silhouette), background if given.

    Frames are sampled as for inference: the nearest one at each time start + i / fps. The aspect ratio is
    kept, borders repeat the edge pixels. Raises InputError, naming the file, for what can't be read, sizes
    that differ, a rate below `fps`, and an empty mask.
    """
    target = _video(clip, clip.target, frames, fps)
    native = target.shape[1:3]
    grey = _mask(clip, frames, fps)
    _check_size(clip, clip.mask, grey.shape[1:3], native)
    view = make_view(native, size)
    covered = grey >= INSIDE
    silhouette = mask_to_model(covered, view)
    if not silhouette.any():
        raise InputError(f"{clip.folder / clip.mask}: is empty: paint the element white")
    target = to_model(target, view)
    alpha = to_model(covered[..., None].astype(np.uint8) * 255, view)[..., 0]
    arrays = {
        "target": target,
        "foreground": centred(target, np.where(silhouette, alpha, 0)),
        "mask": silhouette,
    }
    if clip.background:
        background = _video(clip, clip.background, frames, fps)
        _check_size(clip, clip.background, background.shape[1:3], native)
        arrays["background"] = to_model(background, view)
    return arrays


def centred(frames: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Composite frames over white under `alpha`, moved by whole pixels so that its box is centred.

    uint8 [T, H, W, 3] and uint8 [T, H, W] -> uint8 [T, H, W, 3]; frames without alpha are white.
    """
    height, width = frames.shape[1:3]
    out = np.full_like(frames, 255)
    for frame, cover, drawn in zip(frames, alpha, out, strict=True):
        rows, columns = np.flatnonzero(cover.any(1)), np.flatnonzero(cover.any(0))
        if not len(rows):
            continue
        part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        h, w = rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0]
        top, left = (height - h) // 2, (width - w) // 2
        opacity = cover[part][..., None].astype(np.float32) / 255
        element = frame[part].astype(np.float32)
        drawn[top : top + h, left : left + w] = np.rint(255 + opacity * (element - 255))
    return out


def _mask(clip: ListedClip, frames: int, fps: float) -> np.ndarray:
    """uint8 [frames, H, W]; a single image is repeated."""
    media = _probe(clip, clip.mask, fps)
    if media.frames == 1:
        return np.repeat(read_mask(media), frames, axis=0)
    return read_mask(media, fps, clip.start, frames=frames)


def _video(clip: ListedClip, name: str, frames: int, fps: float) -> np.ndarray:
    """uint8 [frames, H, W, 3]."""
    return read_video(_probe(clip, name, fps), fps=fps, start=clip.start, frames=frames).frames


def _probe(clip: ListedClip, name: str, fps: float) -> Media:
    path = clip.folder / name
    media = probe(path)
    if (
        media.frames > 1 and media.codec != "images" and media.fps < fps * 0.99
    ):  # images have no rate of their own
        raise InputError(
            f"{path}: has {media.fps:.4g} frames per second, clips are sampled at {fps:g}: pass a lower --fps"
        )
    return media


def _check_size(clip: ListedClip, name: str, size: tuple[int, ...], native: tuple[int, ...]) -> None:
    if size != native:
        raise InputError(
            f"{clip.folder / name}: {size[1]}x{size[0]} pixels, but {clip.folder / clip.target} has "
            f"{native[1]}x{native[0]}: make them one size"
        )


def _clip(path: Path, line: int, fields: Any) -> ListedClip:
    where = f"{path}: line {line}"
    if not isinstance(fields, dict):
        raise InputError(f"{where}: isn't an object with the fields target and mask")
    if None in fields and (wrong := column_count(fields)) is not None:
        raise InputError(f"{where}: {wrong}")
    fields = {name: value for name, value in fields.items() if value not in (None, "")}
    unknown = [str(name) for name in fields if name not in KNOWN]
    if unknown:
        raise InputError(f"{where}: unknown field {shorten(unknown[0])}; known are {', '.join(KNOWN)}")
    missing = [name for name in ("target", "mask") if name not in fields]
    if missing:
        raise InputError(f"{where}: field {missing[0]} is missing")
    given = {name: value for name, value in fields.items() if name != "start"}
    texts = read(dict[str, Text], given, where)
    try:
        start = float(fields.get("start", 0))
    except (TypeError, ValueError, OverflowError):
        start = -1.0
    if not 0 <= start < 1e9:
        raise InputError(f"{where}: start {shown(fields['start'])}: pass seconds, 0 or more")
    return ListedClip(path.parent, **{"name": texts["target"], **texts}, start=start)
