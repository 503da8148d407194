"""What `gencompositor evaluate --results` is asked to score, and how its files are read."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np

from gencompositor_jax import fields
from gencompositor_jax.data_pipelines import benchmark
from gencompositor_jax.errors import InputError
from gencompositor_jax.evaluation import layouts, manifest
from gencompositor_jax.evaluation.layouts import ReferenceClip
from gencompositor_jax.evaluation.measures import Clip
from gencompositor_jax.fields import Whole

Protocol = Literal["hyoutube", "trajectory", "procedural"]
Size = tuple[int, int]  # height and width

# Rows beside the methods': the protocol's input, and the ground truth, whose TL and warping error aren't 0.
INPUT, TRUTH = "input composite", "ground truth"
SIZES: dict[str, Size | None] = {"hyoutube": (256, 256), "trajectory": None, "procedural": None}


@dataclasses.dataclass(frozen=True)
class ResultsOptions:
    """What to score and how; checked when it is made. Raises InputError naming the option."""

    protocol: Protocol
    results: tuple[tuple[str, Path], ...]  # a method's name and its folder; the first is compared with others
    reference: Path
    clips: int | None = None  # only the first ones
    frames: int | None = None  # of each clip, the first ones; None: all
    stride: int = 1  # every n-th frame
    size: Size | Literal["protocol", "native"] = "protocol"  # to which both sides are resized
    metrics: tuple[str, ...] | None = None  # only these; None: all whose weights are there
    weights: Mapping[str, Path] = dataclasses.field(default_factory=dict)  # see `weights.GIVEN`

    def __post_init__(self) -> None:
        fields.read(Protocol, self.protocol, "--protocol")
        for name in ("clips", "frames"):
            fields.read(Annotated[Whole, fields.within(1, 10**6)] | None, getattr(self, name), f"--{name}")
        fields.read(Annotated[Whole, fields.within(1, 1000)], self.stride, "--stride")
        names = [name for name, _ in self.results]
        if not names:
            raise InputError("--results: pass the folder of a method's results")
        if len(set(names)) < len(names) or {INPUT, TRUTH} & set(names):
            raise InputError(f"--results: the names {', '.join(names)} must differ: write NAME=DIR")

    @property
    def resized_to(self) -> Size | None:
        """The size that is scored, None for the reference's own."""
        if self.size == "protocol":
            return SIZES[self.protocol]
        return None if self.size == "native" else self.size


def parse_results(given: str) -> tuple[str, Path]:
    """DIR or NAME=DIR; a folder whose path has a = is DIR. Raises InputError."""
    name, equals, folder = given.partition("=") if not Path(given).is_dir() else ("", "", given)
    name, folder = (name, folder) if equals else ("", folder or name)
    path = Path(folder)
    if not folder or (equals and not name.strip()):
        raise InputError(f"--results {given}: pass DIR, or NAME=DIR to name the method in the table")
    return name.strip() or path.absolute().name, path


def parse_size(given: str) -> Size | Literal["protocol", "native"]:
    """protocol, native, N or WxH, as (height, width). Raises InputError."""
    if given in ("protocol", "native"):
        return given  # type: ignore[return-value]
    sides = given.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and 11 <= int(side) <= 8192 for side in sides):
        raise InputError(f"--resize {given}: pass protocol, native, N or WIDTHxHEIGHT, of 11 pixels or more")
    return int(sides[-1]), int(sides[0])


def reference_clips(protocol: Protocol, folder: Path, clips: int | None) -> list[ReferenceClip]:
    """The clips of the protocol's reference. Raises InputError for a folder of another kind."""
    if protocol == "trajectory":
        return manifest.reference_clips(folder, clips)
    if protocol == "procedural":
        return benchmark_clips(folder, clips)
    return layouts.reference_clips(folder, clips)


def benchmark_clips(folder: Path, clips: int | None) -> list[ReferenceClip]:
    """The clips of the procedural benchmark, whose videos are named by their numbers. Raises InputError."""
    benchmark.read_subsets(folder)
    found = layouts.reference_clips(folder, clips)
    for clip in found:
        if not (clip.video.isdecimal() and int(clip.video) < benchmark.CLIPS):
            raise InputError(f"{folder}: {clip.name} is no clip of the benchmark; pass its own folder")
    return found


class Reference(NamedTuple):
    """A clip's reference, and how its frames are found in other files."""

    clip: Clip  # at the scored size, as a result of itself
    names: list[str] | None  # of the images that are scored; None for a video
    length: int  # frames of the whole clip, of which these are scored


def read_reference(clip: ReferenceClip, options: ResultsOptions) -> Reference:
    """The reference of a clip. Its mask's images say which frames it has.

    Raises InputError for sizes that differ, and for a clip that is shorter than the protocol says.
    """
    shown = clip.target or clip.background
    assert shown is not None
    names = layouts.image_names(clip)
    count = None if names is None else len(names)
    names = None if names is None else _chosen(names, options)
    video, count = _read(shown, names, clip, count, options)
    size = options.resized_to or video.shape[1:3]
    mask = None
    if clip.mask is not None:
        grey, _ = _read(clip.mask, names, clip, count, options)
        if grey.shape != video.shape:
            raise InputError(f"{clip.mask}: {_facts(grey)}, {shown} has {_facts(video)}: they must be equal")
        mask = layouts.inside(layouts.resized(grey, size, nearest=True), clip.mask)
    if clip.length is not None and count < clip.length:
        raise InputError(f"{shown}: has {count} frames, the manifest says {clip.length}")
    video = layouts.resized(video, size)
    own = Clip(video, None, mask, video) if clip.target is None else Clip(video, video, mask)
    return Reference(own, names, count)


def read_result(
    media: Path | list[Path], clip: ReferenceClip, reference: Reference, options: ResultsOptions
) -> np.ndarray:
    """A result at the scored size. Raises InputError for another number of frames, or another size where
    nothing is resized.
    """
    frames, _ = _read(media, reference.names, clip, reference.length, options)
    where = media if isinstance(media, Path) else media[0].parent
    if options.resized_to is None and frames.shape != reference.clip.frames.shape:
        raise InputError(
            f"{where}: {_facts(frames)}, its reference has {_facts(reference.clip.frames)}: write results at "
            "that size, or pass --resize"
        )
    return layouts.resized(frames, reference.clip.frames.shape[1:3])


def _facts(frames: np.ndarray) -> str:
    return f"{len(frames)} frames of {frames.shape[2]}x{frames.shape[1]} pixels"


def _chosen(items: Any, options: ResultsOptions) -> Any:
    return items[:: options.stride][: options.frames]


def _read(
    media: Path | list[Path],
    names: list[str] | None,
    clip: ReferenceClip,
    count: int | None,
    options: ResultsOptions,
) -> tuple[np.ndarray, int]:
    """A clip's chosen frames, and the number of all. A video is read whole, as its frames have no names; it
    must have `count` frames, or more where the protocol takes the first ones.
    """
    if names is not None and not (isinstance(media, Path) and media.is_file()):
        assert count is not None
        return layouts.read_clip(media, names), count
    frames = layouts.read_clip(media)
    found = len(frames) if clip.length is None else min(len(frames), clip.length)
    if count is not None and found != count:
        where = media if isinstance(media, Path) else media[0].parent
        raise InputError(f"{where}: has {len(frames)} frames, its reference has {count}")
    return np.asarray(_chosen(frames[:found], options)), found
