"""The training folder of the PyTorch release.

    FOLDER/GTs/NAME.mp4                     the target (ground truth)
           fg/NAME.mp4                      the element, centred on a white square (576 pixels)
           filtered_mask/NAME.mp4           the target region, white
           filtered_masked_video/NAME.mp4   GTs with the target region black (not read: made here)
           inpainted_sum/NAME.mp4           the scene without the element
           fg/white_video.mp4               the release's foreground of removal samples (not read)
           ANY.csv                          path, start_frame, end_frame, fps, caption

Frame n of one kind belongs to frame n of the others. The masks of this folder are inflated already, by the
release's Gaussian filter, and aren't inflated again.
"""

import csv
import dataclasses
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gencompositor_jax.arch import ModelArch
from gencompositor_jax.controls.geometry.view import make_view, mask_to_model, to_model
from gencompositor_jax.data_pipelines.foreground_fit import fit_foreground
from gencompositor_jax.data_pipelines.reading import read_frames
from gencompositor_jax.data_pipelines.source import ClipArrays
from gencompositor_jax.errors import InputError
from gencompositor_jax.fields import shown
from gencompositor_jax.files import open_table

TARGET, FOREGROUND, MASK, MASKED, BACKGROUND = KINDS = (
    "GTs",
    "fg",
    "filtered_mask",
    "filtered_masked_video",
    "inpainted_sum",
)
WHITE_VIDEO = "fg/white_video.mp4"
COLUMNS = ("path", "start_frame", "end_frame", "fps", "caption")
CAPTION = 50  # a usable row's caption has more characters
FPS = 8.0  # frames per second of clips
INSIDE = 128  # grey from which a pixel of a mask is inside

Start = Literal["first", "random"]


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the CSV: the frames `start` to `end` - 1 of a clip's five videos."""

    folder: Path
    file: str  # NAME.mp4
    start: int
    end: int
    fps: float
    caption: str

    def video(self, kind: str) -> Path:
        """The file of one of KINDS."""
        return self.folder / kind / self.file

    @property
    def name(self) -> str:
        """Unique among the distinct rows of a folder."""
        return f"{self.file}@{self.start}"


class VideoCompSource:
    """The usable rows, as clips at a model's size (see `data_pipelines.source.ClipSource`).

    A clip is every `stride`-th frame from `start_frame` on, or from a random later frame that leaves enough.
    The scene is the target itself, so the masked background shows shadows outside the mask. A removal sample
    reads `inpainted_sum` and the mask, any other sample `GTs`, `fg` and the mask; nothing else is decoded.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        arch: ModelArch,
        *,
        fps: float = FPS,
        start: Start = "first",
        csv_file: str | os.PathLike[str] | None = None,
    ) -> None:
        """Read the CSV, but no video.

        Args:
            folder: the data folder.
            arch: the model's, for its frames and size.
            fps: rate to sample at; see `stride`.
            start: first frame of a clip among those of its row.
            csv_file: which CSV, if the folder holds several.

        Raises:
            InputError: no CSV, a line of it can't be read, or no row is usable.
        """
        self.folder, self.fps, self.start = Path(folder), fps, start
        self.frames, self.size = arch.frames, (arch.height, arch.width)
        csv_path = find_csv(self.folder, csv_file)
        rows, wrong = read_rows(csv_path, self.folder)
        if wrong:
            more = f" (and {len(wrong) - 1} more lines; gencompositor data check lists them)"
            raise InputError(f"{csv_path}: {wrong[0]}{more if wrong[1:] else ''}")
        reasons = [why_not(row, self.frames, fps) for row in rows]
        self.rows = [row for row, reason in zip(rows, reasons, strict=True) if reason is None]
        if not self.rows:
            counts = Counter(reason for reason in reasons if reason is not None)
            why = ", ".join(f"{count} with {reason}" for reason, count in counts.items()) or "it is empty"
            raise InputError(f"{csv_path}: no row is usable: {why}")

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        """The target's file."""
        return str(self.rows[index].video(TARGET))

    def read(self, index: int, rng: np.random.Generator, removal: bool) -> ClipArrays:
        """One clip; see `ClipSource.read`."""
        row = self.rows[index]
        numbers = frame_numbers(row, self.frames, self.fps)
        if self.start == "random":
            numbers = numbers + rng.integers(row.end - numbers[-1])
        return read_clip(row, numbers, self.size, removal)


def read_clip(row: Row, numbers: np.ndarray, size: tuple[int, int], removal: bool) -> ClipArrays:
    """The frames `numbers` [T] of a row at the model's size (H, W), aspect kept; see `ClipSource.read`.

    Raises InputError, naming the file: missing, too short, of another rate than the row's, sizes that don't
    match, a foreground that isn't square, an empty mask.
    """
    scene_kind = BACKGROUND if removal else TARGET
    # A row states the rate of GTs; the others were made frame by frame and may have any.
    scene = read_frames(row.video(scene_kind), numbers, None if removal else row.fps)
    grey = read_frames(row.video(MASK), numbers)
    if grey.shape != scene.shape:
        raise InputError(
            f"{row.video(MASK)}: {grey.shape[2]}x{grey.shape[1]} pixels where {row.video(scene_kind)} has "
            f"{scene.shape[2]}x{scene.shape[1]}: make them one size"
        )
    view = make_view((scene.shape[1], scene.shape[2]), size)
    mask = region(grey)
    if not mask.any():
        raise InputError(f"{row.video(MASK)}: is empty in frames {numbers[0]} to {numbers[-1]}")
    if view.native != view.model:
        scene, mask = to_model(scene, view), mask_to_model(mask, view)
    if removal:
        foreground = np.full_like(scene, 255)
    else:
        square = read_frames(row.video(FOREGROUND), numbers)
        if square.shape[1] != square.shape[2]:
            raise InputError(
                f"{row.video(FOREGROUND)}: {square.shape[2]}x{square.shape[1]} pixels: "
                "a square with the element in its centre is expected"
            )
        foreground = fit_foreground(square, size)
    return {"target": scene, "scene": scene, "foreground": foreground, "mask": mask}


