"""Pictures to look at: a contact sheet of clips, and frames with mask and trajectory drawn over them."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gencompositor_jax.controls.media.frames import Computed, Frames, step_of
from gencompositor_jax.files import PathLike, atomic_write, check_output

SHEET_WIDTH = 1280  # approximate, in pixels; frames are scaled to fit
MAX_CELL_HEIGHT = 360

_PAPER, _INK, _FAINT, _FRAME = (250, 250, 248), (32, 34, 40), (128, 132, 140), (214, 215, 218)
_MARGIN, _GAP, _PADDING = 28, 12, 10  # around the sheet, between cells, beside text

_TINT, _OUTLINE = (160, 70, 255), (255, 255, 255)  # violet is rare in footage
_PAST, _AHEAD, _SHADE, _DOT = (0, 229, 255), (190, 205, 210), (16, 24, 32), (255, 214, 0)
_SUBPIXEL = 4  # fractional bits of OpenCV's drawing coordinates


def contact_sheet(rows: Sequence[tuple[str, Frames]], times: int = 5) -> np.ndarray:
    """Labelled rows of `times` evenly spaced frames, first and last included: uint8 RGB [h, w, 3].

    `rows`: (label, uint8 frames [T, H, W, 3]) each. Frame numbers are above the columns, or below each frame
    if the rows differ in T. Frames keep their aspect ratio; all rows have the cell width of the first.
    """
    if not rows or times < 1:
        raise ValueError("a contact sheet needs at least one row and one time")
    for label, frames in rows:
        shape = frames.shape
        if frames.dtype != np.uint8 or len(shape) != 4 or shape[-1] != 3 or 0 in shape:
            raise ValueError(f"{label}: frames must be uint8 [T, H, W, 3], not {frames.dtype} {frames.shape}")
    label_font, number_font = ImageFont.load_default(size=19), ImageFont.load_default(size=15)
    gutter = max(round(label_font.getlength(label)) for label, _ in rows) + 2 * _PADDING
    available = max(64, (SHEET_WIDTH - 2 * _MARGIN - gutter - (times - 1) * _GAP) // times)
    cell_width, _ = _fit(rows[0][1].shape, available)
    heights = [_fit(frames.shape, cell_width)[1] for _, frames in rows]
    same_length = len({len(frames) for _, frames in rows}) == 1
    heading, caption = (26, 0) if same_length else (0, 24)

    sheet_width = 2 * _MARGIN + gutter + times * cell_width + (times - 1) * _GAP
    sheet_height = 2 * _MARGIN + heading + sum(heights) + len(rows) * caption + (len(rows) - 1) * _GAP
    sheet = Image.new("RGB", (sheet_width, sheet_height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    top = _MARGIN + heading
    for row, ((label, frames), height) in enumerate(zip(rows, heights, strict=True)):
        draw.text((_MARGIN, top + height / 2), label, _INK, label_font, anchor="lm")
        for column, index in enumerate(np.linspace(0, len(frames) - 1, times).round().astype(int).tolist()):
            left = _MARGIN + gutter + column * (cell_width + _GAP)
            picture = _resized(frames[index], _fit(frames.shape, cell_width))
            x, y = left + (cell_width - picture.width) // 2, top
            draw.rectangle((x - 1, y - 1, x + picture.width, y + picture.height), _FRAME)
            sheet.paste(picture, (x, y))
            middle = left + cell_width / 2
            if not same_length:
                below = (middle, top + height + _PADDING / 2)
                draw.text(below, f"frame {index}", _FAINT, number_font, anchor="mt")
            elif row == 0:
                draw.text((middle, top - _PADDING), f"frame {index}", _FAINT, number_font, anchor="ms")
        top += height + caption + _GAP
    return np.asarray(sheet)


def overlay(
    frames: np.ndarray, mask: np.ndarray, points: np.ndarray | None = None, first: int = 0
) -> np.ndarray:
    """Frames uint8 [T, H, W, 3] with the mask tinted and outlined, and the trajectory drawn in.

    `mask`: bool [T, H, W]. `points`: the element's position per frame in pixels (x, y), float [T, 2], or
    [L, T, 2] for L elements; positions outside the frame are allowed. The past part of a trajectory is
    bright, the rest pale, and a dot marks the current position. `first`: which of the points is that of the
    first frame; there are more points than frames for a piece of a clip.
    """
    if mask.shape != frames.shape[:3]:
        raise ValueError(f"mask {mask.shape} and frames {frames.shape[:3]} differ")
    count = len(frames) if points is None else np.shape(points)[-2]
    trajectories = np.asarray([] if points is None else points, float).reshape(-1, count, 2)
    shorter = min(frames.shape[1:3])
    stroke, dot = max(1, round(shorter / 180)), max(2.0, shorter / 45)
    kernel = np.ones((3, 3), np.uint8)
    out = frames.copy()
    for index, (frame, inside) in enumerate(zip(out, mask, strict=True)):
        frame[inside] = (frame[inside] * 0.6 + np.array(_TINT) * 0.4).astype(np.uint8)
        edge = inside & ~cv2.erode(inside.astype(np.uint8), kernel, iterations=stroke).astype(bool)
        frame[edge] = _OUTLINE
        for trajectory in trajectories:
            _draw_trajectory(frame, trajectory, first + index, stroke, dot)
    return out


def overlaid(frames: Frames, mask: Frames, points: np.ndarray | None = None) -> Frames:
    """`overlay` of the frames that are asked for."""
    return Computed(
        frames.shape,
        lambda first, stop: overlay(frames[first:stop], mask[first:stop], points, first),
        step=step_of(frames),
    )


def write_png(path: PathLike, image: np.ndarray, overwrite: bool = False) -> None:
    """Write a uint8 image [H, W, 3 or 4] atomically. InputError: see `check_output`."""
    check_output(path, overwrite)
    with atomic_write(path, overwrite) as part:
        Image.fromarray(image).save(part, format="PNG")


def _fit(shape: tuple[int, ...], width: int) -> tuple[int, int]:
    """(width, height) of frames [T, H, W, 3] scaled to at most `width` and `MAX_CELL_HEIGHT`."""
    factor = min(width / shape[2], MAX_CELL_HEIGHT / shape[1])
    return max(1, round(shape[2] * factor)), max(1, round(shape[1] * factor))


def _resized(frame: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Bicubic when enlarging, so that small frames stay legible; Lanczos when reducing."""
    enlarged = size[0] > frame.shape[1]
    kernel = Image.Resampling.BICUBIC if enlarged else Image.Resampling.LANCZOS
    return Image.fromarray(frame).resize(size, kernel)


def _draw_trajectory(frame: np.ndarray, trajectory: np.ndarray, index: int, stroke: int, dot: float) -> None:
    """Draw a trajectory [T, 2] into a frame, in place, with a dark edge that shows on any background."""
    far = 1e5  # OpenCV's coordinates have 32 bits
    corners = (np.clip(trajectory, -far, far) * 2**_SUBPIXEL).round().astype(np.int32)
    for part, colour, width in (
        (corners, _SHADE, stroke + 2),
        (corners, _AHEAD, stroke),
        (corners[: index + 1], _PAST, stroke + (stroke > 1)),
    ):
        cv2.polylines(frame, [part], False, colour, width, cv2.LINE_AA, _SUBPIXEL)
    present = tuple(corners[index].tolist())
    for radius, colour in ((dot + 1, _SHADE), (dot, _DOT)):
        cv2.circle(frame, present, round(radius * 2**_SUBPIXEL), colour, -1, cv2.LINE_AA, _SUBPIXEL)
