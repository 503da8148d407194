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
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from gencompositor_jax.controls.media import numbering
from gencompositor_jax.controls.media.images import SUFFIXES, read_images
from gencompositor_jax.controls.media.video import read_video
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import read_text

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
    alone: bool = True  # whether its video has no other object

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
    there = sorted({(path.parent.name, _item(path)) for path in masks.glob("*/*") if _is_media(path)})
    names = _listed(folder, there) or there
    if not names:
        raise InputError(f"{masks}: holds no VIDEO/OBJECT with images")
    check_clips(clips, len(names), folder)
    videos = [video for video, _ in {*names, *there}]
    found = []
    for video, item in names[:clips]:
        mask = media_at(masks / video / item)
        target = media_at(targets / video / item) or media_at(targets / video)
        if mask is None or target is None:
            missing = masks / video / item if mask is None else targets / video
            raise InputError(f"{missing}: is missing: complete the folder, or remove the clip from its list")
        composite = None if roots["composite"] is None else media_at(roots["composite"] / video / item)
        alone = videos.count(video) == 1
        found.append(ReferenceClip(video, item, target, mask, composite, alone=alone))
    return found


def check_clips(clips: int | None, there: int, folder: Path) -> None:
    """Raises InputError where more clips are asked for than there are."""
    if clips is not None and clips > there:
        raise InputError(f"--clips {clips}: {folder} has {there}: pass {there} or less, or leave it out")


def result_of(results: Path, clip: ReferenceClip) -> Path | list[Path]:
    """A method's result for a clip: a folder, a video, or images of a flat folder. Raises InputError if there
    is none.
    """
    joined = clip.name.replace("/", "_")
    places = [results / clip.name, results / joined]
    for place in [*places, *([results / clip.video] if clip.alone else [])]:
        if (media := media_at(place)) is not None:
            return media
    flat = _images(results.glob(f"{_escape(joined)}_*"))
    if flat:
        return flat
    raise InputError(f"{results}: has no result for {clip.name}: expected {places[0]}/, .mp4, or {joined}_*")


def check_complete(results: Path, clips: Sequence[ReferenceClip]) -> list[Path | list[Path]]:
    """The result of every clip. Raises InputError that counts the missing ones and names the first."""
    if not results.is_dir():
        raise InputError(f"{results}: no such folder: pass the folder of a method's results")
    found, missing = [], []
    for clip in clips:
        try:
            found.append(result_of(results, clip))
        except InputError as error:
            missing.append(str(error))
    if missing:
        raise InputError(f"{missing[0]} ({len(missing)} of {len(clips)} clips are missing)")
    return found


def media_at(place: Path) -> Path | None:
    """A folder with images, or a video file of that name; None if there is neither."""
    if place.is_dir() and _images(place.iterdir()):
        return place
    files = (place.with_name(place.name + ending) for ending in VIDEOS)
    return next((path for path in files if path.is_file()), None)


def files_of(media: Path) -> list[Path]:
    """The images of a folder in the order of their numbers, or the video."""
    return _images(media.iterdir()) if media.is_dir() else [media]


def frame_names(media: Path) -> list[str] | None:
    """The names of a folder's images without their endings, in the order of their numbers; None for a video.

    Raises InputError for a folder without images.
    """
    if not media.is_dir():
        return None
    names = [path.stem for path in files_of(media)]
    if not names:
        raise InputError(f"{media}: holds no images: pass a folder of images, or a video")
    return names


def image_names(clip: ReferenceClip) -> list[str] | None:
    """The names of a clip's images, those of its mask if it has one; None where all is video."""
    shown = clip.target or clip.background
    names = (frame_names(media) for media in (clip.mask, shown) if media is not None)
    found = next((each for each in names if each is not None), None)
    return None if found is None else found[: clip.length]


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
    images = files_of(media) if isinstance(media, Path) else media
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


def inside(grey: np.ndarray, where: Path) -> np.ndarray:
    """bool [T, H, W] of a mask's frames, uint8 [T, H, W, 3]. Raises InputError where all are nearly black."""
    covered: np.ndarray = grey.max(axis=-1) >= INSIDE
    brightest = int(grey.max(initial=0))
    if 0 < brightest < INSIDE:
        raise InputError(f"{where}: its largest value is {brightest}: write the element as 255, or {INSIDE}")
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


def _images(files: Iterable[Path]) -> list[Path]:
    """The images among files, in the order of their numbers, as a folder is read elsewhere."""
    found = [path for path in files if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    return sorted((path for path in found if path.is_file()), key=numbering.order)


def _is_media(path: Path) -> bool:
    return not path.name.startswith(".") and (path.is_dir() or path.suffix.lower() in VIDEOS)


def _item(path: Path) -> str:
    return path.name if path.is_dir() else path.stem


def _either(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def _listed(folder: Path, there: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The clips of a list; names with spaces are found among those that are there."""
    file = next((folder / name for name in LISTS if (folder / name).is_file()), None)
    if file is None:
        return []
    spaced = {f"{video}/{item}": (video, item) for video, item in there if " " in f"{video}{item}"}
    names = []
    for line in read_text(file).splitlines():
        text = line.replace("\\", "/").strip()
        if not text:
            continue
        ends = [spaced[name] for name in spaced if re.search(rf"(^|[/\s]){re.escape(name)}$", text)]
        parts = text.split()[-1].split("/")
        if not ends and len(parts) < 2:
            raise InputError(f"{file}: a line doesn't end in VIDEO/OBJECT: use the list of the data set")
        names.append(max(ends, key=lambda name: len("/".join(name))) if ends else (parts[-2], parts[-1]))
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise InputError(f"{file}: {'/'.join(twice[0])} stands in it twice: remove one line")
    return names


def _escape(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)