def region(grey: np.ndarray) -> np.ndarray:
    """bool [T, H, W] of a mask video, uint8 [T, H, W, 3]: where green is at least INSIDE."""
    return grey[..., 1] >= INSIDE


def stride(source_fps: float, fps: float = FPS) -> int:
    """Step between sampled frames: the rounded rate (23.976 counts as 24) // fps; 0 if that is too low.

    Frames are evenly spaced, so 30 frames per second are sampled at 10 rather than 8, as in the release.
    """
    return int(round(source_fps) / fps + 1e-9)


def frame_numbers(row: Row, frames: int, fps: float = FPS) -> np.ndarray:
    """int64 [frames]: the first clip of a usable row."""
    return row.start + stride(row.fps, fps) * np.arange(frames)


def why_not(row: Row, frames: int, fps: float = FPS) -> str | None:
    """Why a row isn't usable. None if (end - start) // stride >= frames and the caption is long enough."""
    if len(row.caption) <= CAPTION:
        return f"a caption of at most {CAPTION} characters"
    if stride(row.fps, fps) < 1:
        return f"less than {fps:g} frames per second"
    if (row.end - row.start) // stride(row.fps, fps) < frames:
        return f"less than {frames} frames at {fps:g} frames per second"
    return None


def find_csv(folder: Path, csv_file: str | os.PathLike[str] | None = None) -> Path:
    """The CSV of a folder. Raises InputError if there is none, or one of several must be named."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    if csv_file is not None:
        if not Path(csv_file).is_file():
            raise InputError(f"{csv_file}: no such file")
        return Path(csv_file)
    found = sorted(folder.glob("*.csv"))
    if len(found) != 1:
        what = "no CSV" if not found else f"several CSVs ({', '.join(path.name for path in found)})"
        raise InputError(
            f"{folder}: holds {what}: name the one with the columns {', '.join(COLUMNS)} (--csv)"
        )
    return found[0]


def read_rows(csv_path: Path, folder: Path) -> tuple[list[Row], list[str]]:
    """The rows of a CSV, and the problems of lines that can't be read ("line 7: ...").

    Raises InputError if it isn't a CSV or lacks a column.
    """
    rows, wrong = [], []
    try:
        with open_table(csv_path) as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(f"{csv_path}: has no column {', '.join(missing)}: add it to the header line")
            lines: dict[Row, int] = {}
            folders: dict[str, str] = {}  # the first folder that a file's name had
            for fields in reader:
                try:
                    row, above = _row(folder, fields), _folder_of(fields["path"])
                    if folders.setdefault(row.file, above) != above:
                        raise ValueError(
                            f"{row.file} is in {folders[row.file] or '.'} and in {above or '.'}, but the "
                            "videos' folders are flat: rename one of the two"
                        )
                    if row in lines:
                        raise ValueError(f"is the same clip as line {lines[row]}: remove one of the two")
                    lines[row] = reader.line_num
                    rows.append(row)
                except ValueError as error:
                    wrong.append(f"line {reader.line_num}: {error}")
    except csv.Error as error:
        raise InputError(f"{csv_path}: can't be read as CSV ({error})") from error
    return rows, wrong


def column_count(fields: Mapping[Any, Any]) -> str | None:
    """What is wrong with the number of columns of a line, as `csv.DictReader` returns it; None if nothing."""
    # A header line that ends with a comma has a column without a name, which takes a caption's second half.
    more = len(fields.get(None, ())) + bool((fields.get("") or "").strip())
    names = [name for name in fields if name]
    fewer = sum(fields[name] is None for name in names)
    if not more and not fewer:
        return None
    found, remedy = len(names) + more - fewer, "write one value for each"
    if more:
        remedy = "put double quotes around a text with commas"
    return f"has {found} columns, the header line has {len(names)}: {remedy}"


def _folder_of(path: str) -> str:
    return path.strip().replace("\\", "/").rpartition("/")[0].removeprefix("./")


def _row(folder: Path, fields: dict[str, str]) -> Row:
    """Raise ValueError that says which column is wrong."""
    if (wrong := column_count(fields)) is not None:
        raise ValueError(wrong)
    # The folder is flat: of a path only the file's name matters.
    file = fields["path"].strip().replace("\\", "/").rsplit("/", 1)[-1]
    if not file:
        raise ValueError("path is empty")
    numbers = {}
    for name in ("start_frame", "end_frame", "fps"):
        try:
            numbers[name] = float(fields[name])
        except ValueError:
            raise ValueError(f"{name} {shown(fields[name])} isn't a number") from None
    start, end, fps = numbers["start_frame"], numbers["end_frame"], numbers["fps"]
    if not (0 <= start < end < 2**40 and start == int(start) and end == int(end)):
        raise ValueError(f"start_frame {start:g} to end_frame {end:g} isn't a range of frame numbers")
    if not 0 < fps <= 1000:
        raise ValueError(f"fps {fps:g} isn't a frame rate from 0 to 1000")
    if not file.lower().endswith(".mp4"):
        file += ".mp4"
    return Row(folder, file, int(start), int(end), fps, fields["caption"].strip())
