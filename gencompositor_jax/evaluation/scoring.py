"""Scores folders of results against a protocol's reference; the command `gencompositor evaluate --results`.

    report = score(ResultsOptions("hyoutube", (("mine", Path("results")),), Path("HYouTube")))

Values are means over a clip's frames, then over clips. The report states what the protocols leave open: the
number of clips, their length, the stride and the size.
"""

import dataclasses
import importlib.metadata
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import tqdm

from gencompositor_jax import arch, fields
from gencompositor_jax.data_pipelines import benchmark
from gencompositor_jax.errors import InputError
from gencompositor_jax.evaluation import layouts, measures, statistics
from gencompositor_jax.evaluation.layouts import ReferenceClip
from gencompositor_jax.evaluation.measures import Clip, Measure
from gencompositor_jax.evaluation.metrics import frames as per_frame
from gencompositor_jax.evaluation.published import PUBLISHED

Protocol = Literal["hyoutube", "procedural"]
Size = tuple[int, int]  # height and width

# Rows beside the methods': the protocol's input, and the ground truth, whose TL and warping error aren't 0.
INPUT, TRUTH = "input composite", "ground truth"
SIZES: dict[str, Size | None] = {"hyoutube": (256, 256), "procedural": None}


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

    def __post_init__(self) -> None:
        fields.choice(self.protocol, "--protocol", get_args(Protocol))
        for name in ("clips", "frames"):
            fields.optional(partial(fields.integer, low=1, high=10**6))(getattr(self, name), f"--{name}")
        fields.integer(self.stride, "--stride", 1, 1000)
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


def measures_of(protocol: Protocol) -> dict[str, Measure]:
    """The metrics of a protocol that need no weights, in the order of the columns."""
    common = {**measures.HARMONISATION, **measures.WARPING}
    return {**common, **measures.regions(arch.tiny().inflation)} if protocol == "procedural" else common


def score(options: ResultsOptions) -> dict[str, Any]:
    """The report: JSON values. Raises InputError for files that are missing or don't fit, the first by name.

    All methods' files are looked for before the first clip is read.
    """
    clips = layouts.reference_clips(options.reference, options.clips)
    if options.protocol == "procedural":
        benchmark.read_subsets(options.reference)
    found = {name: layouts.check_complete(folder, clips) for name, folder in options.results}
    chosen = measures_of(options.protocol)
    values: dict[str, dict[str, dict[str, float]]] = {name: {} for name in found}
    if all(clip.composite is not None for clip in clips):
        values[INPUT] = {}
    values[TRUTH] = {}
    lengths, sizes = set(), set()
    for number, clip in enumerate(tqdm.tqdm(clips, desc=options.protocol, unit="clip")):
        truth, names = read_reference(clip, options)
        assert truth.target is not None
        lengths.add(len(truth.target))
        sizes.add(truth.target.shape[1:3])
        for method, scores in values.items():
            candidate = truth
            if method != TRUTH:
                media = clip.composite if method == INPUT else found[method][number]
                assert media is not None
                candidate = dataclasses.replace(
                    truth, frames=read_result(media, names, truth.target, options)
                )
            scores[clip.name] = {
                name: measure.compute(candidate)
                for name, measure in chosen.items()
                if measure.fits(candidate)
            }
    return {
        "protocol": stated(options, len(clips), lengths, sizes),
        "columns": {name: column(measure) for name, measure in chosen.items()},
        "methods": {name: summary(scores, chosen) for name, scores in values.items()},
        "differences": differences(values, chosen),
        "subsets": subsets(options, values, chosen),
        "published": [dataclasses.asdict(row) for row in PUBLISHED[options.protocol]],
        "absent": {},
        "clips": rounded(values),
        "versions": {
            name: importlib.metadata.version(name) for name in ("numpy", "opencv-python-headless", "av")
        },
    }


def read_reference(clip: ReferenceClip, options: ResultsOptions) -> tuple[Clip, list[str] | None]:
    """The ground truth and mask at the scored size, and the names of the images, None for a video.

    The mask's images say which frames a clip has. Raises InputError for sizes that differ.
    """
    names = layouts.frame_names(clip.mask) or layouts.frame_names(clip.target)
    names = None if names is None else _chosen(names, options)
    mask = _read(clip.mask, names, options)
    target = _read(clip.target, names, options)
    if target.shape != mask.shape:
        raise InputError(
            f"{clip.mask}: {mask.shape[0]} frames of {mask.shape[2]}x{mask.shape[1]}, {clip.target} has "
            f"{target.shape[0]} of {target.shape[2]}x{target.shape[1]}: they must be equal"
        )
    size = options.resized_to or target.shape[1:3]
    covered = layouts.inside(layouts.resized(mask, size, nearest=True))
    target = layouts.resized(target, size)
    return Clip(target, target, covered), names


