"""Where a protocol's files are: references, and any method's results for them.

HYouTube, in both of its spellings (frames as images; a video file in place of a folder is read, too):

    REFERENCE/Ground-truth/VIDEO/IMG.jpg                or  real_videos/VIDEO/IMG.jpg
              Mask/VIDEO/OBJECT/IMG.png                     foreground_mask/VIDEO/object_0/IMG.png
              Composite/VIDEO/OBJECT/IMG.jpg                synthetic_composite_videos/VIDEO/object_0/IMG.jpg
              test_list.txt                             optional; the last path of a line ends in VIDEO/OBJECT

The procedural benchmark has the same folders and `benchmark.json`. Results of a clip are looked for as

    RESULTS/VIDEO/OBJECT/IMG.jpg   RESULTS/VIDEO/OBJECT.mp4   RESULTS/VIDEO_OBJECT/IMG.jpg
    RESULTS/VIDEO_OBJECT.mp4       RESULTS/VIDEO_OBJECT_IMG.jpg

and, if the video has a single object, as RESULTS/VIDEO/IMG.jpg and RESULTS/VIDEO.mp4. Images belong to the
reference's images of the same name; IMG_harmonized.jpg and VIDEO_OBJECT_IMG.jpg are found, too. A video's
frames are taken in order, and there must be as many.
"""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from gencompositor_jax.controls.media.images import SUFFIXES, read_images
from gencompositor_jax.controls.media.video import read_video
from gencompositor_jax.errors import InputError

SPELLINGS = {
    "target": ("Ground-truth", "real_videos"),
    "mask": ("Mask", "foreground_mask"),
    "composite": ("Composite", "synthetic_composite_videos"),
}
LISTS = ("test_list.txt", "test.txt")
VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi")
INSIDE = 128  # grey from which a pixel of a mask is inside


@dataclasses.dataclass(frozen=True)
class ReferenceClip:
    """One clip of a protocol; each path is a folder of images or a video file."""

    video: str
    object: str  # empty for protocols without objects
    target: Path | None
    mask: Path | None
    composite: Path | None = None
    background: Path | None = None  # of protocols without a target
    length: int | None = None  # frames, the first of each file; None: all

    @property
    def name(self) -> str:
        """VIDEO/OBJECT."""
        return f"{self.video}/{self.object}" if self.object else self.video


def reference_clips(folder: Path, clips: int | None = None) -> list[ReferenceClip]:
    """The clips of a folder in HYouTube's layout: those of its list, or of its masks in the order of names.

    clips: only the first ones. Raises InputError for a folder without them, and for a clip without target.
    """
    roots = {kind: _either(folder, names) for kind, names in SPELLINGS.items()}
    masks, targets = roots["mask"], roots["target"]
    if masks is None or targets is None:
        wanted = " and ".join("|".join(SPELLINGS[kind]) for kind in ("target", "mask"))
        raise InputError(f"{folder}: isn't in HYouTube's layout: the folders {wanted} are needed")
    names = _listed(folder)
    if not names:
        names = sorted({(path.parent.name, path.stem) for path in masks.glob("*/*") if _is_media(path)})
    if not names:
        raise InputError(f"{masks}: holds no VIDEO/OBJECT with images")
    check_clips(clips, len(names), folder)
    found = []
    for video, item in names[:clips]:
        mask = media_at(masks / video / item)
        target = media_at(targets / video / item) or media_at(targets / video)
        if mask is None or target is None:
            missing = masks / video / item if mask is None else targets / video
            raise InputError(f"{missing}: is missing: complete the folder, or remove the clip from its list")
        composite = None if roots["composite"] is None else media_at(roots["composite"] / video / item)
        found.append(ReferenceClip(video, item, target, mask, composite))
    return found


def check_clips(clips: int | None, there: int, folder: Path) -> None:
    """Raises InputError where more clips are asked for than there are."""
    if clips is not None and clips > there:
        raise InputError(f"--clips {clips}: {folder} has {there}: pass {there} or less, or leave it out")


