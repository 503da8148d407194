"""What `gencompositor evaluate --results` is asked to score, and how its files are read."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from gencompositor_jax import fields
from gencompositor_jax.errors import InputError
from gencompositor_jax.evaluation import layouts
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
    """DIR or NAME=DIR. Raises InputError."""
    name, equals, folder = given.rpartition("=")
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


def read_reference(clip: ReferenceClip, options: ResultsOptions) -> tuple[Clip, list[str] | None]:
    """The reference at the scored size, as a result of itself, and the names of its images, None for a video.

    The mask's images say which frames a clip has. Raises InputError for sizes that differ.
    """
    shown = clip.target or clip.background
    assert shown is not None
    names = None if clip.mask is None else layouts.frame_names(clip.mask)
    names = names or layouts.frame_names(shown)
    names = None if names is None else _chosen(names, clip, options)
    video = _read(shown, names, clip, options)
    size = options.resized_to or video.shape[1:3]
    mask = None
    if clip.mask is not None:
        grey = _read(clip.mask, names, clip, options)
        if grey.shape != video.shape:
            raise InputError(f"{clip.mask}: {_facts(grey)}, {shown} has {_facts(video)}: they must be equal")
        mask = layouts.inside(layouts.resized(grey, size, nearest=True))
    video = layouts.resized(video, size)
    if clip.target is None:
        return Clip(video, None, mask, video), names
    return Clip(video, video, mask), names


def read_result(
    media: Path | list[Path],
    names: list[str] | None,
    clip: ReferenceClip,
    reference: np.ndarray,
    options: ResultsOptions,
) -> np.ndarray:
    """A result at the scored size. Raises InputError for another number of frames, or another size where
    nothing is resized.
    """
    frames = _read(media, names, clip, options)
    where = media if isinstance(media, Path) else media[0].parent
    if len(frames) != len(reference):
        raise InputError(f"{where}: has {len(frames)} frames, its reference has {len(reference)}")
    if options.resized_to is None and frames.shape != reference.shape:
        raise InputError(
            f"{where}: {_facts(frames)}, its reference has {_facts(reference)}: write results at that size, "
            "or pass --resize"
        )
    return layouts.resized(frames, reference.shape[1:3])


def _facts(frames: np.ndarray) -> str:
    return f"{len(frames)} frames of {frames.shape[2]}x{frames.shape[1]} pixels"


def _chosen(items: Any, clip: ReferenceClip, options: ResultsOptions) -> Any:
    return items[: clip.length][:: options.stride][: options.frames]


def _read(
    media: Path | list[Path], names: list[str] | None, clip: ReferenceClip, options: ResultsOptions
) -> np.ndarray:
    """A clip's chosen frames; a video is read whole, as its frames have no names."""
    if names is None or (isinstance(media, Path) and media.is_file()):
        return np.asarray(_chosen(layouts.read_clip(media), clip, options))
    return layouts.read_clip(media, names)