def read_result(
    media: Path | list[Path], names: list[str] | None, target: np.ndarray, options: ResultsOptions
) -> np.ndarray:
    """A result at the scored size. Raises InputError for another number of frames, or another size where
    nothing is resized.
    """
    frames = _read(media, names, options)
    where = media if isinstance(media, Path) else media[0].parent
    if len(frames) != len(target):
        raise InputError(f"{where}: has {len(frames)} frames, its reference has {len(target)}")
    if options.resized_to is None and frames.shape != target.shape:
        raise InputError(
            f"{where}: {frames.shape[2]}x{frames.shape[1]} pixels, its reference has {target.shape[2]}x"
            f"{target.shape[1]}: write results at that size, or pass --resize"
        )
    return layouts.resized(frames, target.shape[1:3])


def summary(scores: dict[str, dict[str, float]], chosen: dict[str, Measure]) -> dict[str, Any]:
    """Mean and 95 % bootstrap interval of each metric over the clips that have it; None for no clip."""
    return {name: _interval(column) for name, column in _columns(scores, chosen).items()}


def differences(values: dict[str, dict[str, dict[str, float]]], chosen: dict[str, Measure]) -> dict[str, Any]:
    """The first method minus each other one, with paired bootstrap intervals."""
    first, *others = (name for name in values if name != TRUTH)
    ours = _columns(values[first], chosen)
    return {
        other: {
            name: _interval(np.subtract(ours[name], theirs))
            for name, theirs in _columns(values[other], chosen).items()
        }
        for other in others
    }


def subsets(
    options: ResultsOptions, values: dict[str, dict[str, dict[str, float]]], chosen: dict[str, Measure]
) -> dict[str, Any]:
    """`summary` over the clips of each idea of the procedural benchmark; empty for other protocols."""
    if options.protocol != "procedural":
        return {}
    out = {}
    for idea, names in benchmark.read_subsets(options.reference).items():
        within = {
            method: {clip: row for clip, row in scores.items() if clip.split("/")[0] in names}
            for method, scores in values.items()
        }
        count = len(next(iter(within.values())))
        if count:
            methods = {method: summary(scores, chosen) for method, scores in within.items()}
            out[idea] = {"clips": count, "methods": methods}
    return out


def stated(options: ResultsOptions, clips: int, lengths: set[int], sizes: set[Size]) -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "name": options.protocol,
        "methods": {name: str(folder) for name, folder in options.results},
        "reference": str(options.reference),
        "clips": clips,
        "frames_per_clip": sorted(lengths),
        "stride": options.stride,
        "height_width": sorted(list(size) for size in sizes),
        "resize": "none" if options.resized_to is None else "bilinear, masks nearest",
        "order": "mean over a clip's frames, then over clips; intervals: 95 % bootstrap over clips",
        "psnr": f"peak 255, or the target's largest value; at most {per_frame.EXACT:g} dB per frame",
        "flow": "OpenCV DIS, medium preset, of the ground truth; frame t + 1 is the clip's own",
    }


def column(measure: Measure) -> dict[str, Any]:
    """A metric's heading and how to print it."""
    return {"label": measure.label, "better": measure.better, "digits": measure.digits}


def rounded(values: dict[str, dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Every clip's values with six significant digits; NaN, which JSON lacks, as None."""

    def number(value: float) -> float | None:
        return None if np.isnan(value) else float(f"{value:.6g}")

    return {
        method: {clip: {name: number(v) for name, v in row.items()} for clip, row in scores.items()}
        for method, scores in values.items()
    }


def _columns(scores: dict[str, dict[str, float]], chosen: dict[str, Measure]) -> dict[str, np.ndarray]:
    return {
        name: np.array([row[name] for row in scores.values()])
        for name in chosen
        if all(name in row for row in scores.values())
    }


def _interval(values: np.ndarray) -> dict[str, float | None] | None:
    if np.isnan(values).all():
        return None
    return {
        name: None if value is None else float(f"{value:.6g}")
        for name, value in statistics.bootstrap(values)._asdict().items()
    }


def _chosen(items: Any, options: ResultsOptions) -> Any:
    return items[:: options.stride][: options.frames]


def _read(media: Path | list[Path], names: list[str] | None, options: ResultsOptions) -> np.ndarray:
    """A clip's chosen frames; a video is read whole, as its frames have no names."""
    video = isinstance(media, Path) and media.is_file()
    if names is None or video:
        return np.asarray(_chosen(layouts.read_clip(media), options))
    return layouts.read_clip(media, names)