def result_of(results: Path, clip: ReferenceClip, alone: bool) -> Path | list[Path]:
    """A method's result for a clip: a folder, a video, or images of a flat folder.

    alone: whether the video has no other object. Raises InputError if there is none.
    """
    joined = clip.name.replace("/", "_")
    places = [results / clip.name, results / joined]
    for place in [*places, *([results / clip.video] if alone else [])]:
        if (media := media_at(place)) is not None:
            return media
    flat = sorted(path for path in results.glob(f"{_escape(joined)}_*") if path.suffix.lower() in SUFFIXES)
    if flat:
        return flat
    raise InputError(f"{results}: has no result for {clip.name}: expected {places[0]}/, .mp4, or {joined}_*")


def check_complete(results: Path, clips: Sequence[ReferenceClip]) -> list[Path | list[Path]]:
    """The result of every clip. Raises InputError that counts the missing ones and names the first."""
    if not results.is_dir():
        raise InputError(f"{results}: no such folder: pass the folder of a method's results")
    objects = [clip.video for clip in clips]
    found, missing = [], []
    for clip in clips:
        try:
            found.append(result_of(results, clip, objects.count(clip.video) == 1))
        except InputError as error:
            missing.append(str(error))
    if missing:
        raise InputError(f"{missing[0]} ({len(missing)} of {len(clips)} clips are missing)")
    return found


def media_at(place: Path) -> Path | None:
    """A folder with images, or a video file of that name; None if there is neither."""
    if place.is_dir() and any(path.suffix.lower() in SUFFIXES for path in place.iterdir()):
        return place
    files = (place.with_name(place.name + ending) for ending in VIDEOS)
    return next((path for path in files if path.is_file()), None)


def frame_names(media: Path) -> list[str] | None:
    """The names of a folder's images without their endings; None for a video."""
    return [path.stem for path in _images(media)] if media.is_dir() else None


def read_clip(media: Path | list[Path], names: list[str] | None = None) -> np.ndarray:
    """The frames of a clip, uint8 [T, H, W, 3].

    names: the images to take, in this order; None, or a video: all frames. Raises InputError that names what
    is missing or can't be read.
    """
    if isinstance(media, Path) and (media.is_file() or names is None):
        frames = read_video(media).frames
        if names is not None and len(frames) != len(names):
            raise InputError(f"{media}: has {len(frames)} frames, its reference has {len(names)}")
        return frames
    images = _images(media) if isinstance(media, Path) else media
    names = [path.stem for path in images] if names is None else names
    frames_by_size = list(read_images([_named(images, name) for name in names], alpha=False))
    if len({frame.shape for frame in frames_by_size}) > 1:
        raise InputError(f"{images[0].parent}: its images have several sizes: write them with one")
    return np.stack(frames_by_size)


def resized(frames: np.ndarray, size: tuple[int, int], nearest: bool = False) -> np.ndarray:
    """uint8 [T, H, W, 3] at (height, width): bilinear without antialiasing, as in the field, or nearest."""
    if frames.shape[1:3] == size:
        return frames
    rule = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    return np.stack([cv2.resize(frame, size[::-1], interpolation=rule) for frame in frames])


def inside(grey: np.ndarray) -> np.ndarray:
    """bool [T, H, W] of a mask's frames, uint8 [T, H, W, 3]."""
    covered: np.ndarray = grey.max(axis=-1) >= INSIDE
    return covered


def _named(images: Sequence[Path], name: str) -> Path:
    """The image of that name; several that have it as a part of theirs: the one called harmonized."""
    exact = [path for path in images if path.stem == name]
    part = re.compile(rf"(^|[_-]){re.escape(name)}($|[_-])")
    found = exact or [path for path in images if part.search(path.stem)]
    if len(found) > 1:
        found = [path for path in found if "harmonized" in path.stem] or found
    if len(found) != 1:
        what = "has no image" if not found else f"has {len(found)} images"
        raise InputError(f"{images[0].parent}: {what} named {name}: name results as their references")
    return found[0]


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def _is_media(path: Path) -> bool:
    return path.is_dir() or path.suffix.lower() in VIDEOS


def _either(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def _listed(folder: Path) -> list[tuple[str, str]]:
    file = next((folder / name for name in LISTS if (folder / name).is_file()), None)
    if file is None:
        return []
    lines = [line.split()[-1] for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    parts = [line.replace("\\", "/").split("/") for line in lines]
    if any(len(part) < 2 for part in parts):
        raise InputError(f"{file}: a line doesn't end in VIDEO/OBJECT: use the list of the data set")
    return [(part[-2], part[-1]) for part in parts]


def _escape(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)
