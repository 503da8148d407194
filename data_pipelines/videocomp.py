"""The training folder of the PyTorch release, read as it is.

    FOLDER/GTs/NAME.mp4                     the right answer
           fg/NAME.mp4                      the element, centred on a white square (576 pixels)
           filtered_mask/NAME.mp4           the target region, white
           filtered_masked_video/NAME.mp4   GTs with the target region black (made here from the two others)
           inpainted_sum/NAME.mp4           the scene without the element
           fg/white_video.mp4               the release's foreground of removal samples (never read here)
           ANY.csv                          path, start_frame, end_frame, fps, caption

Frame n of one kind belongs to frame n of the others. The masks of this folder are inflated already (the
release has put them through its Gaussian filter), so nothing here inflates them again.
"""

import csv
import dataclasses
import os
from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np

from gencompositor_jax.arch import ModelArch
from gencompositor_jax.controls.geometry.view import make_view, mask_to_model, to_model
from gencompositor_jax.data_pipelines.foreground_fit import fit_foreground
from gencompositor_jax.data_pipelines.reading import read_frames
from gencompositor_jax.data_pipelines.source import ClipArrays
from gencompositor_jax.errors import InputError

TARGET, FOREGROUND, MASK, MASKED, BACKGROUND = KINDS = (
    "GTs",
    "fg",
    "filtered_mask",
    "filtered_masked_video",
    "inpainted_sum",
)
WHITE_VIDEO = "fg/white_video.mp4"
COLUMNS = ("path", "start_frame", "end_frame", "fps", "caption")
CAPTION = 50  # a row counts if its caption has more characters
FPS = 8.0  # frames per second that clips are sampled at
INSIDE = 128  # grey from which a pixel of a mask is inside

Start = Literal["first", "random"]


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the CSV: the frames `start` to `end` - 1 of one clip's five videos."""

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
        """Unique among the rows of a folder that doesn't repeat itself."""
        return f"{self.file}@{self.start}"


class VideoCompSource:
    """The rows that count, as clips at a model's size (see `data_pipelines.source.ClipSource`).

    A clip is every `stride`-th frame from `start_frame` on, or from a random later frame that leaves enough.
    The scene is the target itself: what the masked background is cut from has the element's shadow outside
    the region, if the folder's masks leave it there. A removal sample reads `inpainted_sum` and the mask, any
    other one reads `GTs`, `fg` and the mask, and nothing else is decoded.
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
        """Reads the CSV, and no video.

        Args:
            folder: the data folder.
            arch: the model's, for its frames and size.
            fps: rate to sample at; see `stride`.
            start: where a clip begins in its row's frames.
            csv_file: where the folder holds more than one CSV, which.

        Raises:
            InputError: no CSV, a line of it can't be read, or no row counts.
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
            said = ", ".join(f"{count} with {reason}" for reason, count in counts.items()) or "it is empty"
            raise InputError(f"{csv_path}: no row can be trained on: {said}")

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        """The right answer's file."""
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

    Raises InputError, naming the file: missing, too short, of another rate than the row says, sizes that
    contradict each other, a foreground that isn't square, a mask without a region.
    """
    scene_kind = BACKGROUND if removal else TARGET
    # The rate of GTs is what the row states; the others were made frame by frame, at whatever rate.
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
        raise InputError(f"{row.video(MASK)}: marks nothing in frames {numbers[0]} to {numbers[-1]}")
    if view.native != view.model:
        scene, mask = to_model(scene, view), mask_to_model(mask, view)
    if removal:
        foreground = np.full_like(scene, 255)
    else:
        square = read_frames(row.video(FOREGROUND), numbers)
        if square.shape[1] != square.shape[2]:
            raise InputError(
                f"{row.video(FOREGROUND)}: {square.shape[2]}x{square.shape[1]} pixels: "
                "a square with the element in its middle is expected"
            )
        foreground = fit_foreground(square, size)
    return {"target": scene, "scene": scene, "foreground": foreground, "mask": mask}


def region(grey: np.ndarray) -> np.ndarray:
    """bool [T, H, W] of a mask video, uint8 [T, H, W, 3]: where it is at least half bright."""
    return grey[..., 1] >= INSIDE


def stride(source_fps: float, fps: float = FPS) -> int:
    """Every how many-th frame is taken: source_fps // fps of the whole rate (23.976 counts as 24); 0: none.

    So frames are evenly spaced, and 30 frames per second are read at 10 rather than 8, as in the release.
    """
    return int(round(source_fps) / fps + 1e-9)


def frame_numbers(row: Row, frames: int, fps: float = FPS) -> np.ndarray:
    """int64 [frames]: the first clip of a row that counts."""
    return row.start + stride(row.fps, fps) * np.arange(frames)


def why_not(row: Row, frames: int, fps: float = FPS) -> str | None:
    """Why a row doesn't count, or None: (end - start) // stride >= frames, more than 50 characters said."""
    if len(row.caption) <= CAPTION:
        return f"a caption of at most {CAPTION} characters"
    if stride(row.fps, fps) < 1:
        return f"less than {fps:g} frames per second"
    if (row.end - row.start) // stride(row.fps, fps) < frames:
        return f"less than {frames} frames at {fps:g} frames per second"
    return None


def find_csv(folder: Path, csv_file: str | os.PathLike[str] | None = None) -> Path:
    """The CSV of a folder. Raises InputError where it isn't there, or one of several must be named."""
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
    """The rows of a CSV, and what is wrong with the lines that are none ("line 7: ...").

    Raises InputError where it is no CSV or lacks a column.
    """
    rows, wrong = [], []
    try:
        with open(csv_path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(
                    f"{csv_path}: has no column {', '.join(missing)}: name them in its first line"
                )
            for fields in reader:
                try:
                    rows.append(_row(folder, fields))
                except ValueError as error:
                    wrong.append(f"line {reader.line_num}: {error}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{csv_path}: can't be read as CSV ({error})") from error
    return rows, wrong


def _row(folder: Path, fields: dict[str, str]) -> Row:
    """Raises ValueError that says which column is wrong."""
    if any(fields[name] is None for name in COLUMNS):
        raise ValueError("has fewer columns than the first line")
    # The folder is flat: wherever the path once led, the file's name is what counts.
    file = fields["path"].strip().replace("\\", "/").rsplit("/", 1)[-1]
    if not file:
        raise ValueError("path is empty")
    numbers = {}
    for name in ("start_frame", "end_frame", "fps"):
        try:
            numbers[name] = float(fields[name])
        except ValueError:
            raise ValueError(f"{name} {fields[name]!r} is no number") from None
    start, end, fps = numbers["start_frame"], numbers["end_frame"], numbers["fps"]
    if not (0 <= start < end < 2**40 and start == int(start) and end == int(end)):
        raise ValueError(f"start_frame {start:g} to end_frame {end:g} are no frame numbers from 0 on")
    if not 0 < fps <= 1000:
        raise ValueError(f"fps {fps:g} is no frame rate")
    if not file.lower().endswith(".mp4"):
        file += ".mp4"
    return Row(folder, file, int(start), int(end), fps, fields["caption"].strip())
